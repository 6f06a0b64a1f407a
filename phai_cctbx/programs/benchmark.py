"""Measures phasing and structure solution on a folder of known structures.

Every structure runs in a process beside the others, is printed when it is done and added to the
JSON file, so that a crash or an interruption costs one structure.
"""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path

from tqdm import tqdm

# cctbx
from libtbx.program_template import ProgramTemplate
from libtbx.utils import Sorry

from phai_cctbx.programs.benchmark_entries import list_entries
from phai_cctbx.programs.benchmark_rows import Row, read_rows, write_rows
from phai_cctbx.programs.benchmark_settings import Settings
from phai_cctbx.programs.benchmark_workers import run_tasks
from phai_cctbx.version import __version__

#: Module of each job: `JOB_KINDS`, `DEFAULT_KINDS` where not all of them,
#: `run(entry, settings) -> Row`, `line(row)`, `table(rows)`; one that makes its own data has no
#: kinds, and a function `entries()`.
JOBS = {
    "phasing": "phai_cctbx.programs.benchmark_phasing",
    "solve": "phai_cctbx.programs.benchmark_solve",
    "molecule": "phai_cctbx.programs.benchmark_molecule",
    "aspherical": "phai_cctbx.programs.benchmark_aspherical",
    "cost": "phai_cctbx.programs.benchmark_cost",
}

MASTER_PHIL = """
job = *phasing solve molecule aspherical cost
  .type = choice
  .help = What to measure
data = None
  .type = str
  .help = Folder with measured/ and structures/
d_min = 0
  .type = float
  .help = Resolution limit in A, 0 for all data
json = None
  .type = str
  .help = JSON file to write, one row per structure
jobs = 1
  .type = int(value_min=1)
  .help = Structures that run at the same time
n_max = None
  .type = int(value_min=1)
  .help = At most so many structures of each kind
ids = None
  .type = strings
  .help = Only these structures
kinds = calculated measured
  .type = choice(multi=True)
  .help = Amplitudes of the models, measured ones, or both (by default what the job can use)
radiation = *xray electron neutron
  .type = choice
  .help = Of the data that job=solve kinds=calculated simulates
strategy = auto neural atoms charge_flipping phai
  .type = choice
  .help = Phasing strategy of job=phasing and job=solve, auto by default
model = None
  .type = str
  .help = TorchScript file of the network, the bundled one by default
n_starts = None
  .type = int(value_min=1)
  .help = Random starts, by default as many as the strategy takes
missing = 0
  .type = float(value_min=0, value_max=0.9)
  .help = Share of the reflections left out at random, job=phasing alone
molecules = None
  .type = str
  .help = Table of the molecules of job=molecule, tab-separated columns id, smiles, copies
seed = 0
  .type = int
  .help = Seed of the random starts
resume = False
  .type = bool
  .help = Keep the rows that the JSON file holds and run the rest
"""


