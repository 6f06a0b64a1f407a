import pytest

# cctbx
from cctbx.array_family import flex

from phai_cctbx.phasing.extension import extend_phases
from phai_cctbx.phasing.result import PhasingResult
from phai_cctbx.phasing.scoring import score_r


def as_result(f_obs, phases, d_min=0.0, confidence=0.8, **options):
    chosen = f_obs.d_spacings().data() >= d_min
    f_phased = f_obs.phase_transfer(flex.double(phases)).select(chosen)
    sure = f_phased.array(data=flex.double(f_phased.size(), confidence))
    return PhasingResult(f_phased, sure, strategy="given", **options)


@pytest.mark.parametrize("symbol", ["P-1", "P 1 21/c 1", "P212121", "Pna21"])
@pytest.mark.parametrize("noise", [0.2, 0.6])
def test_phases_to_2_angstrom_grow_to_all_data(random_crystal, disturbed, symbol, noise):
    _, f_obs, f_calc = random_crystal(symbol, n_atoms=16, seed=1)
    known = as_result(f_obs, disturbed(f_calc, noise), d_min=2.0)
    grown = extend_phases(f_obs, known)
    assert grown.f_phased.size() == f_obs.size() > 5 * known.f_phased.size()
    assert score_r(grown.f_phased, f_calc).r > 0.95
    assert grown.figures_of_merit["probability_right"] > 0.9
    assert grown.strategy == "given"


def test_a_later_candidate_is_tried_when_the_first_is_wrong(random_crystal, disturbed):
    _, f_obs, f_calc = random_crystal("P212121", n_atoms=16, seed=1)
    right = as_result(f_obs, disturbed(f_calc, 0.3), d_min=2.0)
    wrong = as_result(f_obs, disturbed(f_calc, 20.0), d_min=2.0, alternatives=(right,))
    grown = extend_phases(f_obs, wrong)
    assert score_r(grown.f_phased, f_calc).r > 0.95
    assert grown.alternatives


def test_what_is_good_is_not_made_worse(random_crystal):
    _, f_obs, f_calc = random_crystal("P21", n_atoms=12, d_min=1.5)
    perfect = as_result(f_obs, f_calc.phases().data().as_numpy_array(), confidence=1.0)
    grown = extend_phases(f_obs, perfect)
    assert score_r(grown.f_phased, f_calc).r > 0.93


def test_strong_reflections_that_lack_do_not_stop_the_growth(random_crystal, without_strongest):
    _, f_obs, f_calc = random_crystal("P 1 21/c 1", n_atoms=16, d_min=1.2)
    measured = without_strongest(f_obs, 0.05)
    f_measured = f_calc.common_set(measured)
    phases = f_measured.phases().data().as_numpy_array()
    grown = extend_phases(measured, as_result(measured, phases, d_min=2.0))
    assert score_r(grown.f_phased, f_measured).r > 0.95
