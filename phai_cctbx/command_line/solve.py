# LIBTBX_SET_DISPATCHER_NAME phai_cctbx.solve
"""Solves a crystal structure from measured intensities or amplitudes."""

import sys

from iotbx.cli_parser import run_program

from phai_cctbx.programs.solve import Program


def run(args=None):
    """Run the program on command-line arguments."""
    run_program(program_class=Program, args=args)


if __name__ == "__main__":
    sys.exit(run())
