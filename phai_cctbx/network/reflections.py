"""Unique reflections of a space group and what symmetry says of each of them.

Conventions are those of International Tables B: F(h) = sum_j f_j exp(2 pi i h.x_j),
so that F(hR) = F(h) exp(-2 pi i h.t) for a symmetry operation (R, t).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from phai_cctbx.network.space_groups import SpaceGroup, space_group

#: Translations are multiples of 1/24; a phase shift below this is no shift.
TRANSLATION_TOLERANCE = 1e-3


@dataclass(frozen=True)
class ReflectionSymmetry:
    """What the space group says of each reflection.

    Attributes
    ----------
    epsilon : ndarray of float, shape (n,)
        Number of operations, modulo centring, that leave h as it is.
    centric : ndarray of bool, shape (n,)
        True where some operation takes h to -h.
    restricted_phase : ndarray of float, shape (n,)
        For centric reflections the phase modulo pi, in radians; else 0.
    absent : ndarray of bool, shape (n,)
        Systematically absent.
    """

    epsilon: np.ndarray
    centric: np.ndarray
    restricted_phase: np.ndarray
    absent: np.ndarray

    def select(self, selection: np.ndarray) -> ReflectionSymmetry:
        return ReflectionSymmetry(
            self.epsilon[selection],
            self.centric[selection],
            self.restricted_phase[selection],
            self.absent[selection],
        )


def reflection_symmetry(group: SpaceGroup, hkl: np.ndarray) -> ReflectionSymmetry:
    """Multiplicity factor, centricity, phase restriction and absence of each h.

    Parameters
    ----------
    group : SpaceGroup
    hkl : ndarray of int, shape (n, 3)
    """
    hkl = np.asarray(hkl, dtype=np.int64)
    n_reflections = len(hkl)
    epsilon = np.zeros(n_reflections)
    centric = np.zeros(n_reflections, dtype=bool)
    restricted_phase = np.zeros(n_reflections)
    absent = np.zeros(n_reflections, dtype=bool)
    for rotation, translation in zip(group.rotations, group.translations, strict=True):
        rotated = hkl @ rotation
        shift = hkl @ translation
        fixed = (rotated == hkl).all(1)
        epsilon += fixed
        absent |= fixed & (np.abs(shift - np.round(shift)) > TRANSLATION_TOLERANCE)
        inverted = (rotated == -hkl).all(1)
        restricted_phase = np.where(
            inverted & ~centric, np.pi * np.mod(shift, 1.0), restricted_phase
        )
        centric |= inverted
    for translation in group.centring:
        shift = hkl @ translation
        absent |= np.abs(shift - np.round(shift)) > TRANSLATION_TOLERANCE
    return ReflectionSymmetry(epsilon, centric, restricted_phase, absent)


@lru_cache(maxsize=512)
def unique_reflections(number: int, h_max: tuple[int, int, int]):
    """All unique, possible reflections of a box of indices, F000 left out.

    Friedel mates count as equivalent.

    Parameters
    ----------
    number : int
        Space-group number, reference setting.
    h_max : tuple of int
        Largest |h|, |k|, |l|.

    Returns
    -------
    hkl : ndarray of int, shape (n, 3)
    symmetry : ReflectionSymmetry
    """
    group = space_group(number)
    axes = [np.arange(-m, m + 1) for m in h_max]
    hkl = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    base = 4 * max(h_max) + 3
    weights = np.array([1, base, base * base])
    own = hkl @ weights
    largest = np.abs(own)
    for rotation in group.rotations:
        largest = np.maximum(largest, np.abs((hkl @ rotation) @ weights))
    hkl = hkl[(own == largest) & (own > 0)]
    symmetry = reflection_symmetry(group, hkl)
    present = ~symmetry.absent
    return hkl[present], symmetry.select(present)


def reciprocal_metric(unit_cell: np.ndarray) -> np.ndarray:
    """Reciprocal metric tensor, A^-2, of cells (a, b, c, alpha, beta, gamma).

    Parameters
    ----------
    unit_cell : ndarray, shape (..., 6)
        Lengths in A, angles in degrees.

    Returns
    -------
    ndarray, shape (..., 3, 3)
    """
    return np.linalg.inv(direct_metric(unit_cell))


def direct_metric(unit_cell: np.ndarray) -> np.ndarray:
    """Metric tensor, A^2, of cells (a, b, c, alpha, beta, gamma), shape (..., 3, 3)."""
    unit_cell = np.asarray(unit_cell, dtype=float)
    a, b, c = (unit_cell[..., i] for i in range(3))
    cos_alpha, cos_beta, cos_gamma = (np.cos(np.radians(unit_cell[..., i])) for i in range(3, 6))
    rows = [
        [a * a, a * b * cos_gamma, a * c * cos_beta],
        [a * b * cos_gamma, b * b, b * c * cos_alpha],
        [a * c * cos_beta, b * c * cos_alpha, c * c],
    ]
    return np.stack([np.stack(row, -1) for row in rows], -2)


def d_star(unit_cell: np.ndarray, hkl: np.ndarray) -> np.ndarray:
    """1/d, A^-1, of each reflection, shape (n,)."""
    metric = reciprocal_metric(unit_cell)
    return np.sqrt(np.maximum(np.einsum("ni,ij,nj->n", hkl, metric, hkl), 0.0))


def indices_to(unit_cell: np.ndarray, d_min: float) -> tuple[int, int, int]:
    """Largest |h|, |k|, |l| of the reflections with d >= d_min."""
    lengths = np.sqrt(np.diagonal(direct_metric(unit_cell)))
    return tuple(int(np.floor(length / d_min + 1e-9)) for length in lengths)
