"""Atoms come on difference peaks and go where there is no density."""

import pytest

from phai_cctbx.refinement.comparison import compare
from phai_cctbx.refinement.difference_atoms import add_atoms, prune
from phai_cctbx.refinement.trial_model import TrialModel, build_structure, without_atoms


@pytest.fixture
def model(crystal_model, exact_intensities):
    result = TrialModel(exact_intensities, None, "xray", 0.71073)
    result.structure = crystal_model.deep_copy_scatterers()
    return result


def test_a_missing_atom_is_found_where_it_was(model, crystal_model):
    model.structure = without_atoms(model.structure, [2])
    model.refine("without C1")
    assert add_atoms(model) == 1
    comparison = compare(model.structure, crystal_model)
    assert (comparison.n_missing, comparison.n_extra) == (0, 0)
    assert comparison.max_distance < 0.1


def test_a_complete_structure_gains_and_loses_nothing(model):
    model.refine("complete")
    assert (add_atoms(model), prune(model)) == (0, 0)


def test_an_atom_without_density_goes(model):
    void = build_structure(model.structure, [(0.27, 0.62, 0.7)], ["C"], 0.04)
    model.structure.add_scatterer(void.scatterers()[0])
    model.refine("with an atom in the void", n_cycles=8)
    assert prune(model) == 1
    assert model.structure.scatterers().size() == 5
