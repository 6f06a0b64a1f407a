"""Which common molecules and fragments a composition has room for."""

import pytest

from phai_cctbx.building.fragment_library import (
    FRAGMENTS,
    MOLECULES,
    composition_of,
    fragments_for,
    molecules_for,
)

pytest.importorskip("rdkit")


def _names(contents, n_operators=4):
    return [proposal.name for proposal in molecules_for(contents, n_operators)]


def test_every_entry_is_a_molecule():
    for smiles in [*MOLECULES.values(), *FRAGMENTS.values()]:
        assert sum(composition_of(smiles)[0].values()) > 0


def test_isomers_of_alanine_are_all_proposed():
    assert set(_names({"C": 3, "H": 7, "N": 1, "O": 2})) == {
        "L-alanine",
        "beta-alanine",
        "sarcosine",
    }


def test_copies_special_positions_and_salts():
    (two,) = molecules_for({"C": 2, "H": 8, "N": 4, "O": 2}, 4)[:1]
    assert (two.smiles, two.copies) == (("NC(N)=O",), (2,))
    (quarter,) = molecules_for({"C": 0.25, "H": 1, "N": 0.5, "O": 0.25}, 8)
    assert quarter.names == ("urea",) and quarter.copies == ()
    assert "ammonium + perchlorate" in _names({"N": 1, "H": 4, "Cl": 1, "O": 4})
    assert "imidazolium + perchlorate" in _names({"C": 3, "H": 5, "N": 2, "Cl": 1, "O": 4})


def test_hydrogens_count_where_they_are_listed():
    assert _names({"C": 6, "H": 6}) == ["benzene"]
    assert _names({"C": 6, "H": 8}) == []
    assert _names({"C": 6}) == ["benzene", "biphenyl"]  # half of the latter


def test_nothing_is_proposed_for_what_nobody_has_in_the_library():
    assert _names({"C": 26, "H": 33, "N": 1, "O": 3, "Si": 1}) == []
    assert _names({}) == []


def test_fragments_fit_the_composition_and_have_no_hydrogens():
    found = dict(fragments_for({"C": 7, "H": 6, "O": 2}))
    assert {"benzoate", "benzene ring", "carboxylate"} <= set(found)
    assert not {"pyridine", "naphthalene", "nitro"} & set(found)
    benzoate = found["benzoate"]
    assert benzoate.composition == {"C": 7, "O": 2}
    assert benzoate.conformers.shape[1] == len(benzoate.elements) == 9
    assert max(benzoate.bonds.ravel()) == 8
