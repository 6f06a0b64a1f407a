"""Elements from refined scattering powers."""

import numpy as np
import pytest

# cctbx
from cctbx.eltbx import tiny_pse

from phai_cctbx.building.connectivity import element_of
from phai_cctbx.refinement.element_trials import element_sites, relabel, scattering_powers
from phai_cctbx.refinement.trial_model import TrialModel, cell_contents, with_elements


@pytest.fixture
def model(crystal_model, exact_intensities):
    result = TrialModel(exact_intensities, cell_contents(crystal_model), "xray", 0.71073)
    result.structure = crystal_model.deep_copy_scatterers()
    result.refine("right", n_cycles=6)
    return result


def test_scattering_powers_tell_the_elements(model, crystal_model):
    powers = scattering_powers(model, n_cycles=8)
    electrons = [tiny_pse.table(element_of(s)).atomic_number() for s in crystal_model.scatterers()]
    scaled = powers * electrons[0] / powers[0]
    assert np.abs(scaled - electrons).max() < 0.25


def test_wrong_elements_are_put_right(model, crystal_model):
    model.structure = with_elements(crystal_model, ["Cu", "O", "C", "C", "C"])
    r1_of_wrong = model.refine("nitrogen taken for carbon", n_cycles=6).r1
    assert relabel(model, "other elements") == 1
    assert model.result.r1 < r1_of_wrong
    relabel(model, "once more, with better displacements")
    assert cell_contents(model.structure) == cell_contents(crystal_model)


def test_right_elements_stay(model):
    assert relabel(model, "other elements") == 0


def test_sites_know_their_bonds_and_their_share_of_the_cell(crystal_model):
    sites = element_sites(crystal_model, [29, 8, 6, 7, 6])
    assert [site.weight for site in sites] == [0.5, 1, 1, 1, 1]
    assert {index for index, _ in sites[2].neighbours} >= {1, 3, 4}
