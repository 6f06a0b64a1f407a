"""The number of threads that torch computes with.

torch takes it over from OpenMP when it is imported, and after ``cctbx.miller`` finds 1 there. So it
is set where a network is run.
"""

import os

import torch

THREADS_VARIABLE = "OMP_NUM_THREADS"


def set_threads(n_threads=None):
    """Set the number of threads of torch in this process.

    Parameters
    ----------
    n_threads : int, optional
        By default what ``OMP_NUM_THREADS`` says, otherwise all cores that this process may use.

    Returns
    -------
    int
        The number set.
    """
    if n_threads is None:
        named = os.environ.get(THREADS_VARIABLE, "")
        n_threads = int(named) if named.isdigit() and int(named) > 0 else _usable_cores()
    torch.set_num_threads(n_threads)
    return n_threads


def _usable_cores():
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
