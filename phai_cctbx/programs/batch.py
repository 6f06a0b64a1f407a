"""The command phai_cctbx.batch: solves all data sets below a folder, side by side.

Each set runs in a folder of its own and is a row of the table as soon as it has ended.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

# cctbx
import iotbx.phil
import libtbx.phil
from libtbx.program_template import ProgramTemplate
from libtbx.utils import Sorry

from phai_cctbx.io.atomic_file import write_text
from phai_cctbx.programs import pipeline
from phai_cctbx.programs.batch_cluster import check_workers, cluster_client, run_jobs
from phai_cctbx.programs.batch_rows import (
    KEPT,
    SOLVED,
    STATES,
    SetRow,
    read_rows,
    write_rows,
)
from phai_cctbx.programs.batch_sets import list_sets
from phai_cctbx.programs.batch_summary import summary_page
from phai_cctbx.programs.batch_worker import Job
from phai_cctbx.programs.command import EXIT_NOT_SOLVED, EXIT_SOLVED, log_to
from phai_cctbx.version import __version__

#: Scopes of phai_cctbx.solve that do not name one crystal.
SOLVE_SCOPES = ("data", "phasing", "structure", "har")
#: Files of a batch, beside the folders of its sets.
TABLE, PAGE, PARAMETERS = "batch.csv", "batch.html", "batch.eff"

BATCH_PHIL = """
input {
  folder = None
    .type = str
    .help = Folder with the data sets, in it or below
  pattern = "*.ins"
    .type = str
    .help = Names of the files to solve, such as *.cif or *.mtz
}
cluster {
  workers = None
    .type = int(value_min=1)
    .help = Sets that run at a time on this machine, one per core by default
  scheduler = None
    .type = str
    .help = Address of a Dask scheduler to use instead, such as tcp://host:8786
  retries = 2
    .type = int(value_min=0)
    .help = How often a set is begun again whose process or worker died
  time_limit = None
    .type = float(value_min=0.01)
    .help = Minutes for each set
}
output {
  directory = "phai_batch"
    .type = str
    .help = Folder of the results, made where it does not exist
  resume = False
    .type = bool
    .help = Keep the sets of the table that came to an end and run the rest
}
"""


def solve_parameters(parameters=None) -> libtbx.phil.scope:
    """The scopes of phai_cctbx.solve that hold for all sets, with the values of `parameters`."""
    master = iotbx.phil.parse(pipeline.MASTER_PHIL)
    scopes = master.customized_copy(
        objects=[scope for scope in master.objects if scope.name in SOLVE_SCOPES]
    )
    return scopes if parameters is None else scopes.format(python_object=parameters)


@dataclass(frozen=True)
class BatchResult:
    """Rows of all sets, in their order, and the files written."""

    rows: tuple[SetRow, ...]
    table: Path
    page: Path

    @property
    def exit_status(self) -> int:
        """0 if every set was solved, 3 if not."""
        solved = all(row.state == SOLVED for row in self.rows)
        return EXIT_SOLVED if solved else EXIT_NOT_SOLVED


class Program(ProgramTemplate):
    """The command phai_cctbx.batch."""

    program_name = "phai_cctbx.batch"
    version = __version__
    description = """
Solves all data sets below a folder, side by side on a Dask cluster.

  phai_cctbx.batch DIR workers=4
  phai_cctbx.batch DIR scheduler=tcp://host:8786 resume=True

