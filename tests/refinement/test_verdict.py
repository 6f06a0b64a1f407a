"""What makes a structure a solution."""

import pytest

# cctbx
from cctbx import xray

from phai_cctbx.refinement.trial_model import without_atoms
from phai_cctbx.refinement.verdict import bonded_share


def test_bonded_atoms_and_lone_metals_have_sensible_surroundings(crystal_model):
    assert bonded_share(crystal_model) == 1.0


def test_a_lone_carbon_atom_has_not(crystal_model):
    assert bonded_share(without_atoms(crystal_model, [1, 3, 4])) == pytest.approx(1 / 2)


def test_atoms_on_top_of_each_other_have_not(crystal_model):
    structure = crystal_model.deep_copy_scatterers()
    x, y, z = structure.scatterers()[4].site
    structure.add_scatterer(
        xray.scatterer("C9", site=(x + 0.08, y, z), u=0.04, scattering_type="C")
    )
    assert bonded_share(structure) == pytest.approx(4 / 6)


def test_nothing_is_no_structure(crystal_model):
    assert bonded_share(without_atoms(crystal_model, range(5))) == 0.0
