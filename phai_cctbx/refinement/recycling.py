"""Approximate phases to atom positions: peaks and phases in turns.

Peaks of an E-map become atoms weighted by their height, the atoms give phases for all
reflections, and these the next E-map (Fourier recycling, Karle, Acta Cryst. B24, 182,
1968; with Sim weights). Phases known to low resolution only grow to the end of the data.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# cctbx
from cctbx import crystal, miller, xray
from cctbx.array_family import flex

from phai_cctbx.building.peaks import MIN_PEAK_DISTANCE, Peaks, find_peaks
from phai_cctbx.refinement.maps import shells, sim_weights

U_ISO_TRIAL = 0.03
"""Displacement (A^2) of trial atoms; E-values take out what is common to all."""

SURPLUS = 1.25
"""Peaks taken per expected atom: false ones get little weight, true ones must not be missed."""

MIN_DISTANCE_PER_D_MIN = 0.65
"""Two peaks of an E-map closer than this share of d_min (Rayleigh's is 0.72) are not two atoms."""

SITES_PER_ATOM = 2
"""Sites that are looked for at most, per atom of the asymmetric unit: on special positions several
sites make one atom."""

HALF_ATOM = 0.5
"""Sites fill the asymmetric unit when they come this close to the number of atoms."""

CC_STEP = 0.002
"""Least rise of the correlation that makes another turn worth while."""

E_VALUE_MAX = 4.5
"""Larger |E| (outliers of small shells) are cut to this."""


@dataclass(frozen=True)
class TrialAtoms:
    """Peaks that explain the amplitudes best.

    Attributes
    ----------
    peaks : Peaks
        Heights relative to the median of the expected atoms.
    cc : float
        Correlation of E_obs and E_calc over all reflections, 0 to 1.
    n_turns : int
    """

    peaks: Peaks
    cc: float
    n_turns: int


class ENormaliser:
    """|E| in shells of equal count, the same shells for observed and calculated amplitudes."""

    def __init__(self, f_obs: miller.array):
        self.rows = shells(f_obs)
        self.epsilons = np.array(f_obs.epsilons().data(), dtype=float)
        self.centric = np.array(f_obs.centric_flags().data())

    def __call__(self, amplitudes: np.ndarray) -> np.ndarray:
        """Normalised amplitudes."""
        e_values = np.empty_like(amplitudes)
        for rows in self.rows:
            mean = np.mean(amplitudes[rows] ** 2 / self.epsilons[rows])
            e_values[rows] = amplitudes[rows] / np.sqrt(self.epsilons[rows] * max(mean, 1e-12))
        return np.minimum(e_values, E_VALUE_MAX)


def trial_structure(crystal_symmetry, peaks: Peaks, weights) -> xray.structure:
    """Point-like carbon atoms on peaks, with occupancies."""
    structure = xray.structure(crystal_symmetry=crystal_symmetry)
    for site, weight in zip(peaks.sites, weights, strict=True):
        structure.add_scatterer(
            xray.scatterer("C", site=site, u=U_ISO_TRIAL, occupancy=float(weight))
        )
    return structure


def site_shares(crystal_symmetry, sites) -> np.ndarray:
    """Atoms per asymmetric unit that each site stands for: 1, or less on special positions."""
    settings = crystal.special_position_settings(crystal_symmetry)
    order = crystal_symmetry.space_group().order_z()
    return np.array([settings.site_symmetry(site).multiplicity() / order for site in sites])


def n_sites_filling(shares: np.ndarray, n_atoms: float) -> int:
    """Number of sites, from the first on, that hold so many atoms (or all sites)."""
    return min(int(np.searchsorted(np.cumsum(shares), n_atoms - HALF_ATOM)) + 1, len(shares))


def recycle(
    f_obs: miller.array,
    f_phased: miller.array,
    confidence: miller.array | None,
    n_atoms: int,
    n_turns: int = 20,
    both_signs: bool = False,
) -> TrialAtoms:
    """Turn approximate phases into atom positions.

    Parameters
    ----------
    f_obs : miller.array
        Amplitudes, all of them, unique.
    f_phased : miller.array
        Complex structure factors of some or all of these reflections.
    confidence : miller.array, optional
        Expected cosines of the phase errors of `f_phased`.
    n_atoms : int
        Atoms expected in the asymmetric unit.
    n_turns : int
        Largest number of turns.
    both_signs : bool
        Atoms of negative scattering length too (neutrons).

    Returns
    -------
    TrialAtoms
        Of the turn with the best correlation.
    """
    normalise = ENormaliser(f_obs)
    e_obs = normalise(np.array(f_obs.data()))
    coefficients = _first_coefficients(f_obs, e_obs, f_phased, confidence)
    n_peaks = SITES_PER_ATOM * (int(SURPLUS * n_atoms) + 2)
    min_distance = max(MIN_PEAK_DISTANCE, MIN_DISTANCE_PER_D_MIN * f_obs.d_min())
    best = None
    stalled = 0
    for turn in range(1, n_turns + 1):
        peaks = find_peaks(coefficients, n_peaks, min_distance)
        heights = peaks.heights
        sites = peaks.sites
        if both_signs:
            holes = find_peaks(coefficients, n_peaks, min_distance, negative=True)
            sites = sites.concatenate(holes.sites)
            heights = np.concatenate([heights, holes.heights])
            strongest = np.argsort(-np.abs(heights))[:n_peaks]
            sites = sites.select(flex.size_t(strongest.tolist()))
            heights = heights[strongest]
        if not len(heights):
            break
        shares = site_shares(f_obs.crystal_symmetry(), sites)
        n_kept = n_sites_filling(shares, int(SURPLUS * n_atoms) + 2)
        sites, heights = sites[:n_kept], heights[:n_kept]
        weights = heights / abs(heights[n_sites_filling(shares[:n_kept], n_atoms / 2) - 1])
        peaks = Peaks(sites, weights, peaks.sigma)
        f_calc = f_obs.structure_factors_from_scatterers(
            trial_structure(f_obs.crystal_symmetry(), peaks, weights), algorithm="direct"
        ).f_calc()
        values = np.array(f_calc.data())
        e_calc = normalise(np.abs(values))
        cc = float(np.corrcoef(e_obs, e_calc)[0, 1])
        if best is None or cc > best.cc + CC_STEP:
            best, stalled = TrialAtoms(peaks, cc, turn), 0
        else:
            stalled += 1
            if cc > best.cc:
                best = TrialAtoms(peaks, cc, turn)
            if stalled == 3:
                break
        weight = sim_weights(e_obs, e_calc, normalise.epsilons, normalise.centric, normalise.rows)
        amplitude = np.where(
            normalise.centric, weight * e_obs, 2 * weight * e_obs - weight.mean() * e_calc
        )
        phase = values / np.maximum(np.abs(values), 1e-12)
        coefficients = miller.array(
            miller_set=f_obs.set(), data=flex.complex_double(amplitude * phase)
        )
    return best


def _first_coefficients(f_obs, e_obs, f_phased, confidence) -> miller.array:
    """E-map coefficients of the reflections that have a phase."""
    e_array = f_obs.customized_copy(data=flex.double(e_obs), sigmas=None)
    if confidence is not None:
        confidence = confidence.customized_copy(
            indices=f_phased.indices(), data=confidence.data(), sigmas=None
        )
        f_phased = f_phased.customized_copy(
            data=f_phased.data()
            / flex.polar(flex.abs(f_phased.data()) + 1e-12, 0 * flex.abs(f_phased.data()))
        )
        f_phased = f_phased.customized_copy(data=f_phased.data() * confidence.data())
    else:
        f_phased = f_phased.customized_copy(
            data=flex.polar(flex.double(f_phased.size(), 1), flex.arg(f_phased.data()))
        )
    phased, e_common = f_phased.map_to_asu().common_sets(e_array)
    return phased.customized_copy(data=phased.data() * e_common.data())
