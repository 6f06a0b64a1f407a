import random

import numpy as np
import pytest

# cctbx
from cctbx import crystal, miller, sgtbx
from cctbx.array_family import flex
from cctbx.development import random_structure
from iotbx.reflection_file_reader import any_reflection_file
from iotbx.shelx import crystal_symmetry_from_ins
from libtbx.utils import Sorry

from phai_cctbx.phasing import normalisation
from phai_cctbx.phasing.normalisation import normalise, prepare

B_PER_U = 8 * np.pi**2


def observations_of(symbol, d_min=1.0, n_carbon=12, u_iso=0.05, seed=0):
    """Noise-free intensities of random carbon atoms, sigma 2 % + 0.1, and the structure."""
    random.seed(seed)
    flex.set_random_seed(seed)
    structure = random_structure.xray_structure(
        sgtbx.space_group_info(symbol),
        elements=["C"] * n_carbon,
        volume_per_atom=18,
        min_distance=1.2,
        general_positions_only=True,
        u_iso=u_iso,
    )
    f_calc = structure.structure_factors(d_min=d_min, algorithm="direct").f_calc()
    f_sq = f_calc.as_intensity_array()
    f_sq = f_sq.customized_copy(sigmas=0.02 * f_sq.data() + 0.1)
    return f_sq.set_observation_type_xray_intensity(), structure


@pytest.fixture(scope="module")
def thpp(thpp_folder):
    symmetry = crystal_symmetry_from_ins.extract_from(str(thpp_folder / "thpp.ins"))
    reader = any_reflection_file(f"{thpp_folder / 'thpp.hkl'}=hklf4")
    return reader.as_miller_arrays(crystal_symmetry=symmetry, merge_equivalents=False)[0]


def test_thpp_merges_as_published(thpp):
    data = prepare(thpp)
    # 14205 measured reflections, 2975 unique, R_int 0.0544 (weights as in cctbx) in thpp.cif.
    assert data.statistics.n_observations == 14205
    assert data.statistics.n_unique == data.f_sq.size() == 2975
    assert data.statistics.r_int == pytest.approx(0.0544, abs=0.001)
    assert data.statistics.completeness == pytest.approx(1.0, abs=0.001)
    assert data.statistics.n_absences == 294
    assert data.statistics.n_negative == 187
    assert data.f_sq_anomalous is None
    assert data.warnings == ()
    shells = data.statistics.shells
    assert sum(shell.n_unique for shell in shells) == 2975
    assert shells[0].mean_i_over_sigma > shells[-1].mean_i_over_sigma
    assert shells[0].d_max > shells[0].d_min == shells[1].d_max


def test_weak_intensities_get_positive_amplitudes(thpp):
    data = prepare(thpp)
    negative = data.f_sq.data() < 0
    assert data.f_obs.indices().all_eq(data.f_sq.indices())
    assert flex.min(data.f_obs.data().select(negative)) > 0
    strong = data.f_sq.data() > 20 * data.f_sq.sigmas()
    ratio = data.f_obs.data().select(strong) / flex.sqrt(data.f_sq.data().select(strong))
    assert flex.max(flex.abs(ratio - 1)) < 0.01


@pytest.mark.parametrize("n", [1, 2, 5, 20, 60, 100])
@pytest.mark.parametrize("symbol", ["P-1", "P212121", "C2/c"])
def test_any_few_reflections_can_be_prepared_and_normalised(symbol, n):
    observations, _ = observations_of(symbol, d_min=1.5)
    few = observations.select(flex.random_permutation(observations.size())[:n])
    data = prepare(few)
    assert data.f_obs.size() == n
    e_value = normalise(data.f_obs)
    assert flex.mean_sq(e_value.data()) == pytest.approx(1.0)


def test_wilson_scale_and_b_are_those_of_the_structure():
    observations, structure = observations_of("P21/c", d_min=0.8, n_carbon=40, u_iso=0.04)
    scaled = observations.customized_copy(
        data=observations.data() * 7, sigmas=observations.sigmas() * 7
    ).set_observation_type_xray_intensity()
    data = prepare(scaled, composition={"C": 160.0})
    assert data.wilson_b == pytest.approx(0.04 * B_PER_U, rel=0.15)
    assert data.wilson_scale == pytest.approx(7, rel=0.15)


