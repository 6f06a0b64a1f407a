import numpy as np
import pytest

# cctbx
from cctbx.array_family import flex

from phai_cctbx.phasing.peak_model import PeakModel
from phai_cctbx.phasing.scoring import score_r


def r_of(phases, f_obs, f_calc):
    return score_r(f_obs.phase_transfer(flex.double(phases)), f_calc).r


@pytest.mark.parametrize("symbol", ["P-1", "P21", "Pna21", "I41/a:2", "P-42m"])
def test_point_atoms_have_the_structure_factors_of_cctbx(random_crystal, symbol):
    _, f_obs, f_calc = random_crystal(symbol, n_atoms=6, d_min=1.0)
    model = PeakModel(f_obs)
    peaks = model.peaks(model.e_map(np.exp(1j * np.angle(f_calc.data().as_numpy_array()))))
    e_calc = model.e_calc(peaks)
    reference = f_obs.structure_factors_from_scatterers(peaks, algorithm="direct").f_calc()
    reference = reference.data().as_numpy_array() / np.sqrt(
        f_obs.epsilons().data().as_numpy_array()
    )
    scale = np.abs(reference).sum() / np.abs(e_calc).sum()
    assert np.abs(e_calc * scale - reference).max() < 1e-6 * np.abs(reference).max()
    assert np.mean(np.abs(e_calc) ** 2) == pytest.approx(1)


def test_the_peaks_of_right_phases_are_the_atoms(random_crystal):
    structure, f_obs, f_calc = random_crystal("P 1 21/n 1")
    model = PeakModel(f_obs)
    peaks = model.peaks(model.e_map(np.exp(1j * np.angle(f_calc.data().as_numpy_array()))))
    found = 0
    for site in structure.sites_frac():
        equivalents = [operation * site for operation in structure.space_group().all_ops()]
        distance = min(
            structure.unit_cell().mod_short_distance(peak, other)
            for peak in peaks.sites_frac()
            for other in equivalents
        )
        found += distance < 0.2
    assert found == structure.scatterers().size()


@pytest.mark.parametrize("symbol", ["P-1", "P212121"])
def test_held_out_amplitudes_tell_right_from_wrong(random_crystal, disturbed, symbol):
    _, f_obs, f_calc = random_crystal(symbol, n_atoms=16)
    model = PeakModel(f_obs)
    right = model.judge(disturbed(f_calc, 0.3))
    rng = np.random.default_rng(0)
    random_phases = np.pi * rng.integers(0, 2, f_obs.size())
    wrong = model.judge(random_phases)
    assert right.cc_held_out > 0.75
    assert wrong.cc_held_out < 0.2
    # What is not held out is fitted even by wrong peaks.
    assert wrong.cc > wrong.cc_held_out
    assert right.probability_right > 0.9 > 0.01 > wrong.probability_right


@pytest.mark.parametrize("symbol", ["P 1 21/c 1", "P212121", "Pna21"])
def test_recycled_peaks_correct_phases(random_crystal, disturbed, symbol):
    _, f_obs, f_calc = random_crystal(symbol, n_atoms=16)
    phases = disturbed(f_calc, 0.9)
    model = PeakModel(f_obs)
    recycled, cc = model.recycle(phases)
    assert r_of(phases, f_obs, f_calc) < 0.9
    assert r_of(recycled, f_obs, f_calc) > 0.95
    assert cc > 0.8
    polished = model.polish(recycled)
    assert r_of(polished, f_obs, f_calc) > 0.97


def test_confidence_is_the_expected_cosine(random_crystal, disturbed):
    _, f_obs, f_calc = random_crystal("P212121", n_atoms=16)
    model = PeakModel(f_obs)
    recycled, _ = model.recycle(disturbed(f_calc, 0.6))
    result = model.result(recycled, "test", 0)
    r = score_r(result.f_phased, f_calc).r
    assert result.expected_r == pytest.approx(r, abs=0.08)
    wrong = model.result(np.random.default_rng(0).uniform(0, 6, f_obs.size()), "test", 0)
    assert wrong.expected_r < 0.3


def test_atoms_on_special_positions_fill_less_of_the_cell(random_crystal):
    _, f_obs, _ = random_crystal("P-42m", n_atoms=3)
    model = PeakModel(f_obs, composition={"C": 3.0, "H": 40.0})
    structure = model.peaks(model.e_map(np.ones(f_obs.size())))
    # All phases zero: the highest peak is at the origin, multiplicity 1.
    assert structure.scatterers()[0].multiplicity() == 1
    copies = [scatterer.multiplicity() for scatterer in structure.scatterers()]
    assert sum(copies[:-1]) < 3 <= sum(copies)


@pytest.mark.parametrize("symbol", ["P 1 21/c 1", "P212121"])
def test_peaks_explain_more_with_missing_reflections_calculated(
    random_crystal, without_strongest, symbol
):
    _, f_obs, f_calc = random_crystal(symbol, n_atoms=12, d_min=1.2)
    measured = without_strongest(f_obs, 0.1)
    model = PeakModel(measured)
    assert model.everything.size() == f_obs.size()
    assert model.everything.indices()[: model.n_measured].all_eq(measured.indices())
    factors = np.exp(1j * np.angle(f_calc.common_set(measured).data().as_numpy_array()))

    def cc(structure):
        return np.corrcoef(model.e_values, np.abs(model.e_calc(structure)))[0, 1]

    left_out, calculated = cc(model.peaks(model.e_map(factors))), cc(model.atoms(factors))
    assert left_out + 0.03 < calculated > 0.92


def test_recycled_peaks_bear_strong_reflections_that_lack(
    random_crystal, disturbed, without_strongest
):
    _, f_obs, f_calc = random_crystal("P212121", n_atoms=16)
    measured = without_strongest(f_obs, 0.08)
    f_measured = f_calc.common_set(measured)
    recycled, _ = PeakModel(measured).recycle(disturbed(f_measured, 0.7))
    assert r_of(recycled, measured, f_measured) > 0.95
