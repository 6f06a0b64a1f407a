"""Symmetry and absolute structure of a refined crystal.

Missed symmetry is looked for in the structure factors in P1 by cctbx (symmetry search of
Palatinus & van der Lee, J. Appl. Cryst. 41, 975, 2008), and checked against the intensities.
Estimates of the share x of the inverted structure: Parsons' quotients (Parsons, Flack &
Wagner, Acta Cryst. B69, 249, 2013), Hooft's Bayesian analysis of Bijvoet differences (Hooft,
Straver & Spek, J. Appl. Cryst. 41, 96, 2008) as in smtbx.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

# cctbx
from cctbx import miller, sgtbx, symmetry_search
from libtbx.utils import Sorry
from smtbx import absolute_structure as smtbx_absolute_structure

MIN_PAIRS = 10
"""Fewest Bijvoet pairs that say anything about the hand."""

SYMMETRY_D_MIN = 1.0
"""Resolution (A) at which symmetry is looked for: enough for atoms, and quick."""

MAX_R_MERGE = 0.20
"""Largest disagreement of intensities that true additional symmetry makes equivalent."""

LARGEST_DENOMINATOR = 6
"""Translations of centred lattices are multiples of 1/2 or 1/3; combined, of 1/6."""

MAX_ABSENT_SHARE = 0.01
"""Part of all intensity that reflections absent by a centring may have, as noise."""

DECISIVE_ESD = 0.3
"""Standard uncertainty of x up to which the hand can be told (at 3 sigma, x = 0 from 1)."""

MIN_QUOTIENT = 1e-5
"""Calculated Bijvoet quotients below this carry no information."""


@dataclass(frozen=True)
class AbsoluteStructure:
    """Share of the inverted structure: 0 where the hand is right, 1 where it is wrong.

    Attributes
    ----------
    parsons, parsons_esd : float
        From intensity quotients; nan where there are too few.
    hooft, hooft_esd : float
        From Bijvoet differences.
    n_pairs : int
        Bijvoet pairs used.
    flack, flack_esd : float
        Refined with the structure; nan where it was not.
    """

    parsons: float
    parsons_esd: float
    hooft: float
    hooft_esd: float
    n_pairs: int
    flack: float = float("nan")
    flack_esd: float = float("nan")

    @property
    def x(self) -> tuple[float, float, str]:
        """The more precise of the refined x and that of Parsons, its esd, and how it was found."""
        refined = (self.flack, self.flack_esd, "refined as a twin by inversion (Flack, 1983)")
        quotients = (
            self.parsons,
            self.parsons_esd,
            "from quotients [(I+)-(I-)]/[(I+)+(I-)] (Parsons, Flack & Wagner, 2013)",
        )
        known = [each for each in (refined, quotients) if np.isfinite(each[1])]
        return min(known, key=lambda each: each[1], default=refined)

    @property
    def decisive(self) -> bool:
        """True where the data can tell the hands apart."""
        return self.hooft_esd < DECISIVE_ESD

    @property
    def inverted(self) -> bool:
        """True where the data say that the hand is wrong."""
        return self.decisive and self.hooft > 0.5 and 1 - self.hooft < 3 * self.hooft_esd + 0.2


def absolute_structure(
    f_calc: miller.array, f_sq: miller.array, scale_factor: float
) -> AbsoluteStructure | None:
    """Estimate the absolute structure.

    Parameters
    ----------
    f_calc : miller.array
        Complex, Friedel mates apart, with f''.
    f_sq : miller.array
        Intensities with sigmas, Friedel mates apart; the same indices.
    scale_factor : float
        f_sq = scale_factor |f_calc|^2.

    Returns
    -------
    AbsoluteStructure or None
        None for centrosymmetric groups and where no mates were measured apart.
    """
    if f_sq.space_group().is_centric() or not f_sq.anomalous_flag():
        return None
    f_calc, f_sq = f_calc.common_sets(f_sq)
    acentric = ~f_sq.centric_flags().data()
    f_calc, f_sq = f_calc.select(acentric), f_sq.select(acentric)
    if f_sq.n_bijvoet_pairs() < MIN_PAIRS:
        return None
    try:
        hooft = smtbx_absolute_structure.hooft_analysis(
            f_sq.set_observation_type_xray_intensity(), f_calc, scale_factor=scale_factor
        )
    except (Sorry, ZeroDivisionError, RuntimeError):
        return None
    parsons, parsons_esd = _parsons(f_calc, f_sq)
    return AbsoluteStructure(
        parsons=parsons,
        parsons_esd=parsons_esd,
        hooft=hooft.hooft_y,
        hooft_esd=hooft.sigma_y,
        n_pairs=hooft.n_bijvoet_pairs,
    )


def _parsons(f_calc: miller.array, f_sq: miller.array) -> tuple[float, float]:
    """x and its esd from quotients (I+ - I-) / (I+ + I-), observed = (1 - 2x) calculated."""
    plus, minus = f_sq.hemispheres_acentrics()
    calc_plus, calc_minus = f_calc.as_intensity_array().hemispheres_acentrics()
    i_plus, i_minus = np.array(plus.data()), np.array(minus.data())
    s_plus, s_minus = np.array(plus.sigmas()), np.array(minus.sigmas())
    c_plus, c_minus = np.array(calc_plus.data()), np.array(calc_minus.data())
    total = i_plus + i_minus
    strong = total > 3 * np.hypot(s_plus, s_minus)
    calculated = (c_plus - c_minus) / np.maximum(c_plus + c_minus, 1e-12)
    strong &= np.abs(calculated) > MIN_QUOTIENT
    if strong.sum() < MIN_PAIRS:
        return float("nan"), float("nan")
    total, calculated = total[strong], calculated[strong]
    observed = (i_plus - i_minus)[strong] / total
    sigma = 2 * np.hypot(i_minus[strong] * s_plus[strong], i_plus[strong] * s_minus[strong])
    weight = (total**2 / np.maximum(sigma, 1e-12)) ** 2
    for _ in range(2):
        slope = np.sum(weight * observed * calculated) / np.sum(weight * calculated**2)
        deviation = np.sqrt(weight) * np.abs(observed - slope * calculated)
        weight = np.where(deviation > 5 * max(np.median(deviation) * 1.48, 1e-12), 0.0, weight)
    spread = np.sum(weight * (observed - slope * calculated) ** 2) / max(len(weight) - 1, 1)
    esd = np.sqrt(max(spread, 1.0) / np.sum(weight * calculated**2))
    return float((1 - slope) / 2), float(esd / 2)


class SymmetrySearch(symmetry_search.structure_factor_symmetry):
    """The search of cctbx, with translations that make the lattice a centred one alone.

    A heavy atom with its image correlates as a centring does, between any two fractions of the
    cell, and ends cctbx's own search with an AssertionError. The intensities tell them apart: those
    that a centring forbids are zero.
    """

    def centring_translation_peak_sites(self):
        """Fractional translations, each a multiple of one fraction of the cell."""
        sites = np.array(super().centring_translation_peak_sites()).reshape(-1, 3)
        return [tuple(site) for site in sites if self._is_centring(site)]

    def _is_centring(self, site) -> bool:
        fractions = [Fraction(x).limit_denominator(LARGEST_DENOMINATOR) for x in site]
        translation = np.array([float(x) for x in fractions])
        if len({x.denominator for x in fractions if x}) > 1:
            return False
        path = np.array(self.f_in_p1.indices()) @ translation
        forbidden = np.abs(path - np.round(path)) > 0.5 / LARGEST_DENOMINATOR
        intensities = np.abs(np.array(self.f_in_p1.data())) ** 2
        return intensities[forbidden].sum() < MAX_ABSENT_SHARE * intensities.sum()


@dataclass(frozen=True)
class MissedSymmetry:
    """A space group of higher symmetry than the one a structure was refined in.

    Attributes
    ----------
    space_group : str
        Symbol, in the axes of the P1 cell of the structure.
    r_merge : float
        Agreement of the intensities that the additional symmetry makes equivalent.
    """

    space_group: str
    r_merge: float


def missed_symmetry(f_calc: miller.array, f_sq: miller.array) -> MissedSymmetry | None:
    """Symmetry that the structure factors have beyond their space group.

    Parameters
    ----------
    f_calc : miller.array
        Complex structure factors of the refined structure.
    f_sq : miller.array
        Observed intensities; they have to agree with the additional symmetry.

    Returns
    -------
    MissedSymmetry or None
    """
    if f_sq.anomalous_flag():
        f_calc, f_sq = f_calc.average_bijvoet_mates(), f_sq.average_bijvoet_mates()
    d_min = max(SYMMETRY_D_MIN, f_calc.d_min())
    in_p1 = f_calc.resolution_filter(d_min=d_min).primitive_setting().expand_to_p1()
    found = SymmetrySearch(in_p1)
    space_group = found.space_group_info.group()
    if space_group.order_p() <= f_calc.space_group().order_p():
        return None
    centred = sgtbx.space_group("P 1").change_basis(found.cb_op_to_primitive.inverse())
    candidate = (
        f_sq.primitive_setting()
        .expand_to_p1()
        .customized_copy(space_group_info=centred.info(), sigmas=None)
        .eliminate_sys_absent()
        .change_basis(found.cb_op_to_primitive)
        .customized_copy(space_group_info=found.space_group_info)
    )
    r_merge = candidate.map_to_asu().merge_equivalents().r_merge()
    if r_merge > MAX_R_MERGE:
        return None
    return MissedSymmetry(str(found.space_group_info), float(r_merge))
