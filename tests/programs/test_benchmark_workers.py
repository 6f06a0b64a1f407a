"""Tasks in processes of their own."""

import os
import signal

# cctbx
from libtbx.utils import Sorry

from phai_cctbx.programs.benchmark_rows import Row
from phai_cctbx.programs.benchmark_workers import run_tasks


def work(task):
    """A task that does what its name says."""
    if task == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if task == "sorry":
        raise Sorry("x.hkl, line 3:\n  not a number")
    if task == "error":
        raise KeyError("site")
    if task == "threads":
        return os.environ["OMP_NUM_THREADS"]
    return Row(id=task, job="phasing", kind="measured")


def test_one_bad_task_does_not_stop_the_rest():
    tasks = ["a", "crash", "b", "sorry", "error", "c", "threads"]
    results = {task: (value, failure) for task, value, failure in run_tasks(work, tasks, 2)}
    assert set(results) == set(tasks)
    for task in "abc":
        assert results[task] == (Row(id=task, job="phasing", kind="measured"), None)
    assert "died" in results["crash"][1]
    assert results["sorry"] == (None, "x.hkl, line 3: not a number")
    assert results["error"][1].startswith("KeyError: 'site' (test_benchmark_workers.py, line")
    assert results["threads"] == ("1", None)


def test_no_tasks():
    assert list(run_tasks(work, [], 4)) == []
