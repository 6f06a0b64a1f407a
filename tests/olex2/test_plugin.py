"""PhAI as a solution program, in a stand-in for Olex2 that works as Olex2 does."""

import ast
import shutil
import stat
import sys
from pathlib import Path

import pytest

# cctbx
from cctbx import xray

from phai_cctbx.olex2.install import SOURCE, install

EXTRAS = 'REM <olex2.extras>\nREM <HklSrc "%.\\\\thpp.hkl">\nREM </olex2.extras>\n'

#: A solver that tells what it was asked, and writes what it is told to by its first argument.
STAND_IN = """#!{python}
import os, sys, time
arguments = dict(argument.split("=", 1) for argument in sys.argv[2:])
print("asked:", sys.argv[1:])
print("folder:", os.getcwd())
print("foreign:", [n for n in os.environ if n in ("PYTHONHOME", "LD_LIBRARY_PATH")])
folder = arguments["output.directory"].strip('"')
base = os.path.join(folder, os.path.basename(sys.argv[1])[:-4])
content = {content!r}
if content is not None:
    open(base + "_a.res", "w").write(content)
    open(base + ".lxt", "w").write("listing")
print({last!r}, file=sys.stderr)
sys.exit({status})
"""
#: The command of a checkout that need not be installed.
COMMAND = """#!{python}
import sys
sys.path.insert(0, {checkout!r})
from phai_cctbx.command_line.solve import run
sys.exit(run())
"""
RES = """TITL thpp
REM Solution 1  R1 0.047, confidence 0.995, P 1 21/n 1
CELL 0.71073 6.9196 14.5749 9.7248 90 90.637 90
FVAR 1.0
C1 1 0.1 0.2 0.3 11.0 0.05
HKLF 4
END
"""


@pytest.fixture
def structure(thpp_folder, tmp_path):
    """thpp in a folder with a space in its name, with Olex2's own data in the .ins."""
    work = tmp_path / "my crystals"
    work.mkdir()
    text = (thpp_folder / "thpp.ins").read_text(encoding="latin-1")
    head, hklf, tail = text.partition("HKLF")
    (work / "My Thpp.ins").write_text(head + EXTRAS + hklf + tail, encoding="latin-1")
    shutil.copy(thpp_folder / "thpp.hkl", work / "My Thpp.hkl")
    (work / "My Thpp.res").write_text("TITL of before\n")
    return work


