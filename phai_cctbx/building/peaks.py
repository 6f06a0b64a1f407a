"""Symmetry-unique peaks of a Fourier map, with sub-grid positions.

Peaks closer to a special position than the resolution can tell apart are put
onto it, so that an atom there is found once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# cctbx
from cctbx import maptbx, miller
from cctbx.array_family import flex

GRID_STEPS_PER_D_MIN = 4
"""Grid points per d_min: quadratic interpolation then finds a peak to within 0.02 A."""

MIN_PEAK_DISTANCE = 0.75
"""Distance (A) below which two peaks of a map count as one: less than any bond without H."""


@dataclass(frozen=True)
class Peaks:
    """Peaks of a map, highest first.

    Attributes
    ----------
    sites : flex.vec3_double
        Fractional coordinates; peaks on special positions lie on them exactly.
    heights : numpy.ndarray, shape (n,)
        Density at the peak, in units of the map (e/A^3 for absolute coefficients).
    sigma : float
        Root mean square of the map, same units.
    """

    sites: flex.vec3_double
    heights: np.ndarray
    sigma: float

    def __len__(self) -> int:
        return len(self.heights)


def fourier_map(coefficients: miller.array, steps_per_d_min: float = GRID_STEPS_PER_D_MIN):
    """Synthesise a map (density per A^3) on a grid that has the symmetry of the crystal.

    Friedel mates that stand apart are averaged.
    """
    if coefficients.anomalous_flag():
        coefficients = coefficients.average_bijvoet_mates()
    fft_map = coefficients.fft_map(
        resolution_factor=1 / steps_per_d_min,
        symmetry_flags=maptbx.use_space_group_symmetry,
    )
    fft_map.apply_volume_scaling()
    return fft_map


def find_peaks(
    coefficients: miller.array,
    n_peaks: int,
    min_distance: float = MIN_PEAK_DISTANCE,
    negative: bool = False,
) -> Peaks:
    """Find the highest symmetry-unique peaks of a map.

    Parameters
    ----------
    coefficients : miller.array
        Complex map coefficients.
    n_peaks : int
        Largest number of peaks to return.
    min_distance : float
        Closest approach (A) of two peaks, symmetry equivalents included.
    negative : bool
        Search the holes instead (nuclei of negative scattering length); their
        heights are then returned negative, deepest first.

    Returns
    -------
    Peaks
    """
    if negative:
        coefficients = coefficients.customized_copy(data=-coefficients.data())
    fft_map = fourier_map(coefficients)
    found = fft_map.peak_search(
        parameters=maptbx.peak_search_parameters(
            peak_search_level=1,
            interpolate=True,
            min_distance_sym_equiv=min_distance,
            min_cross_distance=min_distance,
            max_clusters=n_peaks,
        ),
        verify_symmetry=False,
    ).all()
    heights = np.array(found.heights())
    return Peaks(
        sites=flex.vec3_double(found.sites()),
        heights=-heights if negative else heights,
        sigma=fft_map.statistics().sigma(),
    )
