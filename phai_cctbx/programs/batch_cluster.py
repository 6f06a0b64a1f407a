"""The Dask cluster of a batch: its own workers on this machine, or a scheduler that runs already.

Dask gives the sets of a worker that died to the others, and gives a set up after it has lost as
many workers as a batch allows retries.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

# cctbx
from libtbx.utils import Sorry

from phai_cctbx.programs.batch_rows import CRASHED, SetRow
from phai_cctbx.programs.batch_worker import Job, solve_set
from phai_cctbx.version import __version__

#: How long to wait for a scheduler and its first worker, s.
CONNECTION_TIMEOUT = 30

_logger = logging.getLogger(__name__)


@contextmanager
def cluster_client(scheduler=None, n_workers=None, retries=2):
    """Give a `distributed.Client`, and close what was opened for it at the end.

    Parameters
    ----------
    scheduler : str, optional
        Address such as ``"tcp://host:8786"``; without it workers start on this machine.
    n_workers : int, optional
        How many, by default one per core that this process may use.
    retries : int
        How many workers a set may lose before a local cluster gives it up; a scheduler that runs
        already has a limit of its own.

    Raises
    ------
    libtbx.utils.Sorry
        If Dask is not installed, or the scheduler does not answer or has no workers.
    """
    try:
        import dask
        from dask.distributed import Client, LocalCluster
    except ImportError as error:
        raise Sorry(
            f"phai_cctbx.batch needs Dask ({error}): pip install 'dask[distributed]'."
        ) from error
    if scheduler is None:
        limits = {"distributed.scheduler.allowed-failures": retries}
        with (
            dask.config.set(limits),
            LocalCluster(
                n_workers=n_workers or _n_cores(),
                threads_per_worker=1,
                processes=True,
                memory_limit=0,
                dashboard_address=None,
                silence_logs=logging.CRITICAL,
            ) as cluster,
            Client(cluster) as client,
        ):
            yield client
        return
    try:
        client = Client(scheduler, timeout=CONNECTION_TIMEOUT)
    except (OSError, ValueError, TimeoutError) as error:
        raise Sorry(f"scheduler={scheduler}: no Dask scheduler answers ({error}).") from error
    with client:
        try:
            client.wait_for_workers(1, timeout=CONNECTION_TIMEOUT)
        except TimeoutError as error:
            raise Sorry(f"scheduler={scheduler}: no workers. Start dask worker there.") from error
        yield client


def check_workers(client, folder) -> int:
    """Return how many sets run at a time, after asking every worker for what it needs.

    Raises
    ------
    libtbx.utils.Sorry
        If a worker has another phai_cctbx or does not see the folder.
    """
    answers = client.run(_probe, str(folder), on_error="return")
    for address, answer in answers.items():
        if isinstance(answer, BaseException):
            raise Sorry(f"The worker {address} cannot run phai_cctbx: {answer}.")
        version, sees_folder = answer
        if version != __version__:
            raise Sorry(f"The worker {address} has phai_cctbx {version}, and not {__version__}.")
        if not sees_folder:
            raise Sorry(f"The worker {address} does not see {folder}: all need one file system.")
    return sum(client.nthreads().values())


def run_jobs(client, jobs: Iterable[Job]) -> Iterator[SetRow]:
    """Yield the rows of the jobs as they end, each exactly once; a lost worker is logged.

    Raises
    ------
    libtbx.utils.Sorry
        If the scheduler is lost.
    """
    from dask.distributed import CancelledError, KilledWorker, as_completed

    futures = {client.submit(solve_set, job, pure=False): job for job in jobs}
    workers = set(client.nthreads())
    for future in as_completed(list(futures)):
        job = futures.pop(future)
        present = set(client.nthreads())
        for address in sorted(workers - present):
            _logger.warning("The worker %s was lost: its set begins again on another.", address)
        workers = present
        try:
            yield future.result()
        except KilledWorker as error:
            lost = error.allowed_failures + 1
            yield SetRow(job.id, CRASHED, f"its worker died {lost} times", attempts=lost)
        except CancelledError as error:
            raise Sorry(
                f"The Dask scheduler was lost with {len(futures) + 1} sets to go: resume=True goes"
                " on."
            ) from error
        except Exception as error:  # one bad set never stops the rest
            _logger.debug("%s", job.id, exc_info=error)
            told = " ".join(str(error).split())
            yield SetRow(job.id, CRASHED, f"{type(error).__name__}: {told}")


def _probe(folder):
    return __version__, os.path.isdir(folder)


def _n_cores():
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1
