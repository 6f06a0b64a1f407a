# LIBTBX_SET_DISPATCHER_NAME phai_cctbx.import_phai
"""Turns the published checkpoint of PhAI into a model file."""

import sys

from phai_cctbx.programs.command import run_command
from phai_cctbx.programs.import_phai import Program


def run(args=None):
    """Run the program on command-line arguments and return the exit status."""
    return run_command(Program, args)


if __name__ == "__main__":
    sys.exit(run())
