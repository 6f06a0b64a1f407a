# LIBTBX_SET_DISPATCHER_NAME phai_cctbx.batch
"""Solves all data sets below a folder on a Dask cluster."""

import sys

from phai_cctbx.programs.batch import Program
from phai_cctbx.programs.command import run_command


def run(args=None):
    """Run the program on command-line arguments and return the exit status."""
    return run_command(Program, args)


if __name__ == "__main__":
    sys.exit(run())