Each set runs in a folder of its own below phai_batch/, where batch.csv and
batch.html tell of all sets from the first one on. Exit status: 0 all solved,
1 the input cannot be used, 2 wrong usage, 3 not all solved.
"""
    epilog = ""
    datatypes = ["phil"]
    master_phil_str = BATCH_PHIL + solve_parameters().as_str(attributes_level=3)

    @staticmethod
    def file_parameters(arguments):
        """A folder among the arguments is the one with the data sets."""
        if len(arguments) > 1:
            raise Sorry(f"One folder is expected, found {' '.join(arguments)}")
        return {"input.folder": arguments[0]} if arguments else {}

    def validate(self):
        """Refuse what cannot run before anything runs."""
        params = self.params
        if params.input.folder is None:
            raise Sorry("No folder: phai_cctbx.batch DIR (--help tells more).")
        if params.cluster.workers and params.cluster.scheduler:
            raise Sorry("Give workers=N or scheduler=ADDRESS: a cluster has workers of its own.")
        model = params.phasing.model
        if model is not None:
            if not Path(model).is_file():
                raise Sorry(f"model={model}: no such file.")
            params.phasing.model = str(Path(model).resolve())
        self.base = Path(params.output.directory).resolve()
        self.sets = list_sets(params.input.folder, params.input.pattern, self.base)
        try:
            self.base.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Sorry(f"{self.base}: cannot be made ({error.strerror}).") from error
        self.parameters = solve_parameters(params).as_str()
        self.rows = {row.id: row for row in self._rows_to_keep()}

    def run(self):
        """Run the sets; table and page follow each one."""
        write_text(self.base / PARAMETERS, self.parameters)
        jobs = [self._job(each) for each in self.sets if each.id not in self.rows]
        self._write()
        self._print(f"{len(jobs)} sets to run, {len(self.rows)} kept, results in {self.base}")
        if jobs:
            self._run(jobs)
        count = Counter(row.state for row in self.rows.values())
        told = ", ".join(f"{count[state]} {state}" for state in STATES if count[state])
        self._print(f"\n{len(self.sets)} sets: {told}\n{self.base / PAGE}\n{self.base / TABLE}")

    def get_results(self):
        """The `BatchResult`."""
        return BatchResult(self._ordered(), self.base / TABLE, self.base / PAGE)

    def _run(self, jobs):
        cluster = self.params.cluster
        with (
            cluster_client(cluster.scheduler, cluster.workers, cluster.retries) as client,
            tqdm(total=len(jobs), disable=not sys.stderr.isatty(), leave=False) as bar,
            log_to(self.logger),
        ):
            self._print(f"{check_workers(client, self.base)} sets at a time\n")
            for row in run_jobs(client, jobs):
                self.rows[row.id] = row
                self._write()
                with tqdm.external_write_mode(file=sys.stdout):
                    self._print(line(row))
                bar.update()

    def _job(self, data_set):
        cluster = self.params.cluster
        return Job(
            id=data_set.id,
            path=str(data_set.path),
            results=str(self.base / data_set.id),
            base=str(self.base),
            parameters=str(self.base / PARAMETERS),
            retries=cluster.retries,
            time_limit=cluster.time_limit and 60 * cluster.time_limit,
        )

    def _ordered(self):
        return tuple(self.rows[each.id] for each in self.sets if each.id in self.rows)

    def _write(self):
        rows = self._ordered()
        write_rows(self.base / TABLE, rows)
        write_text(self.base / PAGE, summary_page(self.params.input.folder, rows, len(self.sets)))

    def _rows_to_keep(self):
        table, parameters = self.base / TABLE, self.base / PARAMETERS
        output = self.params.output
        if not table.exists():
            return []
        if output.resume:
            if not parameters.is_file() or parameters.read_text() != self.parameters:
                raise Sorry(
                    f"{parameters}: the batch was begun with other parameters. Give the same ones,"
                    " or another output.directory."
                )
            names = {each.id for each in self.sets}
            return [row for row in read_rows(table) if row.state in KEPT and row.id in names]
        if not output.overwrite:
            raise Sorry(
                f"{table} exists: resume=True goes on with that batch, overwrite=True begins it"
                " anew, output.directory=DIR makes another."
            )
        return []


def line(row: SetRow) -> str:
    """One set of the printed list."""
    r1 = "" if row.r1 is None else f"R1 {row.r1:.4f}"
    seconds = "" if row.seconds is None else f"{row.seconds:.0f} s"
    told = "" if row.state in KEPT else row.message
    return f"{row.id:<28s} {row.state:<11s} {r1:<10s} {seconds:>6s}  {told}".rstrip()
