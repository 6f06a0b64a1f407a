"""Arguments, exit statuses and the log of commands."""

import logging
from io import StringIO

import pytest

# cctbx
from libtbx.program_template import ProgramTemplate
from libtbx.utils import Sorry

from phai_cctbx.programs.command import log_to, run_command


class Echo(ProgramTemplate):
    """A program that remembers its parameters."""

    program_name = "phai_cctbx.echo"
    description = "\nEcho\n"
    datatypes = ["phil"]
    master_phil_str = """
input { path = None
  .type = str
}
d_min = 2.0
  .type = float
  .help = How far the data go
kind = fast *slow
  .type = choice
  .help = What is done
"""
    seen = None
    error = None

    @staticmethod
    def file_parameters(arguments):
        return {"input.path": arguments[0]} if arguments else {}

    def validate(self):
        if self.error:
            raise self.error

    def run(self):
        Echo.seen = self.params


@pytest.mark.parametrize("name", ["x.ins", "sub dir/x y.ins", "BASE", 'quo"te.ins', "back\\slash"])
def test_file_arguments_become_parameters(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_command(Echo, [name, "d_min=1.5", "--quiet"]) == 0
    assert Echo.seen.input.path == name
    assert Echo.seen.d_min == 1.5


def test_existing_data_file_is_not_parsed_by_the_parser(tmp_path):
    path = tmp_path / "x.ins"
    path.write_bytes(b"\x00\xff not an ins")
    assert run_command(Echo, [str(path), "--quiet"]) == 0
    assert Echo.seen.input.path == str(path)


def test_parameter_file(tmp_path):
    path = tmp_path / "x.eff"
    path.write_text("d_min = 1.75\ninput.path = y.ins\noutput.overwrite = True\n")
    assert run_command(Echo, [str(path), "--quiet"]) == 0
    assert (Echo.seen.d_min, Echo.seen.input.path) == (1.75, "y.ins")
    assert Echo.seen.output.overwrite


@pytest.mark.parametrize(
    "argument", ["d_min=abc", "no_such=1", "--no-such", "missing.eff", "input.path.x=2"]
)
def test_wrong_usage_is_2(argument, capsys):
    arguments = ["x.ins", argument]
    if argument == "missing.eff":
        arguments = [argument, "--show-defaults=9"]
    assert run_command(Echo, arguments) == 2
    assert "phai_cctbx.echo" in capsys.readouterr().err


def test_help_tells_what_parameters_mean_and_only_those_that_do_something(capsys):
    assert run_command(Echo, ["--help"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "d_min How far the data go (default 2.0)" in told
    assert "kind What is done (fast | *slow, default slow)".replace("*", "") in told
    assert "serial_format" not in told


@pytest.mark.parametrize("name", ["filename", "suffix", "serial", "prefix"])
def test_parameters_of_the_output_that_nothing_reads_are_refused(name, capsys):
    assert run_command(Echo, ["x.ins", f"output.{name}=1"]) == 2
    assert f"no such parameter: output.{name}" in capsys.readouterr().err


def test_sorry_is_1_and_no_traceback(monkeypatch, capsys):
    monkeypatch.setattr(Echo, "error", Sorry("x.ins, line 2: no CELL"))
    assert run_command(Echo, ["x.ins", "--quiet"]) == 1
    error = capsys.readouterr().err
    assert "Sorry: x.ins, line 2: no CELL" in error
    assert "Traceback" not in error


@pytest.mark.parametrize("option", ["--help", "--show-defaults", "--version", "--citations"])
def test_options_that_only_tell(option):
    assert run_command(Echo, [option]) == 0


def test_diff_params(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_command(Echo, ["x.ins", "d_min=1.5", "--diff-params"]) == 0
    assert "d_min = 1.5" in (tmp_path / "echo_modified.eff").read_text()


def test_log_to_leaves_the_logger_as_it_was():
    logger = logging.getLogger("phai_cctbx")
    before = (logger.level, logger.propagate, list(logger.handlers))
    stream = StringIO()
    with log_to(stream):
        logging.getLogger("phai_cctbx.anything").info("12 reflections")
    assert stream.getvalue() == "12 reflections\n"
    assert (logger.level, logger.propagate, list(logger.handlers)) == before


def test_a_reader_that_goes_away_ends_the_run_without_a_traceback():
    """As in ``phai_cctbx.echo x.ins | head -1``."""

    class Closed(StringIO):
        def write(self, text):
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError), log_to(Closed()):
        logging.getLogger("phai_cctbx.anything").info("12 reflections")
    assert logging.getLogger("phai_cctbx").handlers == []
