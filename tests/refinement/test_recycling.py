"""Approximate phases to atoms."""

import numpy as np
import pytest

# cctbx
from cctbx import miller
from cctbx.array_family import flex

from phai_cctbx.refinement.comparison import compare
from phai_cctbx.refinement.recycling import recycle, trial_structure


@pytest.fixture
def data(crystal_model):
    f_calc = crystal_model.structure_factors(d_min=0.8, algorithm="direct").f_calc()
    f_obs = f_calc.customized_copy(data=flex.abs(f_calc.data()))
    return f_obs.set_observation_type_xray_amplitude(), f_calc


def _with_wrong_signs(f_calc, share, seed=1):
    flip = np.where(np.random.default_rng(seed).random(f_calc.size()) < share, -1.0, 1.0)
    return f_calc.customized_copy(data=f_calc.data() * flex.double(flip))


def test_a_fifth_of_signs_wrong_still_gives_every_atom(data, crystal_model):
    f_obs, f_calc = data
    trial = recycle(f_obs, _with_wrong_signs(f_calc, 0.2), None, n_atoms=5)
    assert trial.cc > 0.85
    found = trial_structure(f_obs.crystal_symmetry(), trial.peaks, trial.peaks.heights)
    comparison = compare(found, crystal_model)
    assert comparison.n_missing == 0
    assert comparison.max_distance < 0.1


def test_phases_grow_from_low_resolution_to_the_end_of_the_data(data, crystal_model):
    f_obs, f_calc = data
    trial = recycle(f_obs, f_calc.resolution_filter(d_min=1.5), None, n_atoms=5)
    assert trial.cc > 0.85
    found = trial_structure(f_obs.crystal_symmetry(), trial.peaks, trial.peaks.heights)
    assert compare(found, crystal_model).n_missing == 0


def test_confidence_of_zero_silences_wrong_phases(data, crystal_model):
    f_obs, f_calc = data
    right = np.random.default_rng(5).random(f_calc.size()) < 0.6
    shuffled = f_calc.customized_copy(data=f_calc.data() * flex.double(np.where(right, 1.0, -1.0)))
    confidence = miller.array(miller_set=f_calc, data=flex.double(np.where(right, 1.0, 0.0)))
    trial = recycle(f_obs, shuffled, confidence, n_atoms=5)
    found = trial_structure(f_obs.crystal_symmetry(), trial.peaks, trial.peaks.heights)
    assert compare(found, crystal_model).n_missing == 0
