"""The command phai_cctbx.solve: arguments in, the pipeline, the log on the screen."""

from __future__ import annotations

import json
import sys
from functools import partial

from tqdm import tqdm

# cctbx
import iotbx.phil
from libtbx.program_template import ProgramTemplate
from libtbx.utils import Sorry

from phai_cctbx.programs import pipeline
from phai_cctbx.programs.citations import citations
from phai_cctbx.programs.command import log_to
from phai_cctbx.programs.crystal_input import crystal_files
from phai_cctbx.programs.hirshfeld_stage import HirshfeldParameters
from phai_cctbx.programs.shelx_style import PHIL as STYLE_PHIL
from phai_cctbx.programs.shelx_style import STYLES, solve_like_shelx
from phai_cctbx.version import __version__


def _master_phil() -> str:
    """The parameters of the pipeline and of the style in one: each scope must occur once."""
    master = iotbx.phil.parse(pipeline.MASTER_PHIL)
    master.adopt_scope(iotbx.phil.parse(STYLE_PHIL))
    return master.as_str(attributes_level=3)


class Program(ProgramTemplate):
    """The command phai_cctbx.solve."""

    program_name = "phai_cctbx.solve"
    version = __version__
    description = """
Solves a crystal structure from measured intensities or amplitudes.

  phai_cctbx.solve NAME.ins            (NAME.hkl beside it)
  phai_cctbx.solve NAME.cif d_min=1.2 strategy=neural
  phai_cctbx.solve NAME.ins scattering=har     (Hirshfeld atoms at the end)

It writes NAME_phai.res .cif .fcf .mtz .ccp4 .log .json .eff and .html (a
report for the browser) into the current folder. Exit status: 0 solved, 1 the
input cannot be used, 2 wrong usage, 3 not solved.
"""
    epilog = ""
    citations = citations("phai", "charge_flipping", "smtbx")
    datatypes = ["phil"]
    master_phil_str = _master_phil()

    file_parameters = staticmethod(crystal_files)

    def validate(self):
        """The pipeline checks what it is given before it works."""
        if self.params.input.path is None:
            raise Sorry("No input: phai_cctbx.solve NAME.ins (--help tells more).")

    def run(self):
        """Solve, with the log on the screen."""
        params = self.params
        style = params.output.style
        solve = partial(solve_like_shelx, style) if style in STYLES else pipeline.solve
        quiet = "stdout" not in self.logger.labels
        with log_to(self.logger), _Bar(hidden=quiet or not sys.stderr.isatty()) as bar:
            self.result = solve(
                params.input.path,
                hkl=params.input.hkl,
                d_min=params.data.d_min,
                strategy=params.phasing.strategy,
                model=params.phasing.model,
                n_starts=params.phasing.n_starts,
                seed=params.phasing.seed,
                n_attempts=params.phasing.n_attempts,
                anisotropic=params.structure.anisotropic,
                hydrogens=params.structure.hydrogens,
                molecule=params.structure.molecule,
                copies=params.structure.copies,
                scattering=params.structure.scattering,
                har=HirshfeldParameters.from_phil(params.har),
                directory=params.output.directory,
                prefix=params.output.prefix,
                report=params.output.report and style not in STYLES,
                overwrite=params.output.overwrite,
                progress=bar,
            )

    def get_results(self):
        """The `SolveResult`."""
        return self.result

    def get_results_as_JSON(self):
        """What NAME_phai.json holds."""
        return json.dumps(self.result.summary(), indent=2)


class _Bar:
    """A progress bar on a terminal, nothing elsewhere (the log tells the steps)."""

    def __init__(self, hidden):
        self._hidden = hidden

    def __enter__(self):
        self._bar = tqdm(
            disable=self._hidden,
            leave=False,
            bar_format=("{desc:<10s} {percentage:3.0f} %|{bar:40}| {n_fmt}/{total_fmt} {elapsed}"),
        )
        return self

    def __exit__(self, *exception):
        self._bar.close()

    def __call__(self, stage, done, total):
        self._bar.total = total
        self._bar.n = done
        self._bar.set_description_str(stage, refresh=True)
