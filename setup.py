"""Builds phai_cctbx; all static metadata stands in ``pyproject.toml``.

Configure builds read ``libtbx_config`` beside ``setup.py``, while an installed libtbx looks inside
the package: the build copies the file there.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

LIBTBX_CONFIG = Path("libtbx_config")


class BuildPy(build_py):
    """Adds ``libtbx_config`` to the built package."""

    def _config_target(self):
        return Path(self.build_lib, "phai_cctbx", LIBTBX_CONFIG.name)

    def run(self):
        """Build the package, then copy ``libtbx_config`` into it (not for an editable install)."""
        super().run()
        if not self.editable_mode:
            self.copy_file(str(LIBTBX_CONFIG), str(self._config_target()))

    def get_outputs(self, include_bytecode=True):
        """Name the copied file among the files built."""
        outputs = super().get_outputs(include_bytecode)
        return outputs if self.editable_mode else [*outputs, str(self._config_target())]


setup(cmdclass={"build_py": BuildPy})
