# LIBTBX_SET_DISPATCHER_NAME phai_cctbx.benchmark
"""Measures phasing and structure solution on a folder of known structures."""

import sys

from iotbx.cli_parser import run_program

from phai_cctbx.programs.benchmark import Program


def run(args=None):
    """Run the program on command-line arguments."""
    run_program(program_class=Program, args=args)


if __name__ == "__main__":
    sys.exit(run())
