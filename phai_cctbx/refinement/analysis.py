"""Hand and absolute structure of a refined acentric crystal.

Three estimates of the share x of the inverted structure: Parsons' quotients (Parsons, Flack &
Wagner, Acta Cryst. B69, 249, 2013), Hooft's Bayesian analysis of Bijvoet differences (Hooft,
Straver & Spek, J. Appl. Cryst. 41, 96, 2008) as in smtbx, and whether they mean anything.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# cctbx
from cctbx import miller, xray
from libtbx.utils import Sorry
from smtbx import absolute_structure as smtbx_absolute_structure

MIN_PAIRS = 10
"""Fewest Bijvoet pairs that say anything about the hand."""

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
    """

    parsons: float
    parsons_esd: float
    hooft: float
    hooft_esd: float
    n_pairs: int

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


def change_hand(structure: xray.structure) -> xray.structure | None:
    """The inverted structure; None where that needs another space group (P 31 and P 32)."""
    inverted = structure.change_hand()
    if inverted.space_group() != structure.space_group():
        return None
    return inverted
