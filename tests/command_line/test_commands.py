"""Every command: installed by pip, dispatched by libtbx, of the version of the package."""

import importlib
import tomllib

import pytest

from phai_cctbx.version import __version__


def command_files(repository):
    return sorted((repository / "phai_cctbx" / "command_line").glob("[a-z]*.py"))


def test_pip_and_libtbx_know_the_same_commands(repository):
    scripts = tomllib.loads((repository / "pyproject.toml").read_text())["project"]["scripts"]
    expected = {
        f"phai_cctbx.{path.stem}": f"phai_cctbx.command_line.{path.stem}:run"
        for path in command_files(repository)
    }
    assert scripts == expected
    for path in command_files(repository):
        first = path.read_text().splitlines()[0]
        assert first == f"# LIBTBX_SET_DISPATCHER_NAME phai_cctbx.{path.stem}"


def test_every_command_tells_its_version(repository, capsys):
    for path in command_files(repository):
        run = importlib.import_module(f"phai_cctbx.command_line.{path.stem}").run
        try:
            status = run(["--version"])
        except SystemExit as leaving:
            status = leaving.code
        assert (path.stem, status or 0) == (path.stem, 0)
        assert (path.stem, capsys.readouterr().out.split()[-1]) == (path.stem, __version__)


@pytest.mark.parametrize("name", ["solve", "batch"])
def test_help_names_the_exit_statuses(name, capsys):
    run = importlib.import_module(f"phai_cctbx.command_line.{name}").run
    assert run(["--help"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "Exit status: 0" in told and "3 not" in told
