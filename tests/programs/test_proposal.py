"""Molecules that the cell contents suggest are taken where nothing speaks against them."""

import pytest

from phai_cctbx.io.read import read
from phai_cctbx.programs.crystal_input import prepare_crystal
from phai_cctbx.programs.proposal import propose_molecules

pytest.importorskip("rdkit")


def _proposals(shared_data, name):
    data = read(shared_data / "measured" / name / f"{name}.ins")
    return propose_molecules(data, prepare_crystal(data, 2.0))


def test_oxirane_is_found_among_its_isomers(shared_data):
    proposals = _proposals(shared_data, "epoxide")
    assert proposals.taken.proposal.names == ("oxirane",)
    rejected = {each.proposal.name: each for each in proposals.tried[1:]}
    assert "acetaldehyde" in rejected and not rejected["acetaldehyde"].right
    assert "oxirane has the formula" in proposals.statement


def test_a_dipeptide_is_not_taken_for_glutamine(shared_data):
    proposals = _proposals(shared_data, "glyala_100K")
    assert [each.proposal.name for each in proposals.tried] == ["L-glutamine"]
    assert proposals.taken is None
    assert "tried in vain: L-glutamine" in proposals.statement
