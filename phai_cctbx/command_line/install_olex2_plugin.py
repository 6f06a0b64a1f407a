# LIBTBX_SET_DISPATCHER_NAME phai_cctbx.install_olex2_plugin
"""Puts PhAI among the solution programs of Olex2, or takes it out again."""

import sys

from phai_cctbx.programs.command import run_command
from phai_cctbx.programs.install_olex2_plugin import Program


def run(args=None):
    """Run the program on command-line arguments and return the exit status."""
    return run_command(Program, args)


if __name__ == "__main__":
    sys.exit(run())
