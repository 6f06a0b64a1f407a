"""Grid points of the asymmetric unit, up to origin shifts by half axes.

A uniform grid over the cell, chosen so that the space group and its allowed
origin shifts map it onto itself. Of the points that the space group and its
`half_shifts` map onto each other one is kept, weighted by their number. The
kept points and their copies by all half shifts stand for the cell: its mean is
the weighted sum over the kept points of the means over their copies.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from phai_cctbx.network.space_groups import SpaceGroup, space_group


def grid_size(group: SpaceGroup, unit_cell: np.ndarray, step: float) -> tuple[int, int, int]:
    """Numbers of grid points along the axes with steps of at most `step` A.

    Parameters
    ----------
    group : SpaceGroup
        Its `grid_factors` are the divisors that symmetry asks for, 2 is that of
        axes with a half shift; axes that symmetry exchanges (`equal_gridding`)
        get equal numbers.
    unit_cell : ndarray, shape (6,)
    step : float
        Largest distance of neighbouring points along an axis, A.
    """
    size = np.zeros(3, dtype=int)
    halved = np.where(group.half_shifts.any(0), 2, 1)
    for first in np.unique(group.equal_gridding):
        together = group.equal_gridding == first
        factor = int(np.lcm.reduce([*group.grid_factors[together], *halved[together]]))
        longest = np.asarray(unit_cell)[:3][together].max()
        size[together] = factor * int(np.ceil(longest / (step * factor) - 1e-9))
    return tuple(int(n) for n in size)


@lru_cache(maxsize=4096)
def asymmetric_unit_points(number: int, size: tuple[int, int, int]):
    """One grid point of each orbit of the group and its half shifts, and the share of
    the cell it stands for.

    Parameters
    ----------
    number : int
        Space-group number, reference setting.
    size : tuple of int
        Grid points along the axes, as `grid_size` gives them.

    Returns
    -------
    points : ndarray of float32, shape (g, 3)
        Fractional coordinates.
    weights : ndarray of float32, shape (g,)
        They sum to 1.

    Raises
    ------
    ValueError
        Where symmetry does not map the grid onto itself.
    """
    group = space_group(number)
    size = np.array(size)
    axes = [np.arange(n) for n in size]
    nodes = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    strides = np.array([size[1] * size[2], size[2], 1])
    representative = nodes @ strides
    scaled_rotations = group.rotations * size[:, None] / size[None, :]
    lattice = (group.centring[:, None] + group.half_shifts).reshape(-1, 3)
    for centring in lattice:
        for rotation, translation in zip(scaled_rotations, group.translations, strict=True):
            offset = (translation + centring) * size
            if np.abs(rotation - np.round(rotation)).max() > 1e-6 or (
                np.abs(offset - np.round(offset)).max() > 1e-3
            ):
                raise ValueError(f"grid {tuple(size)} does not fit space group {number}")
            image = nodes @ np.round(rotation).astype(int).T + np.round(offset).astype(int)
            representative = np.minimum(representative, np.mod(image, size) @ strides)
    kept, counts = np.unique(representative, return_counts=True)
    points = nodes[kept] / size
    return points.astype(np.float32), (counts / len(nodes)).astype(np.float32)