class Program(ProgramTemplate):
    """The command phai_cctbx.benchmark."""

    program_name = "phai_cctbx.benchmark"
    version = __version__
    description = """
Measures phasing and structure solution on a folder of known structures.

  phai_cctbx.benchmark data=DIR d_min=2.0 json=phasing.json
  phai_cctbx.benchmark job=solve data=DIR jobs=4 json=solve.json
"""
    epilog = ""
    datatypes = ["phil"]
    master_phil_str = MASTER_PHIL

    @staticmethod
    def file_parameters(arguments):
        """A folder among the arguments is the data folder."""
        if len(arguments) > 1:
            raise Sorry(f"One data folder is expected, found {' '.join(arguments)}")
        return {"data": arguments[0]} if arguments else {}

    def validate(self):
        """Refuse what cannot run before anything runs."""
        params = self.params
        self.job = importlib.import_module(JOBS[params.job])
        if params.data is None and self.job.JOB_KINDS:
            raise Sorry("data=DIR is needed: a folder with measured/ or structures/ in it.")
        if not math.isfinite(params.d_min) or params.d_min < 0:
            raise Sorry(f"d_min={params.d_min}: a resolution in A is expected, or 0 for all data.")
        if params.model is not None and not Path(params.model).is_file():
            raise Sorry(f"model={params.model}: no such file.")
        if params.molecules is not None and not Path(params.molecules).is_file():
            raise Sorry(f"molecules={params.molecules}: no such file.")
        if params.kinds and not set(params.kinds) <= set(self.job.JOB_KINDS):
            raise Sorry(f"job={params.job} runs on {' and '.join(self.job.JOB_KINDS)} data alone.")
        self.entries = self._entries()
        self.rows = self._rows_to_keep()

    def run(self):
        """Run the job, print each structure and the table."""
        params = self.params
        settings = Settings(
            d_min=params.d_min or None,
            strategy=params.strategy,
            model=params.model and str(Path(params.model).resolve()),
            n_starts=params.n_starts,
            missing=params.missing,
            seed=params.seed,
            radiation=params.radiation,
            molecules=params.molecules and str(Path(params.molecules).resolve()),
        )
        kept = {(row.kind, row.id) for row in self.rows}
        tasks = [
            (params.job, entry, settings)
            for entry in self.entries
            if (entry.kind, entry.id) not in kept
        ]
        self._print(f"{len(tasks)} structures to run, {len(kept)} kept, {params.jobs} at a time")
        with tqdm(total=len(tasks), disable=not sys.stderr.isatty(), leave=False) as bar:
            for task, row, failure in run_tasks(run_entry, tasks, params.jobs):
                row = row or failed_row(task, failure)
                self.rows.append(row)
                if params.json:
                    write_rows(params.json, self.rows)
                with tqdm.external_write_mode(file=sys.stdout):
                    self._print(self.job.line(row) if failure is None else failure_line(row))
                bar.update()
        order = {(entry.kind, entry.id): i for i, entry in enumerate(self.entries)}
        self.rows.sort(key=lambda row: order.get((row.kind, row.id), len(order)))
        if params.json:
            write_rows(params.json, self.rows)
        for line in self.job.table(self.rows):
            self._print(line)
        if params.json:
            self._print(f"\n{len(self.rows)} rows in {params.json}")

    def get_results(self):
        """The rows."""
        return self.rows

    def _entries(self):
        params = self.params
        if not self.job.JOB_KINDS:
            if params.data or params.ids:
                raise Sorry(f"job={params.job} makes its own data: it takes neither data nor ids.")
            return self.job.entries()[: params.n_max]
        return list_entries(
            params.data,
            params.kinds or getattr(self.job, "DEFAULT_KINDS", self.job.JOB_KINDS),
            params.ids or (),
            params.n_max,
        )

    def _rows_to_keep(self):
        path = self.params.json
        if path is None:
            if self.params.resume:
                raise Sorry("resume=True needs json=FILE: the rows to keep.")
            return []
        path = Path(path)
        if not path.parent.is_dir():
            raise Sorry(f"json={path}: the folder {path.parent} does not exist.")
        if not path.exists() or path.stat().st_size == 0:
            return []
        if self.params.resume:
            return [row for row in read_rows(path) if row.job == self.params.job]
        if not self.params.output.overwrite:
            raise Sorry(
                f"json={path} exists: give another name, resume=True to go on with it, or"
                " overwrite=True."
            )
        return []


def run_entry(task) -> Row:
    """Run the job of one entry; what a worker process does."""
    job, entry, settings = task
    return importlib.import_module(JOBS[job]).run(entry, settings)


def failed_row(task, failure) -> Row:
    """The row of a structure that ended in an error."""
    job, entry, _ = task
    return Row(
        id=entry.id,
        job=job,
        kind=entry.kind,
        space_group=entry.space_group or None,
        r1_published=entry.r1_published,
        message=failure,
    )


def failure_line(row) -> str:
    """A structure that ended in an error, in the printed list."""
    return f"{row.kind:<10s} {row.id:<16s} {row.space_group or '':<14s} {row.message}"
