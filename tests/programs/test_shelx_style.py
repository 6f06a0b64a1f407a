"""phai_cctbx.solve BASENAME under the file names of SHELXT and SHELXS."""

import logging

import pytest

# cctbx
from libtbx.utils import Sorry

from phai_cctbx.command_line import shelxt
from phai_cctbx.programs import shelx_style
from phai_cctbx.programs.command import run_command
from phai_cctbx.programs.shelx_style import base_name, solve_like_shelx, without_switches
from phai_cctbx.programs.solve import Program

QUICK = {"strategy": "charge_flipping", "hydrogens": False}


@pytest.mark.parametrize(
    ("path", "base"),
    [("thpp", "thpp"), ("x/thpp.ins", "thpp"), ("a b.hkl", "a b"), ("thpp.v2", "thpp.v2")],
)
def test_base_name(path, base):
    assert base_name(path) == base


@pytest.fixture
def beginning(thpp):
    """Files beside the data before the run."""
    return {path.name for path in thpp.parent.iterdir()}


@pytest.mark.slow
def test_as_shelxt(thpp, beginning):
    """thpp and thpp.hkl in, thpp_a.res and thpp.lxt out; a second run replaces them."""
    (thpp.parent / "thpp_a.res").write_text("of yesterday\n")
    arguments = ["thpp", "output.style=shelxt", "strategy=charge_flipping", "hydrogens=False"]
    assert run_command(Program, [*arguments, "--quiet"]) == 0
    made = {path.name for path in thpp.parent.iterdir()} - beginning
    assert made == {"thpp_a.res", "thpp.lxt"}
    lines = (thpp.parent / "thpp_a.res").read_text().splitlines()
    assert lines[0].startswith("TITL")
    assert lines[1].startswith("REM Solution 1  R1 0.0")
    assert "solved" in lines[2] and "NOT" not in lines[2]
    listing = (thpp.parent / "thpp.lxt").read_text()
    assert ".phai_" not in listing
    head, row, _, end = listing.splitlines()[-4:]
    # columns where Olex2 cuts SHELXT's table (method_imp/shelx.py)
    assert head[0:6].strip() == "R1" and head[7:12] == "Rweak" and head[13:20].strip() == "Alpha"
    assert head[21:37].strip() == "Orientation" and head[37:50].strip() == "Space group"
    assert 0.02 < float(row[0:6]) < 0.15
    assert row[21:37].strip() == "as input"
    assert row[37:50].strip() == "P121/n1"
    assert "thpp_a" in row and "C10 F2 N4" in row
    assert end.startswith("Assign")


@pytest.mark.slow
def test_as_shelxs_keeps_what_is_refined(thpp, beginning):
    """thpp.res may hold days of work: it is replaced only where that is allowed."""
    res = thpp.parent / "thpp.res"
    res.write_text("TITL refined\n")
    with pytest.raises(Sorry, match=r"thpp\.res would be overwritten"):
        solve_like_shelx("shelxs", "thpp.ins", **QUICK)
    assert res.read_text() == "TITL refined\n"
    result = solve_like_shelx("shelxs", "thpp.ins", overwrite=True, **QUICK)
    assert result.solved
    assert {path.name for path in result.files.values()} == {"thpp.res", "thpp.lst"}
    assert {path.name for path in thpp.parent.iterdir()} - beginning == {"thpp.res", "thpp.lst"}
    assert "FVAR" in res.read_text()


def test_called_in_the_place_of_shelxt(thpp, beginning, capsys):
    """Callers give SHELXT switches of its own; they are named and do no harm."""
    arguments = ["thpp", "-a0.3", '-s"P21/c"', "-q", "n_starts=0"]
    assert shelxt.run(arguments) == 2  # n_starts is understood, and cannot be 0
    error = capsys.readouterr().err
    assert '-a0.3 -s"P21/c" -q' in error
    assert "n_starts" in error and "unrecognized" not in error
    assert without_switches(["thpp", "--quiet", "-h"]) == ["thpp", "--quiet", "-h"]


def test_nothing_is_left_of_bad_input(thpp, beginning):
    thpp.write_text("TITL no cell\nEND\n")
    arguments = ["thpp", "output.style=shelxt", "--quiet"]
    assert run_command(Program, arguments) == 1
    assert {path.name for path in thpp.parent.iterdir()} == beginning


def test_without_input():
    with pytest.raises(Sorry, match="base name"):
        solve_like_shelx("shelxt", "")


def test_the_filter_of_the_log_does_not_stay():
    before = list(shelx_style.pipeline.logger.filters)
    with pytest.raises(Sorry):
        solve_like_shelx("shelxt", "no_such_file.ins")
    assert shelx_style.pipeline.logger.filters == before
    assert logging.getLogger("phai_cctbx").handlers == []
