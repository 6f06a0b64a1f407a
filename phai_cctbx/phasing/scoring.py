"""How well two sets of phases agree, whatever origin and hand each of them is on.

The one measure of success of the project: `score_r`, the correlation of the two maps
(Larsen, Rekis & Madsen, Science 385, 522, 2024, count r > 0.95 as solved).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# cctbx
from cctbx import miller
from libtbx.utils import Sorry

from phai_cctbx.phasing.origins import (
    allowed_origin_shifts,
    change_hand,
    hand_is_free,
    shift_origin,
)
from phai_cctbx.phasing.wave_sums import maximise

#: A structure counts as phased above this (Larsen, Rekis & Madsen, 2024).
R_SOLVED = 0.95


@dataclass(frozen=True)
class OriginMatch:
    """How one phase set has to be moved to agree best with another.

    Attributes
    ----------
    r : float
        Sum of w cos(phase difference) over sum of w after the move, -1 to 1.
    shift : tuple of 3 floats
        Fractional origin shift, applied after the change of hand.
    inverted : bool
        Whether the hand was changed first.
    """

    r: float
    shift: tuple[float, float, float]
    inverted: bool


def score_r(f_phased: miller.array, f_calc: miller.array) -> OriginMatch:
    """Best agreement of `f_phased` with the reference `f_calc` over allowed origins and hands.

    r = max over shifts s and hands of
        sum m |F|^2 cos(phi + 2 pi h.s - phi_calc) / sum m |F|^2,

    with F from `f_phased` (the observed amplitudes), the phases phi_calc of `f_calc`, m the
    multiplicity of the reflection in P1, over the reflections that both hold. That is the
    correlation of the two maps with the observed amplitudes. Polar directions are searched by a
    fast Fourier transform and refined by Newton steps.

    The hand is tried where inversion keeps the space group. In the 11 enantiomorphic pairs it is
    not free: `f_phased` in P 41 against `f_calc` in P 43 is inverted, and two sets in P 41 are
    compared as they are.

    Parameters
    ----------
    f_phased, f_calc : cctbx.miller.array
        Complex, in the same setting of the same space group, or of enantiomorphic partners.

    Raises
    ------
    libtbx.utils.Sorry
        If the symmetries differ otherwise, or no reflection is common.
    """
    reference, candidate, must_invert = _comparable(f_phased, f_calc)
    group = reference.space_group()
    freedom = allowed_origin_shifts(group)
    indices = reference.indices().as_vec3_double().as_numpy_array()
    multiplicity = group.multiplicity(reference.indices(), False).as_numpy_array()
    calc_phases = np.angle(reference.data().as_numpy_array())
    best = None
    for inverted in (True,) if must_invert else (False, True) if hand_is_free(group) else (False,):
        moved = (change_hand(candidate) if inverted else candidate).data().as_numpy_array()
        weight = multiplicity * np.abs(moved) ** 2
        if weight.sum() == 0:
            raise Sorry("All amplitudes of the phased reflections are zero: nothing to compare.")
        terms = weight * np.exp(1j * (np.angle(moved) - calc_phases)) / weight.sum()
        r, shift = _best_shift(indices, terms, freedom)
        if best is None or r > best.r:
            best = OriginMatch(r=r, shift=tuple(float(x) for x in shift % 1.0), inverted=inverted)
    return best


def apply_match(f_phased: miller.array, match: OriginMatch) -> miller.array:
    """`f_phased` moved onto the origin and hand of the reference it was matched with."""
    moved = change_hand(f_phased) if match.inverted else f_phased
    return shift_origin(moved, match.shift)


def mean_phase_error(f_phased: miller.array, f_calc: miller.array) -> float:
    """Mean absolute phase difference in degrees, weighted by m |F|, on the best origin and hand.

    0 for identical phases, 90 for random ones. The origin is the one of `score_r`.
    """
    moved = apply_match(f_phased, score_r(f_phased, f_calc))
    reference, candidate = _unique(f_calc).common_sets(_unique(moved))
    group = reference.space_group()
    data = candidate.data().as_numpy_array()
    weight = group.multiplicity(reference.indices(), False).as_numpy_array() * np.abs(data)
    difference = np.abs(np.angle(data * np.conj(reference.data().as_numpy_array())))
    return float(np.degrees((weight * difference).sum() / weight.sum()))


def _comparable(f_phased, f_calc):
    """Common unique reflections of both, and whether only the other hand can agree."""
    for name, array in (("f_phased", f_phased), ("f_calc", f_calc)):
        if not array.is_complex_array():
            raise Sorry(f"{name} holds no phases: complex structure factors are needed.")
    candidate, reference = _unique(f_phased), _unique(f_calc)
    must_invert = False
    if candidate.space_group() != reference.space_group():
        if change_hand(candidate).space_group() != reference.space_group():
            raise Sorry(
                f"Phases in {candidate.space_group_info()} cannot be compared with phases in"
                f" {reference.space_group_info()}: change one of them to the setting of the other."
            )
        must_invert = True
    # The partner's symmetry changes nothing in which reflections are unique.
    matched = miller.match_indices(reference.indices(), candidate.indices()).pairs()
    if matched.size() == 0:
        raise Sorry("The two sets of phases have no reflection in common.")
    return reference.select(matched.column(0)), candidate.select(matched.column(1)), must_invert


def _unique(f):
    if f.anomalous_flag():
        f = f.average_bijvoet_mates()
    f = f.map_to_asu()
    if not f.is_unique_set_under_symmetry():
        f = f.merge_equivalents().array()
    return f


def _best_shift(indices, terms, freedom):
    """Maximise Re sum terms exp(2 pi i h.s) over the allowed shifts s: (value, shift)."""
    directions = freedom.continuous
    frequencies = np.rint(indices @ directions.T).astype(int)
    best_value, best_shift = -np.inf, np.zeros(3)
    for discrete in freedom.discrete:
        rotated = terms * np.exp(2j * np.pi * (indices @ discrete))
        if len(directions) == 0:
            value, position = float(rotated.real.sum()), np.zeros(0)
        else:
            value, position = maximise(frequencies, rotated)
        if value > best_value:
            best_value, best_shift = value, discrete + position @ directions
    return best_value, best_shift
