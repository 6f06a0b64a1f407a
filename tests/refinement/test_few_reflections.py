"""What is asked of a structure where the data end early."""

from dataclasses import replace

import numpy as np
import pytest

# cctbx
from cctbx.array_family import flex

from phai_cctbx.building.elements import CERTAIN_CONTENTS, COUNT_COST
from phai_cctbx.refinement.few_reflections import (
    contents_doubts,
    held_out_r,
    prediction_doubts,
)
from phai_cctbx.refinement.starting_model import elements_in_order, is_hopeless
from phai_cctbx.refinement.trial_model import TrialModel, cell_contents
from phai_cctbx.refinement.verdict import R1_SOLVED, judge


@pytest.fixture
def model(crystal_model, exact_intensities):
    """The right structure, refined against data to 1.2 A."""
    f_sq = exact_intensities.resolution_filter(d_min=1.2)
    result = TrialModel(f_sq, cell_contents(crystal_model), "xray", 0.71073)
    result.structure = crystal_model.deep_copy_scatterers()
    result.refine("right")
    return result


def test_the_right_structure_predicts_what_it_never_saw(model):
    assert model.few_reflections
    assert held_out_r(model) < 0.03
    assert prediction_doubts(model, model.result, R1_SOLVED) == []
    assert judge(model, model.result, 0.1, -0.1) == (True, [])


def test_displaced_atoms_do_not(model):
    """Refined against intensities in another order, any structure is wrong."""
    order = np.random.default_rng(0).permutation(model.f_sq.size()).tolist()
    model.f_sq = model.f_sq.customized_copy(data=model.f_sq.data().select(flex.size_t(order)))
    model.refine("wrong")
    doubts = prediction_doubts(model, model.result, R1_SOLVED)
    assert len(doubts) == 1


def test_atoms_other_than_the_contents_forbid_a_solution(model):
    """The volume holds nine atoms; four and a half are there."""
    assert contents_doubts(model) == []
    model.composition = {"C": 18.0}
    differences = model.differences_from_composition()
    assert differences["C"][1] == 9
    (doubt,) = contents_doubts(model)
    assert "C" in doubt
    assert not judge(model, model.result, 0.1, -0.1)[0]
    n_amiss = sum(abs(found - given) for found, given in differences.values())
    assert model.contents_cost() == pytest.approx(n_amiss * CERTAIN_CONTENTS * COUNT_COST)


def test_a_composition_that_the_volume_forbids_forbids_nothing(model):
    model.composition = {"C": 400.0}
    assert contents_doubts(model) == []


@pytest.mark.parametrize(("d_min", "believed"), [(1.2, True), (1.5, False)])
def test_alerts_c_forbid_a_solution_where_elements_can_hide(model, d_min, believed):
    model.f_sq = model.f_sq.resolution_filter(d_min=d_min)
    model.refine("to the limit")
    poor = replace(model.result, wr2=0.27)
    solved, doubts = judge(model, poor, 0.1, -0.1)
    assert solved is believed
    assert doubts == ([] if believed else ["wR2 0.270"])


def test_the_highest_peaks_are_the_strongest_scatterers():
    powers = {"Cu": 29, "S": 16, "C": 6}
    found = elements_in_order(
        [5, 40, 7, 15], [1, 0.5, 1, 1], {"Cu": 0.5, "S": 1.0, "C": 1.0}, powers.get
    )
    assert found == ["C", "Cu", "C", "S"]


def test_parameters_take_their_share_of_a_wrong_fit(model):
    assert not is_hopeless(model)
