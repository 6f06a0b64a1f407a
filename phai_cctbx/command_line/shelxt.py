# LIBTBX_SET_DISPATCHER_NAME phai_cctbx.shelxt
"""Solves BASENAME.ins with BASENAME.hkl into BASENAME_a.res, for programs that call SHELXT."""

import sys

from phai_cctbx.programs.command import run_command
from phai_cctbx.programs.shelx_style import without_switches
from phai_cctbx.programs.solve import Program


def run(args=None):
    """Run phai_cctbx.solve with the file names of SHELXT and return the exit status."""
    args = sys.argv[1:] if args is None else list(args)
    return run_command(Program, [*without_switches(args), "output.style=shelxt"])


if __name__ == "__main__":
    sys.exit(run())
