import pytest

# cctbx
from iotbx.reflection_file_reader import any_reflection_file
from iotbx.shelx import crystal_symmetry_from_ins

from phai_cctbx.phasing.charge_flipping import ChargeFlippingPhaser
from phai_cctbx.phasing.scoring import R_SOLVED, score_r


@pytest.mark.parametrize("symbol", ["P1", "P 1 21/n 1", "P212121", "C2", "R3:R"])
def test_a_structure_at_atomic_resolution_is_solved_and_known_to_be(random_crystal, symbol):
    _, f_obs, f_calc = random_crystal(symbol, n_atoms=8, d_min=0.85)
    result = ChargeFlippingPhaser(n_starts=12)(f_obs)
    assert score_r(result.f_phased, f_calc).r > R_SOLVED
    assert result.figures_of_merit["probability_right"] > 0.9
    assert result.expected_r > 0.85
    assert result.strategy == "charge_flipping"
    assert result.f_phased.space_group() == f_obs.space_group()
    assert result.f_phased.size() == f_obs.size()
    assert f_obs.common_set(result.f_phased).size() == f_obs.size()


def test_the_same_seed_gives_the_same_phases(random_crystal):
    _, f_obs, _ = random_crystal("P21", n_atoms=6)
    first, second = (ChargeFlippingPhaser(n_starts=2, seed=5)(f_obs) for _ in range(2))
    assert first.f_phased.data().all_eq(second.f_phased.data())
    assert first.seed == 5


def test_what_cannot_be_phased_is_not_claimed(random_crystal):
    # Amplitudes in no order: no structure has them.
    _, f_obs, _ = random_crystal("P212121", n_atoms=12, d_min=1.3)
    shuffled = f_obs.customized_copy(data=f_obs.data().reversed())
    result = ChargeFlippingPhaser(n_starts=2, n_cycles=80)(
        shuffled.set_observation_type_xray_amplitude()
    )
    assert result.figures_of_merit["probability_right"] < 0.5
    assert result.expected_r < 0.5
    assert len(result.alternatives) == 1


@pytest.mark.slow
def test_measured_thpp_is_solved(thpp_folder):
    symmetry = crystal_symmetry_from_ins.extract_from(str(thpp_folder / "thpp.ins"))
    reader = any_reflection_file(f"{thpp_folder / 'thpp.hkl'}=hklf4")
    observations = reader.as_miller_arrays(crystal_symmetry=symmetry, merge_equivalents=False)[0]
    result = ChargeFlippingPhaser()(observations)
    assert result.figures_of_merit["probability_right"] > 0.9
    assert result.f_phased.size() == 2975
