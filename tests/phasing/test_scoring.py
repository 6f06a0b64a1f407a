import random

import numpy as np
import pytest

# cctbx
from cctbx import sgtbx
from cctbx.array_family import flex
from cctbx.development import random_structure
from libtbx.utils import Sorry

from phai_cctbx.phasing.origins import (
    allowed_origin_shifts,
    change_hand,
    hand_is_free,
    shift_origin,
)
from phai_cctbx.phasing.scoring import apply_match, mean_phase_error, score_r

# Every crystal system, lattice and Laue class, polar along none, one, two or three directions,
# centres of inversion away from the origin, enantiomorphic pairs, non-standard settings.
SPACE_GROUPS = (
    "P1 P-1 P2 P21 C2 Pm Pc Cm Cc P21/c C2/c P222 P212121 C2221 I222 I212121 F222 Pna21 Pca21"
    " Fdd2 Fmm2 Pbca Pnma P4 P41 P43 I4 I41 P-4 I-4 I41/a:1 I41/a:2 P41212 I4122 I41md I-42d"
    " P3 P31 R3:H R3:R R-3:H P3121 P31m P3m1 R3c:H R3m:R P6 P61 P65 P-6 P6cc F23 P213 I213 F-43m"
    " P4132 P4332 Ia-3d Fd-3m:1 Fd-3m:2"
).split() + ["P 1 21/n 1", "I 1 2 1", "A 1 2 1", "P 21 21 2"]


def structure_in(symbol, n_atoms=4, seed=0):
    random.seed(seed)
    flex.set_random_seed(seed)
    return random_structure.xray_structure(
        sgtbx.space_group_info(symbol),
        elements=["C"] * n_atoms,
        volume_per_atom=40,
        min_distance=1.0,
        general_positions_only=True,
        random_u_iso=True,
    )


def f_calc_of(structure, d_min=1.3):
    return structure.structure_factors(d_min=d_min, algorithm="direct").f_calc()


@pytest.mark.parametrize("symbol", SPACE_GROUPS)
def test_the_same_structure_elsewhere_scores_one(symbol):
    structure = structure_in(symbol)
    reference = f_calc_of(structure)
    freedom = allowed_origin_shifts(structure.space_group())
    rng = np.random.default_rng(1)
    shift = freedom.discrete[rng.integers(len(freedom.discrete))]
    shift = shift + rng.random(len(freedom.continuous)) @ freedom.continuous
    moved = structure.apply_shift(tuple(float(x) for x in shift))
    free = hand_is_free(structure.space_group())
    if free:
        moved = moved.change_hand()
    # Computed anew from the atoms, so that the group must really allow the move.
    candidate = f_calc_of(moved)
    match = score_r(candidate, reference)
    assert match.r == pytest.approx(1.0, abs=1e-6)
    assert match.inverted == free
    back = apply_match(candidate, match).common_set(reference)
    largest = flex.max(flex.abs(reference.data()))
    assert flex.max(flex.abs(back.data() - reference.data())) < 1e-4 * largest


@pytest.mark.parametrize("symbol", ["P-1", "P21/c", "P212121", "Pna21", "C2", "I41/a:2", "P31"])
def test_random_phases_score_low(symbol):
    reference = f_calc_of(structure_in(symbol, n_atoms=12), d_min=0.9)
    rng = np.random.default_rng(2)
    scores = []
    for _ in range(5):
        phases = rng.uniform(0, 2 * np.pi, reference.size())
        if reference.space_group().is_centric():
            phases = np.pi * rng.integers(0, 2, reference.size())
        scores.append(score_r(reference.phase_transfer(flex.double(phases)), reference).r)
    # Field experience at full resolution: 0.07 to 0.31.
    assert max(scores) < 0.35


def test_centrosymmetric_shifts_are_the_eight_half_cells():
    freedom = allowed_origin_shifts(sgtbx.space_group_info("P 1 21/c 1").group())
    assert freedom.continuous.shape == (0, 3)
    halves = {tuple(shift) for shift in freedom.discrete}
    assert halves == {(x, y, z) for x in (0, 0.5) for y in (0, 0.5) for z in (0, 0.5)}


