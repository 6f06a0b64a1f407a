"""Atoms come on difference peaks and go where there is no density."""

import pytest

from phai_cctbx.building.connectivity import element_of
from phai_cctbx.building.hydrogens import HydrogenGroup
from phai_cctbx.refinement.comparison import compare
from phai_cctbx.refinement.difference_atoms import add_atoms, prune, within_contents
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


@pytest.mark.parametrize(("d_min", "n_given", "n_left"), [(1.2, 4, 4), (1.2, 0, 5), (0.0, 4, 5)])
def test_few_reflections_place_no_more_hydrogens_than_the_contents(
    model, crystal_model, d_min, n_given, n_left
):
    """The weakest on other atoms than carbon go; without hydrogens in the contents none do."""
    model.f_sq = model.f_sq.resolution_filter(d_min=d_min)
    model.composition = {"C": 18.0, "H": n_given * model.order}
    elements = [element_of(s) for s in crystal_model.scatterers()]
    carbon = elements.index("C")
    others = [i for i, element in enumerate(elements) if element in ("N", "O")][:2]
    groups = [
        HydrogenGroup("methyl", carbon, ((0, 0, 0),) * 3, 0.1),
        HydrogenGroup("free", others[0], ((0, 0, 0),), 0.2),
        HydrogenGroup("free", others[-1], ((0, 0, 0),), 0.4),
    ]
    left = within_contents(model, groups)
    assert sum(len(group.sites) for group in left) == n_left
    assert groups[0] in left and groups[2] in left