def test_wilson_scale_counts_the_lattice_translations():
    observations, _ = observations_of("C2/c", d_min=0.8, n_carbon=40)
    assert prepare(observations, composition={"C": 320.0}).wilson_scale == pytest.approx(1, rel=0.2)


def test_wilson_b_is_bounded_and_said():
    observations, _ = observations_of("P21/c")
    rising = np.exp(10 * observations.d_star_sq().data().as_numpy_array())
    steep = observations.customized_copy(
        data=observations.data() * flex.double(rising)
    ).set_observation_type_xray_intensity()
    data = prepare(steep)
    assert data.wilson_b == normalisation.WILSON_B_BOUNDS[0]
    assert any("Wilson" in warning for warning in data.warnings)


@pytest.mark.parametrize(
    ("symbol", "expected"), [("P-1", 0.968), ("P1", 0.736)], ids=["centric", "acentric"]
)
def test_e_statistics_tell_a_centre_of_symmetry(symbol, expected):
    # <|E^2 - 1|> for random atoms: Karle, Dewar & Hauptman (1957).
    observations, _ = observations_of(symbol, d_min=0.8, n_carbon=60)
    e_value = normalise(prepare(observations).f_obs)
    assert flex.mean(flex.abs(flex.pow2(e_value.data()) - 1)) == pytest.approx(expected, abs=0.05)


def test_e_values_have_no_trend_with_resolution_or_epsilon():
    observations, _ = observations_of("Pmmm", d_min=0.75, n_carbon=20, seed=2)
    e_value = normalise(prepare(observations).f_obs)
    e_sq = flex.pow2(e_value.data()).as_numpy_array()
    d_star_sq = e_value.d_star_sq().data().as_numpy_array()
    for low, high in ((0, 0.33), (0.33, 0.66), (0.66, 1)):
        in_range = (d_star_sq > low * d_star_sq.max()) & (d_star_sq <= high * d_star_sq.max())
        assert e_sq[in_range].mean() == pytest.approx(1, abs=0.15)
    epsilon = e_value.epsilons().data().as_numpy_array()
    assert e_sq[epsilon == 2].mean() == pytest.approx(1, abs=0.3)


def test_resolution_limits():
    observations, _ = observations_of("P21/c")
    data = prepare(observations, d_min=2.0, d_max=5.0)
    assert data.f_sq.d_min() >= 2.0
    assert data.f_sq.d_max_min()[0] <= 5.0
    assert data.statistics.n_outside == observations.size() - data.f_sq.size()
    assert data.statistics.completeness == pytest.approx(1.0)


def test_unusable_observations_are_counted_by_reason():
    observations, _ = observations_of("P21/c")
    values, sigmas = observations.data().deep_copy(), observations.sigmas().deep_copy()
    values[0] = float("nan")
    sigmas[1] = 0.0
    sigmas[2] = -1.0
    sigmas[3] = float("nan")
    spoiled = observations.customized_copy(data=values, sigmas=sigmas)
    data = prepare(spoiled.set_observation_type_xray_intensity())
    assert dict(data.statistics.rejected) == {
        "not a number": 1,
        "sigma not a number": 1,
        "sigma not above zero": 2,
    }
    assert data.statistics.n_rejected == 4
    assert data.f_sq.size() == observations.size() - 4


def test_strong_absences_are_warned_about():
    # Data of a structure in P -1 given as P 21/c.
    observations, _ = observations_of("P-1")
    symmetry = crystal.symmetry((7, 8, 9, 90, 100, 90), "P 1 21/c 1")
    as_monoclinic = observations.customized_copy(crystal_symmetry=symmetry)
    data = prepare(as_monoclinic.set_observation_type_xray_intensity())
    assert data.statistics.n_strong_absences > 0.5 * data.statistics.n_absences > 0
    assert any("should be absent" in warning for warning in data.warnings)


def test_friedel_mates_measured_apart_stay_apart():
    random.seed(0)
    flex.set_random_seed(0)
    structure = random_structure.xray_structure(
        sgtbx.space_group_info("P21"), elements=["C"] * 6 + ["Cl"], general_positions_only=True
    )
    structure.set_inelastic_form_factors(1.54, "sasaki")
    f_calc = structure.structure_factors(d_min=1.2, anomalous_flag=True).f_calc()
    f_sq = f_calc.as_intensity_array()
    f_sq = f_sq.customized_copy(sigmas=0.01 * f_sq.data() + 0.01)
    # HKLF 4 files are read without the anomalous flag: the indices decide.
    as_read = f_sq.customized_copy(anomalous_flag=False).set_observation_type_xray_intensity()
    data = prepare(as_read)
    assert data.f_sq_anomalous.size() == f_sq.size()
    assert data.f_sq_anomalous.anomalous_flag()
    assert not data.f_sq.anomalous_flag()
    assert data.f_sq.size() < f_sq.size()


