"""Runs one function on many tasks in processes of their own, so that a crash costs one task.

Processes are spawned, not forked: torch and cctbx do not survive a fork with threads.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import traceback
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from multiprocessing.connection import wait

# cctbx
from libtbx.utils import Sorry

#: Every worker uses one thread: the tasks are what runs side by side.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def run_tasks(function: Callable, tasks: Iterable, n_processes: int) -> Iterator[tuple]:
    """Yield ``(task, value, failure)`` as the tasks finish.

    `failure` is None, or one line that says what went wrong: the message of the exception that
    `function` raised, or that its process died (a new one then takes the next task).

    Parameters
    ----------
    function : callable
        Of one task. It is pickled, and so are the tasks and values.
    tasks : iterable
    n_processes : int
    """
    waiting = iter(tasks)
    workers = {}
    try:
        for task in islice(waiting, max(1, n_processes)):
            _Worker(function, workers).give(task)
        while workers:
            for connection in wait(list(workers)):
                worker = workers[connection]
                finished = worker.task
                try:
                    value, failure = connection.recv()
                except (EOFError, ConnectionResetError):
                    value, failure = None, worker.bury()
                    worker = None
                for task in islice(waiting, 1):
                    worker = worker or _Worker(function, workers)
                    worker.give(task)
                    break
                else:
                    if worker:
                        worker.dismiss()
                yield finished, value, failure
    finally:
        for worker in list(workers.values()):
            worker.dismiss(at_once=True)


class _Worker:
    """A spawned process that takes one task after the other through a pipe."""

    def __init__(self, function, workers):
        context = multiprocessing.get_context("spawn")
        self.connection, far_end = context.Pipe()
        self.process = context.Process(target=_serve, args=(function, far_end), daemon=True)
        kept = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
        os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
        try:
            self.process.start()
        finally:
            for name, value in kept.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
        far_end.close()
        self.workers = workers
        self.task = None
        workers[self.connection] = self

    def give(self, task):
        """Start on a task; a process that is gone shows when its answer is waited for."""
        self.task = task
        try:
            self.connection.send(task)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def bury(self):
        """Forget a process that died, and say how it died."""
        self.process.join()
        self.dismiss(at_once=True)
        return f"the process died (exit code {self.process.exitcode})"

    def dismiss(self, at_once=False):
        """End the process: by closing its pipe, or at once."""
        self.workers.pop(self.connection, None)
        self.connection.close()
        if at_once:
            self.process.terminate()
        self.process.join()


def _serve(function, connection):
    """Answer tasks until the pipe closes; what a task logs stays off the screen."""
    logging.getLogger("phai_cctbx").addHandler(logging.NullHandler())
    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        try:
            answer = function(task), None
        except Sorry as error:
            answer = None, " ".join(str(error).split())
        except Exception as error:  # one bad structure never stops the rest
            place = traceback.extract_tb(error.__traceback__)[-1]
            answer = (
                None,
                (
                    f"{type(error).__name__}: {' '.join(str(error).split())}"
                    f" ({os.path.basename(place.filename)}, line {place.lineno})"
                ),
            )
        connection.send(answer)
