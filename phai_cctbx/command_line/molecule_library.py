# LIBTBX_SET_DISPATCHER_NAME phai_cctbx.molecule_library
"""Makes the library of molecules that artificial crystals are built from (needs RDKit)."""

import sys

from phai_cctbx.programs.command import run_command
from phai_cctbx.programs.molecule_library import Program


def run(args=None):
    """Run the program on command-line arguments and return the exit status."""
    return run_command(Program, args)


if __name__ == "__main__":
    sys.exit(run())