def test_amplitudes_stay_as_given():
    observations, _ = observations_of("P21/c")
    amplitudes = observations.f_sq_as_f()
    data = prepare(amplitudes)
    assert data.f_obs.data().all_approx_equal_relatively(amplitudes.data(), 1e-6)
    assert data.f_sq.data().all_approx_equal_relatively(flex.pow2(amplitudes.data()), 1e-6)
    assert data.f_sq.is_xray_intensity_array()


def test_nothing_left_is_a_sorry():
    observations, _ = observations_of("P21/c")
    with pytest.raises(Sorry, match="No reflection is left"):
        prepare(observations, d_max=1.0)
    zero = observations.customized_copy(data=observations.data() * 0)
    with pytest.raises(Sorry, match="Wilson"):
        prepare(zero.set_observation_type_xray_intensity())


@pytest.mark.parametrize(
    "symbol", ["P 1 21/n 1", "I 1 a 1", "P -1", "R 3 :R", "F d d 2", "P b n 21"]
)
def test_reference_setting_and_back(symbol):
    _, structure = observations_of(symbol, d_min=1.5)
    f_calc = structure.structure_factors(d_min=1.5, algorithm="direct").f_calc().map_to_asu()
    reference, cb_op = normalisation.to_reference_setting(f_calc)
    if structure.space_group().type().number() > 2:
        assert reference.space_group_info().is_reference_setting()
    else:
        assert reference.unit_cell().is_niggli_cell()
    # The phases are those of the structure in the new setting (R: three cells in one).
    moved = structure.change_basis(cb_op)
    expected = reference.structure_factors_from_scatterers(moved, algorithm="direct").f_calc()
    n_cells = moved.unit_cell().volume() / structure.unit_cell().volume()
    assert flex.max(flex.abs(n_cells * reference.data() - expected.data())) < 1e-3
    shuffled = reference.select(flex.random_permutation(reference.size()))
    back = normalisation.from_reference_setting(shuffled, cb_op, like=f_calc)
    assert back.indices().all_eq(f_calc.indices())
    assert back.space_group() == f_calc.space_group()
    assert flex.max(flex.abs(back.data() - f_calc.data())) < 1e-6


@pytest.mark.parametrize("radiation", ["xray", "electron", "neutron"])
def test_every_radiation_has_form_factors(radiation):
    observations, _ = observations_of("P21/c")
    composition = {"C": 40.0, "H": 36.0, "O": 8.0}
    e_value = normalise(prepare(observations).f_obs, composition, radiation)
    assert flex.mean_sq(e_value.data()) == pytest.approx(1.0)


def test_merging_of_equivalents_gives_the_same_data_in_any_order():
    observations, _ = observations_of("P212121")
    everywhere = observations.expand_to_p1().customized_copy(crystal_symmetry=observations)
    everywhere = everywhere.set_observation_type_xray_intensity()
    data = prepare(everywhere.select(flex.random_permutation(everywhere.size())))
    assert data.statistics.redundancy > 2
    assert data.statistics.r_int == pytest.approx(0, abs=1e-6)
    merged, original = data.f_sq.common_sets(observations.map_to_asu())
    assert merged.size() == observations.size()
    assert merged.data().all_approx_equal_relatively(original.data(), 1e-6)
    assert isinstance(data.f_obs, miller.array)


def test_unique_amplitudes_stay_as_they_are_and_anything_else_is_prepared():
    observations, _ = observations_of("P212121")
    amplitudes = observations.f_sq_as_f().map_to_asu()
    same = normalisation.unique_amplitudes(amplitudes)
    assert same.indices().all_eq(amplitudes.indices())
    assert same.data().all_eq(amplitudes.data())
    everywhere = observations.expand_to_p1().customized_copy(crystal_symmetry=observations)
    merged = normalisation.unique_amplitudes(everywhere.set_observation_type_xray_intensity())
    assert merged.is_xray_amplitude_array()
    assert merged.size() == amplitudes.size()