@pytest.mark.parametrize(
    ("symbol", "n_discrete", "polar"),
    [("P1", 1, 3), ("Pc", 2, 2), ("P41", 2, 1), ("R3:H", 1, 1), ("Fdd2", 1, 1), ("I222", 4, 0)],
)
def test_number_of_free_origins(symbol, n_discrete, polar):
    freedom = allowed_origin_shifts(sgtbx.space_group_info(symbol).group())
    assert len(freedom.discrete) == n_discrete
    assert len(freedom.continuous) == polar


def test_hand_of_an_enantiomorphic_pair_changes_the_group():
    structure = structure_in("P 41 21 2")
    reference = f_calc_of(structure)
    mirror = f_calc_of(structure.change_hand())
    assert mirror.space_group_info().type().lookup_symbol() == "P 43 21 2"
    assert change_hand(reference).space_group() == mirror.space_group()
    match = score_r(mirror, reference)
    assert match.inverted
    assert match.r == pytest.approx(1.0, abs=1e-6)
    # Mirrored phases that are wrongly kept in the group of the reference do not count as solved.
    wrong = mirror.customized_copy(crystal_symmetry=reference)
    assert score_r(wrong, reference).r < 0.8


def test_r_is_the_correlation_of_the_maps():
    reference = f_calc_of(structure_in("P212121", n_atoms=8), d_min=1.0)
    noise = np.random.default_rng(5).normal(0, 0.8, reference.size())
    phases = np.angle(reference.data().as_numpy_array()) + noise
    phased = reference.phase_transfer(flex.double(phases))
    match = score_r(phased, reference)
    # Parseval's theorem in P1: the correlation of two maps without F(000).
    first = apply_match(phased, match).expand_to_p1().data().as_numpy_array()
    second = reference.expand_to_p1().data().as_numpy_array()
    correlation = np.sum(first * second.conj()).real
    correlation /= np.sqrt(np.sum(np.abs(first) ** 2) * np.sum(np.abs(second) ** 2))
    assert match.r == pytest.approx(correlation, abs=1e-9)


def test_mean_phase_error_after_a_known_rotation():
    reference = f_calc_of(structure_in("P21", n_atoms=20), d_min=0.9)
    rng = np.random.default_rng(6)
    error = np.radians(30) * rng.choice([-1, 1], reference.size())
    # Centric phases can only be right or wrong: right here.
    error[reference.centric_flags().data().as_numpy_array()] = 0
    phases = np.angle(reference.data().as_numpy_array()) + error
    phased = shift_origin(reference.phase_transfer(flex.double(phases)), (0.5, 0.123, 0))
    group = reference.space_group()
    weight = group.multiplicity(reference.indices(), False).as_numpy_array()
    weight = weight * np.abs(reference.data().as_numpy_array())
    expected = np.degrees((weight * np.abs(error)).sum() / weight.sum())
    assert mean_phase_error(phased, reference) == pytest.approx(expected, abs=0.5)


def test_friedel_mates_and_order_do_not_matter():
    structure = structure_in("P21")
    reference = f_calc_of(structure)
    anomalous = structure.structure_factors(
        d_min=1.3, anomalous_flag=True, algorithm="direct"
    ).f_calc()
    shuffled = anomalous.select(flex.random_permutation(anomalous.size()))
    assert score_r(shuffled, reference).r == pytest.approx(1.0, abs=1e-9)


def test_other_space_group_is_refused():
    with pytest.raises(Sorry, match="cannot be compared"):
        score_r(f_calc_of(structure_in("P21")), f_calc_of(structure_in("Pc")))


def test_no_common_reflection_is_refused():
    reference = f_calc_of(structure_in("P-1"))
    half = reference.size() // 2
    with pytest.raises(Sorry, match="no reflection in common"):
        score_r(reference[:half], reference[half:])
