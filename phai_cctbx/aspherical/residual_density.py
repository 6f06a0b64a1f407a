"""What the model leaves over: extrema and fractal dimension of the residual density.

Fractal dimension plot: K. Meindl & J. Henn, Acta Cryst. A64, 404-418 (2008). Noise alone
gives a parabola that is symmetric about zero density and reaches almost 3 there; shoulders
are structure that the model does not describe.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# cctbx
from cctbx import miller

from phai_cctbx.refinement.maps import difference_coefficients

GRID_RESOLUTION_FACTOR = 0.25
"""Grid spacing over d_min."""

N_LEVELS = 101
"""Iso-surfaces of the fractal-dimension plot."""


@dataclass(frozen=True)
class ResidualDensity:
    """The residual density of a refinement, e/A^3.

    Attributes
    ----------
    peak, hole, rms : float
    gross_electrons : float
        Half the integral of the absolute density over the cell, e.
    levels, dimension : numpy.ndarray
        Density and fractal dimension of its iso-surface.
    """

    peak: float
    hole: float
    rms: float
    gross_electrons: float
    levels: np.ndarray
    dimension: np.ndarray


def analyse_residual(refinement, f_sq: miller.array) -> ResidualDensity:
    """Residual density of a refinement against its data.

    Parameters
    ----------
    refinement : RefinementResult
    f_sq : miller.array
        The intensities it was refined against.
    """
    coefficients = difference_coefficients(refinement, f_sq)
    density = density_map(coefficients)
    levels = np.linspace(density.min(), density.max(), N_LEVELS + 2)[1:-1]
    volume = f_sq.unit_cell().volume()
    return ResidualDensity(
        peak=float(density.max()),
        hole=float(density.min()),
        rms=float(density.std()),
        gross_electrons=float(np.abs(density).mean() * volume / 2),
        levels=levels,
        dimension=np.array([fractal_dimension(density, level) for level in levels]),
    )


def density_map(coefficients: miller.array) -> np.ndarray:
    """Density over one cell, e/A^3, on a grid with even numbers of points."""
    fft_map = coefficients.fft_map(
        resolution_factor=GRID_RESOLUTION_FACTOR, mandatory_factors=(2, 2, 2)
    )
    fft_map.apply_volume_scaling()
    return fft_map.real_map_unpadded(in_place=False).as_numpy_array()


def fractal_dimension(density: np.ndarray, level: float) -> float:
    """Box-counting dimension of an iso-surface of a periodic density, from two box sizes."""
    small = boxes_crossed(density, level, 1)
    large = boxes_crossed(density, level, 2)
    return float(np.log2(small / large)) if small and large else 0.0


def boxes_crossed(density: np.ndarray, level: float, size: int) -> int:
    """Boxes of `size` grid steps on whose grid points the density is on both sides of a level."""
    above = density > level
    some, every = above, above
    for axis in range(3):
        for _ in range(size):
            some = some | np.roll(some, -1, axis)
            every = every & np.roll(every, -1, axis)
    crossed = some & ~every
    return int(np.count_nonzero(crossed[::size, ::size, ::size]))
