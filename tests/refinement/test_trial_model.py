"""What a cell should hold, and the bookkeeping of a structure in the making."""

import pytest

# cctbx
from cctbx import crystal

from phai_cctbx.building.connectivity import element_of
from phai_cctbx.refinement.trial_model import (
    TrialModel,
    build_structure,
    cell_contents,
    expected_atoms,
    with_elements,
    without_atoms,
)

# C10H10F2N4, P 1 21/n 1, 980.7 A^3, four molecules of 16 atoms besides hydrogen
THPP = crystal.symmetry((6.9196, 14.5749, 9.7248, 90, 90.637, 90), "P 1 21/n 1")
THPP_CONTENTS = {"C": 40, "H": 40, "F": 8, "N": 16}


def test_expected_atoms_follow_composition_unless_the_volume_forbids():
    assert expected_atoms(THPP, THPP_CONTENTS) == 16
    by_volume = expected_atoms(THPP, None)
    assert by_volume == pytest.approx(980.7 / 4 / 18, abs=1)
    assert expected_atoms(THPP, {"C": 4000}) <= 2 * by_volume + 1


def test_neutrons_see_hydrogen_too():
    assert expected_atoms(THPP, THPP_CONTENTS, "neutron") == 26


def test_atoms_on_special_positions_count_by_their_multiplicity():
    structure = build_structure(
        crystal.symmetry((5, 6, 7, 80, 95, 100), "P -1"),
        [(0.001, 0, 0), (0.2, 0.3, 0.4)],
        ["Cu", "O"],
        0.04,
    )
    assert structure.scatterers()[0].site == (0, 0, 0)
    assert cell_contents(structure) == {"Cu": 1, "O": 2}


def test_elements_change_and_atoms_go_without_touching_the_original(crystal_model):
    elements = ["Zn", "O", "N", "N", "C"]
    changed = with_elements(crystal_model, elements)
    assert [element_of(s) for s in changed.scatterers()] == elements
    fewer = without_atoms(changed, [1, 3])
    assert [element_of(s) for s in fewer.scatterers()] == ["Zn", "N", "C"]
    assert [element_of(s) for s in crystal_model.scatterers()] == ["Cu", "O", "C", "N", "C"]


def test_every_refinement_is_a_step_of_the_history(crystal_model, exact_intensities):
    model = TrialModel(exact_intensities, None, "xray", 0.71073)
    model.structure = crystal_model.deep_copy_scatterers()
    model.refine("first")
    assert [(step.action, step.n_atoms) for step in model.history] == [("first", 5)]
    assert model.history[0].r1 < 0.01
    assert not model.changed
    model.structure = without_atoms(model.structure, [4])
    assert model.changed
