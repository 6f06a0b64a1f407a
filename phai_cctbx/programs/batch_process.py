"""The process that solves one data set of a batch: phai_cctbx.solve, ending with its parent.

Its standard input is a pipe from the worker that started it, and nothing is ever written there: the
pipe closes when the worker goes, however it goes.
"""

import os
import sys
import threading

from phai_cctbx.programs.command import EXIT_BAD_INPUT, run_command
from phai_cctbx.programs.solve import Program

_STANDARD_INPUT = 0


def _end_with_parent():
    os.read(_STANDARD_INPUT, 1)
    os._exit(EXIT_BAD_INPUT)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.exit(run_command(Program))
