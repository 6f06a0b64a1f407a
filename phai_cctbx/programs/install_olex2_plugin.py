"""The command phai_cctbx.install_olex2_plugin: PhAI in the solution menu of Olex2."""

from __future__ import annotations

# cctbx
from libtbx.program_template import ProgramTemplate
from libtbx.utils import Sorry

from phai_cctbx.olex2.install import install, uninstall
from phai_cctbx.version import __version__


class Program(ProgramTemplate):
    """The command phai_cctbx.install_olex2_plugin."""

    program_name = "phai_cctbx.install_olex2_plugin"
    version = __version__
    description = """
Puts PhAI among the solution programs of Olex2, or takes it out again.

  phai_cctbx.install_olex2_plugin FOLDER
  phai_cctbx.install_olex2_plugin FOLDER uninstall=True

FOLDER is that of Olex2; its command 'echo BaseDir()' tells it. Restart Olex2
afterwards.
"""
    epilog = ""
    datatypes = ["phil"]
    master_phil_str = """
folder = None
  .type = str
  .help = Folder of Olex2
executable = None
  .type = str
  .help = The program phai_cctbx.solve, that of this installation by default
uninstall = False
  .type = bool
  .help = Take the plugin out again
"""

    @staticmethod
    def file_parameters(arguments):
        """The folder."""
        if len(arguments) > 1:
            raise Sorry(f"One folder at a time: found {' '.join(arguments)}.")
        return {"folder": arguments[0]} if arguments else {}

    def validate(self):
        """The installer checks what it is given."""
        if self.params.folder is None:
            raise Sorry("No folder: phai_cctbx.install_olex2_plugin FOLDER (that of Olex2).")

    def run(self):
        """Install or uninstall."""
        params = self.params
        if params.uninstall:
            self.target = uninstall(params.folder)
            self.logger.write(f"{self.target} is removed.\n")
        else:
            self.target = install(params.folder, params.executable)
            self.logger.write(
                f"{self.target} is there. Restart Olex2 and choose PhAI as solution program.\n"
            )

    def get_results(self):
        """Folder of the plugin."""
        return self.target