def stand_in(folder, content=RES, last="done", status=0):
    """An executable, with a space in its path."""
    path = folder / "solver of mine"
    path.write_text(
        STAND_IN.format(python=sys.executable, content=content, last=last, status=status)
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def start(make_olex2, olex2_folder, structure, monkeypatch, tmp_path):
    """Function: what the solver does -> Olex2 with the plugin, the structure loaded."""

    def run(**behaviour):
        executable = stand_in(tmp_path, **behaviour)
        install(olex2_folder, executable=executable)
        return make_olex2(structure, "My Thpp").start(monkeypatch)

    return run


def test_success(start, structure, capsys, monkeypatch):
    monkeypatch.setenv("PYTHONHOME", "/olex2/python")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/olex2/lib")
    olex2 = start()
    assert olex2.solve()
    shown = capsys.readouterr().out
    temp = structure / "olex2" / "temp"
    assert str(temp / "mythpp.ins") in shown
    assert "output.style=shelxt" in shown
    assert f"folder: {temp}" in shown
    assert "foreign: []" in shown
    assert "done" in shown
    assert "refresh" in olex2.commands
    assert olex2.reaped.splitlines()[0] == "TITL thpp"
    assert EXTRAS + "HKLF" in olex2.reaped
    assert olex2.run.post_prg_output_html_message.startswith("Solution 1  R1 0.047")
    assert (structure / "My Thpp.lxt").read_text() == "listing"
    assert not (structure / "My Thpp.cif").exists()


def test_registration(start):
    olex2 = start()
    program = olex2.solution_programs["PhAI"]
    assert program.program_type == "solution" and list(program.methods) == ["Network"]
    assert program.methods["Network"].atom_sites_solution == "other"
    assert program.methods["Network"].instructions() == []
    assert "Science" in program.reference
    assert olex2.olexex.available_solution_programs is None
    solution = olex2.phil_handler
    solution.update_single_param("snum.solution.program", "PhAI")
    solution.update_single_param("snum.solution.program", "ShelXT")
    assert olex2.get_param("snum.solution.program") == "ShelXT"


def test_settings_reach_the_solver(start, capsys):
    olex2 = start()
    for name, value in (("strategy", "neural"), ("d_min", "1.2"), ("model", "'a b.pt'")):
        olex2.phil_handler.update_single_param(f"phai.{name}", value)
    assert olex2.solve()
    shown = capsys.readouterr().out
    for argument in ('phasing.strategy="neural"', 'data.d_min="1.2"', 'phasing.model="a b.pt"'):
        assert argument in shown


def test_not_solved_is_shown_as_such(start, capsys):
    olex2 = start(status=3)
    assert olex2.solve()
    assert "did NOT solve" in capsys.readouterr().out


@pytest.mark.parametrize(
    "behaviour",
    [
        {"status": 1, "content": None, "last": "Sorry: mythpp.hkl: no reflections"},
        {"status": 2, "content": None, "last": "no such parameter"},
        {"status": -11, "content": None, "last": "crash"},
        {"status": 0, "content": "", "last": "an empty file"},
        {"status": 0, "content": None, "last": "no file"},
    ],
)
def test_failure_keeps_the_structure(behaviour, start, structure, capsys):
    olex2 = start(**behaviour)
    assert not olex2.solve()
    assert olex2.reaped is None
    assert (structure / "My Thpp.res").read_text() == "TITL of before\n"
    shown = capsys.readouterr().out
    assert behaviour["last"] in shown
    assert "PhAI" in shown.splitlines()[-1]


def test_after_a_failure_the_next_run_succeeds(start, tmp_path):
    olex2 = start(status=1, content=None)
    assert not olex2.solve()
    stand_in(tmp_path)
    assert olex2.solve()


def test_missing_executable(start, tmp_path, capsys):
    """Gone since the installation: Olex2's own alert, or where it does not look, ours."""
    olex2 = start()
    (tmp_path / "solver of mine").unlink()
    assert not olex2.solve()
    assert "phai_cctbx.solve is not there" in capsys.readouterr().out


def test_missing_executable_at_the_start(start, make_olex2, structure, tmp_path, monkeypatch):
    start()
    (tmp_path / "solver of mine").unlink()
    olex2 = make_olex2(structure, "My Thpp").start(monkeypatch)
    assert not olex2.solve()
    assert olex2.alerts == ["PhAI is not found on this system"]
    olex2.on_the_path["phai_cctbx.solve"] = str(stand_in(tmp_path))
    assert olex2.solve()


def test_file_that_is_no_program(start, tmp_path, capsys):
    olex2 = start()
    (tmp_path / "solver of mine").chmod(0o644)
    assert not olex2.solve()
    assert "cannot be run" in capsys.readouterr().out


def test_runs_in_the_python_of_olex2():
    """Olex2 1.5 has Python 3.8."""
    ast.parse((SOURCE / "PhaiCctbx.py").read_text(), feature_version=(3, 8))


@pytest.mark.slow
def test_with_the_real_solver(
    make_olex2, olex2_folder, structure, monkeypatch, capsys, repository, tmp_path
):
    """Measured thpp from Solve to 16 atoms in Olex2."""
    executable = tmp_path / "phai_cctbx.solve"
    executable.write_text(COMMAND.format(python=sys.executable, checkout=str(repository)))
    executable.chmod(0o755)
    install(olex2_folder, executable=executable)
    olex2 = make_olex2(structure, "My Thpp").start(monkeypatch)
    olex2.phil_handler.update_single_param("phai.strategy", "charge_flipping")
    assert olex2.solve(), capsys.readouterr().out
    assert olex2.reaped.count("REM <olex2.extras>") == 1
    found = xray.structure.from_shelx(filename=str(structure / "My Thpp.res"))
    heavy = [s for s in found.scatterers() if s.scattering_type not in ("H", "D")]
    # one group of thpp is disordered: the atoms of its minor part come on top
    assert len([s for s in heavy if s.occupancy > 0.5]) == 16
    assert {path.suffix for path in Path(structure).iterdir() if path.is_file()} == {
        ".ins", ".hkl", ".res", ".lxt",
    }  # fmt: skip
