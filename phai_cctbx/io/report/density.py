"""Densities for pictures: a map over the cell, points and boxes of it, contour lines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

# cctbx
from cctbx import miller

#: Grid points per d_min of the map that is interpolated from, and its largest spacing in A.
_POINTS_PER_D_MIN, _LARGEST_SPACING = 3.0, 0.3
#: Grid points of a box at most, and its spacing in A: d_min over a number, between two limits.
_MOST_BOX_POINTS = 120_000
_BOX_POINTS_PER_D_MIN, _FINEST, _COARSEST = 3.5, 0.25, 0.35

#: Crossed edges of a square, from the corners above the level (bits 1, 2, 4, 8 for the corners
#: (0,0), (1,0), (1,1), (0,1); edge i joins corner i to the next): marching squares.
_CROSSED = {
    1: [(3, 0)], 2: [(0, 1)], 3: [(3, 1)], 4: [(1, 2)], 5: [(3, 0), (1, 2)], 6: [(0, 2)],
    7: [(3, 2)], 8: [(2, 3)], 9: [(2, 0)], 10: [(0, 1), (2, 3)], 11: [(2, 1)], 12: [(1, 3)],
    13: [(1, 0)], 14: [(0, 3)],
}  # fmt: skip
_CORNERS = np.array([(0, 0), (1, 0), (1, 1), (0, 1)])


class CellMap:
    """A density over the unit cell, to be read anywhere.

    Parameters
    ----------
    coefficients : miller.array
        Complex Fourier coefficients, electrons (scattering lengths for neutrons).

    Attributes
    ----------
    values : numpy.ndarray
        Over one cell, e/A^3.
    unit_cell : uctbx.unit_cell
    d_min : float
    sigma : float
        Root mean square deviation of the map, e/A^3.
    """

    def __init__(self, coefficients: miller.array):
        d_min = coefficients.d_min()
        fft_map = coefficients.fft_map(
            resolution_factor=min(1 / _POINTS_PER_D_MIN, _LARGEST_SPACING / d_min)
        )
        fft_map.apply_volume_scaling()
        self.values = fft_map.real_map_unpadded(in_place=False).as_numpy_array()
        self.unit_cell = coefficients.unit_cell()
        self.d_min = d_min
        self.sigma = float(self.values.std())
        self._spline = ndimage.spline_filter(self.values, mode="grid-wrap")

    def at(self, points) -> np.ndarray:
        """Density at Cartesian points (A), shape (..., 3)."""
        points = np.asarray(points, dtype=float)
        to_fractional = np.array(self.unit_cell.fractionalization_matrix()).reshape(3, 3)
        grid = (points @ to_fractional.T) * self.values.shape
        return ndimage.map_coordinates(
            self._spline, grid.reshape(-1, 3).T, mode="grid-wrap", prefilter=False
        ).reshape(points.shape[:-1])


def principal_axes(sites) -> np.ndarray:
    """Directions of largest to least extent of Cartesian sites, rows of a right-handed frame."""
    axes = np.linalg.svd(sites - sites.mean(axis=0), full_matrices=True)[2]
    axes[2] *= np.sign(np.linalg.det(axes))
    return axes


@dataclass(frozen=True)
class Box:
    """Grid of a box.

    Attributes
    ----------
    axes : numpy.ndarray, shape (3, 3)
        Its directions, orthonormal rows.
    origin : numpy.ndarray
        Its corner in the frame of these axes, A.
    step : float
        A.
    shape : tuple of int
    """

    axes: np.ndarray
    origin: np.ndarray
    step: float
    shape: tuple[int, int, int]

    @classmethod
    def around(cls, sites, margin: float, d_min: float) -> Box:
        """The box along the principal axes of Cartesian sites that holds them all.

        It is as fine as the resolution asks and its size allows.
        """
        axes = principal_axes(sites)
        placed = sites @ axes.T
        low, high = placed.min(axis=0) - margin, placed.max(axis=0) + margin
        step = float(np.clip(d_min / _BOX_POINTS_PER_D_MIN, _FINEST, _COARSEST))
        step = max(step, float(np.prod(high - low) / _MOST_BOX_POINTS) ** (1 / 3))
        shape = tuple(int(n) for n in np.ceil((high - low) / step).astype(int) + 1)
        return cls(axes, low, step, shape)

    def points(self) -> np.ndarray:
        """Cartesian grid points, shape (nx, ny, nz, 3)."""
        axes = [low + self.step * np.arange(n) for low, n in zip(self.origin, self.shape)]
        return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1) @ self.axes


def contour(values, level: float) -> np.ndarray:
    """Pieces of the contour line of a level, in grid units.

    Parameters
    ----------
    values : numpy.ndarray, shape (nx, ny)
    level : float

    Returns
    -------
    numpy.ndarray, shape (n, 2, 2)
        (piece, end, coordinate).
    """
    nx, ny = values.shape
    corners = [values[i : nx - 1 + i, j : ny - 1 + j] - level for i, j in _CORNERS]
    case = sum((corner > 0).astype(int) << bit for bit, corner in enumerate(corners))
    pieces = [np.zeros((0, 2, 2))]
    for number, edges in _CROSSED.items():
        where = np.argwhere(case == number)
        if where.size == 0:
            continue
        at = [corner[where[:, 0], where[:, 1]] for corner in corners]
        for pair in edges:
            ends = []
            for edge in pair:
                first, second = edge, (edge + 1) % 4
                share = at[first] / (at[first] - at[second])
                step = _CORNERS[second] - _CORNERS[first]
                ends.append(where + _CORNERS[first] + share[:, None] * step)
            pieces.append(np.stack(ends, axis=1))
    return np.concatenate(pieces)
