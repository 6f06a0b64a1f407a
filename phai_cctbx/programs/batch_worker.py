"""Solves one data set of a batch, on the worker that it was given to.

Each set runs in a process and a folder of its own. A crash of compiled code, or a set that never
ends, so costs that set alone and leaves the worker to the others.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from phai_cctbx.programs.batch_rows import (
    CRASHED,
    NOT_SOLVED,
    REFUSED,
    SOLVED,
    TIMED_OUT,
    SetRow,
)
from phai_cctbx.programs.batch_sets import RESULT_SUFFIX
from phai_cctbx.programs.command import (
    EXIT_BAD_INPUT,
    EXIT_BAD_USAGE,
    EXIT_NOT_SOLVED,
    EXIT_SOLVED,
)

PROCESS = "phai_cctbx.programs.batch_process"
#: Instead of the exit status of a process that had to be stopped.
OUT_OF_TIME = "out of time"
#: Every set uses one thread: the sets are what runs side by side.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
#: How the last words of a run begin whose input cannot be used.
_SORRY = "Sorry: "
#: Figures that a row takes over from the .json of a run.
_FIGURES = (
    "space_group",
    "formula",
    "d_min",
    "n_unique",
    "completeness",
    "r_int",
    "r1",
    "wr2",
    "goof",
    "confidence",
    "solved_by",
    "strategy",
    "n_atoms",
    "seconds",
)


@dataclass(frozen=True)
class Job:
    """A data set with all that a worker must know; paths are absolute.

    Attributes
    ----------
    id, path : str
    results : str
        Folder of the results, made where it does not exist.
    base : str
        Folder of the batch, below which `results` lies.
    parameters : str
        File with the parameters of phai_cctbx.solve.
    retries : int
        How often a run whose process dies is begun again.
    time_limit : float or None
        Seconds.
    """

    id: str
    path: str
    results: str
    base: str
    parameters: str
    retries: int = 0
    time_limit: float | None = None

    @property
    def prefix(self) -> str:
        """Base name of the result files."""
        return Path(self.path).stem + RESULT_SUFFIX


def solve_set(job: Job) -> SetRow:
    """Solve a data set and return its row, whatever happens to the run."""
    folder = Path(job.results)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"{job.prefix}.*"):
        old.unlink()
    for attempt in range(1, job.retries + 2):
        row = _attempt(job, folder, attempt)
        if row.state != CRASHED:
            break
    return row


def _attempt(job, folder, number):
    status, told = _run(job, folder)
    if status in (EXIT_SOLVED, EXIT_NOT_SOLVED):
        return _row_of_results(job, folder, number)
    if status == EXIT_BAD_USAGE or (status == EXIT_BAD_INPUT and told.startswith(_SORRY)):
        state, told = REFUSED, told.removeprefix(_SORRY)
    elif status is OUT_OF_TIME:
        state, told = TIMED_OUT, f"stopped after {job.time_limit:.0f} s"
    else:
        state, told = CRASHED, f"the process died (exit code {status}) {told}".strip()
    return SetRow(job.id, state, message=told, attempts=number)


def _run(job, folder):
    """Exit status of the process, or `OUT_OF_TIME`, and what it said last."""
    command = [
        *(sys.executable, "-m", PROCESS),
        *(job.path, job.parameters),
        *(f'output.prefix="{job.prefix}"', "output.overwrite=True", "--quiet"),
    ]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **_ONE_THREAD, "PYTHONPATH": os.pathsep.join(_search_path())},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
        try:
            status = process.wait(job.time_limit)
        except subprocess.TimeoutExpired:
            status = OUT_OF_TIME
        finally:
            process.kill()
            process.wait()
            process.stdin.close()
        errors.seek(0)
        lines = errors.read().decode(errors="replace").strip().splitlines()
    said = [line for line in lines if line.startswith(_SORRY)]
    return status, " ".join((said or lines or [""])[-1].split())


def _search_path():
    """Where this process finds its modules, for the new one to find the same."""
    return [folder or os.getcwd() for folder in sys.path]


def _row_of_results(job, folder, number):
    path = folder / f"{job.prefix}.json"
    summary = json.loads(path.read_text(encoding="utf-8"))
    warnings = summary["warnings"]
    return SetRow(
        id=job.id,
        state=SOLVED if summary["solved"] else NOT_SOLVED,
        message=warnings[0] if warnings else None,
        n_warnings=len(warnings),
        attempts=number,
        results=path.relative_to(job.base).with_suffix("").as_posix(),
        **{name: summary[name] for name in _FIGURES},
    )
