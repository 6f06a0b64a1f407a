"""Runs a `ProgramTemplate` of the project as a command: arguments, log and exit status.

The command-line parser of cctbx gives every program the same options (``--help``,
``--show-defaults``, ``--diff-params``, ``--json``, ``--quiet``...). Its `DataManager` knows no
small-molecule files, so the parser here turns file arguments into parameters before it sees them.
"""

from __future__ import annotations

import argparse
import getpass
import logging
import os
import sys
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

# cctbx
import iotbx.phil
from iotbx.cli_parser import CCTBXParser, run_program
from libtbx.utils import Sorry, null_out

from phai_cctbx.programs.command_help import parameter_lines

#: Exit statuses of every command.
EXIT_SOLVED = 0
EXIT_BAD_INPUT = 1
EXIT_BAD_USAGE = 2
EXIT_NOT_SOLVED = 3
#: What a shell reports of a program that ended by the interrupt signal, and of one whose reader
#: went away (``| head``).
EXIT_INTERRUPTED, EXIT_NO_READER = 130, 141

#: Files with these endings hold parameters; every other file argument is data.
PARAMETER_FILES = (".eff", ".phil", ".params", ".def")

#: Options of cctbx for files that its own parser reads: accepted, and of no use here.
_NOT_SHOWN = ("--write-data", "--write-all", "--check-current-dir", "--profile")
#: What cctbx's ``--overwrite`` sets. Its other parameters of the output (filename, suffix, serial)
#: would do nothing here, and are refused like any unknown name.
_OVERWRITE_PHIL = """
output {
  overwrite = False
    .type = bool
    .help = Replace existing files of these names
}
"""

_PACKAGE_LOGGER = "phai_cctbx"


class CommandParser(CCTBXParser):
    """The parser of cctbx, for programs that read their files themselves.

    The program class names in `file_parameters` a function from the list of file arguments to a
    dict of parameter values. What is wrong with the arguments themselves ends in a usage message
    and exit status 2.
    """

    def __init__(self, program_class, *args, **kwargs):
        super().__init__(program_class, *args, **kwargs)
        self.usage = f"{self.prog} [option ...] [file ...] [parameter=value ...]"
        self.master_phil = iotbx.phil.parse(program_class.master_phil_str)
        self.master_phil.adopt_scope(iotbx.phil.parse(_OVERWRITE_PHIL))
        self.description = "\n".join(
            [
                program_class.description.strip(),
                "",
                "parameters (their last part is enough where it is the only one of that name):",
                *parameter_lines(self.master_phil, self.text_width),
            ]
        )
        self.epilog = None

    def add_argument(self, *names, **options):
        """As of argparse, without a word on the options that serve no purpose here."""
        if names[0] in _NOT_SHOWN or names[0] in ("files", "phil"):
            options["help"] = argparse.SUPPRESS
        return super().add_argument(*names, **options)

    def process_files(self, file_list, message="Processing files:"):
        """Leave the parameter files to the parser and turn the others into parameters."""
        is_parameters = [Path(name).suffix.lower() in PARAMETER_FILES for name in file_list]
        self._data_arguments = [
            name for name, is_phil in zip(file_list, is_parameters) if not is_phil
        ]
        with self._silent():
            super().process_files(
                [name for name, is_phil in zip(file_list, is_parameters) if is_phil]
            )

    def process_phil(self, phil_list):
        """Read the parameters, those from the file arguments included."""
        given = self._data_arguments + self.namespace.unknown
        self.namespace.unknown = []
        try:
            from_files = self.program_class.file_parameters(given)
            from_files = [f"{name}={_quoted(value)}" for name, value in from_files.items()]
            with self._silent():
                super().process_phil([*from_files, *phil_list])
            self.working_phil.extract()
        except (Sorry, RuntimeError, ValueError) as error:
            self.error(str(error).strip())

    def raise_Sorry_for_unused_phil(self):
        """Parameters that the program does not have are wrong usage."""
        if self.unused_phil:
            names = ", ".join(str(phil) for phil in self.unused_phil)
            self.error(
                f"no such parameter: {names} (--show-defaults lists the parameters; in a file"
                " they are written with their scope, such as output.overwrite)"
            )

    def error(self, message):
        """Say what is wrong in one line and leave with exit status 2."""
        self.exit(EXIT_BAD_USAGE, f"{self.prog}: {message}\nUsage: {self.prog} --help\n")

    @contextmanager
    def _silent(self):
        """Keep the parser's own account of its work off the screen."""
        logger, self.logger = self.logger, null_out()
        try:
            yield
        finally:
            self.logger = logger


def run_command(program_class, args=None) -> int:
    """Run a program with command-line arguments (`sys.argv` by default) and return its status.

    Returns
    -------
    int
        0 solved, or done; 1 the input cannot be used; 2 wrong usage; 3 not solved; 130 stopped
        from the keyboard; 141 nobody reads the output.
    """
    _name_the_user()
    try:
        result = run_program(program_class=program_class, parser_class=CommandParser, args=args)
    except Sorry as error:
        sys.stderr.write(f"\nSorry: {error}\n")
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped.\n")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # what is still in the buffer would raise again when Python ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_NO_READER
    except SystemExit as leaving:
        return leaving.code or 0
    return getattr(result, "exit_status", EXIT_SOLVED)


@contextmanager
def log_to(*streams):
    """Send what the package logs (INFO and above) to the streams, one plain line each."""
    logger = logging.getLogger(_PACKAGE_LOGGER)
    handlers = [_BesideProgress(stream) for stream in streams]
    level, propagate = logger.level, logger.propagate
    logger.setLevel(logging.INFO)
    logger.propagate = False
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


def _name_the_user():
    """Give the user a name where the system knows none (a container): the parser prints it."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = "unknown"


class _BesideProgress(logging.StreamHandler):
    """Writes lines above the progress bar that stands on the terminal, if one does."""

    def emit(self, record):
        with tqdm.external_write_mode(file=sys.stdout):
            super().emit(record)

    def handleError(self, record):
        """A reader that went away ends the run; logging would show a traceback per line."""
        if isinstance(sys.exc_info()[1], BrokenPipeError):
            raise
        super().handleError(record)


def _quoted(value):
    """A parameter value as phil reads it back: quotes and backslashes escaped."""
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
