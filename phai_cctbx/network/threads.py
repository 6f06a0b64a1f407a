"""One thread for running a network: its operations are too small to be worth sharing out.

What torch would do by itself depends on the order of imports: after ``cctbx.miller``, whose library
holds stand-ins for OpenMP, it has one thread for good; before, it takes all cores, and then waits
for them far longer than it computes where other programs keep them busy.
"""

from contextlib import contextmanager

import torch


@contextmanager
def one_thread():
    """Let torch compute on one thread within, and as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
