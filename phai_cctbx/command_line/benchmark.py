# LIBTBX_SET_DISPATCHER_NAME phai_cctbx.benchmark
"""Measures phasing and structure solution on a folder of known structures."""

import sys

from phai_cctbx.programs.benchmark import Program
from phai_cctbx.programs.command import run_command


def run(args=None):
    """Run the program on command-line arguments and return the exit status."""
    return run_command(Program, args)


if __name__ == "__main__":
    sys.exit(run())
