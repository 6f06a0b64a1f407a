"""The command phai_cctbx.refine: arguments in, the refinement, the log on the screen."""

from __future__ import annotations

import json
import sys

from tqdm import tqdm

# cctbx
import iotbx.phil
from libtbx.program_template import ProgramTemplate
from libtbx.utils import Sorry

from phai_cctbx.programs import refinement
from phai_cctbx.programs.citations import citations
from phai_cctbx.programs.command import log_to
from phai_cctbx.programs.crystal_input import crystal_files
from phai_cctbx.programs.hirshfeld_stage import HirshfeldParameters, parse_charges
from phai_cctbx.version import __version__


class Program(ProgramTemplate):
    """The command phai_cctbx.refine."""

    program_name = "phai_cctbx.refine"
    version = __version__
    description = """
Refines a model with spherical or aspherical scatterers.

  phai_cctbx.refine NAME.res                       (NAME.hkl beside it)
  phai_cctbx.refine NAME.res scattering=har        Hirshfeld atom refinement
  phai_cctbx.refine NAME.res scattering=tsc:NAME.tsc

It writes NAME_phai.res .cif .fcf .mtz .ccp4 .log .json and .eff into the
current folder, with aspherical scatterers also .tsc, .deformation.ccp4 and
.deformation.png. Finished calculations are kept: the same command again
goes on where it was stopped. Exit status: 0 done, 1 the input cannot be
used, 2 wrong usage, 3 not converged.
"""
    epilog = ""
    citations = citations("smtbx", "hirshfeld", "pyscf")
    datatypes = ["phil"]
    master_phil_str = refinement.MASTER_PHIL

    file_parameters = staticmethod(crystal_files)

    def validate(self):
        """Refuse what cannot run before anything is read."""
        if self.params.input.path is None:
            raise Sorry("No model: phai_cctbx.refine NAME.res (--help tells more).")
        refinement.check_scattering(self.params.scattering)
        parse_charges(self.params.har.charges)

    def run(self):
        """Refine, with the log on the screen."""
        params = self.params
        master = iotbx.phil.parse(refinement.MASTER_PHIL)
        with log_to(self.logger), _Line() as line:
            self.result = refinement.refine_model(
                params.input.path,
                hkl=params.input.hkl,
                scattering=params.scattering,
                d_min=params.data.d_min,
                hydrogens=params.refinement.hydrogens,
                weights=params.refinement.weights,
                extinction=params.refinement.extinction,
                har=HirshfeldParameters.from_phil(params.har),
                directory=params.output.directory,
                prefix=params.output.prefix,
                overwrite=params.output.overwrite,
                eff=master.format(python_object=params).as_str(),
                progress=line,
            )

    def get_results(self):
        """The `RefineResult`."""
        return self.result

    def get_results_as_JSON(self):
        """What NAME_phai.json holds."""
        from phai_cctbx.io.write_summary import plain

        return json.dumps(plain(self.result.summary()), indent=2)


class _Line:
    """One line on a terminal that tells the stage, nothing elsewhere."""

    def __enter__(self):
        self._bar = tqdm(
            disable=not sys.stderr.isatty(), leave=False, bar_format="{desc} ({elapsed})"
        )
        return self

    def __exit__(self, *exception):
        self._bar.close()

    def __call__(self, text):
        self._bar.set_description_str(text, refresh=True)
