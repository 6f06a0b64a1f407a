"""Low-density elimination in the space group, from phases that are known.

Phases of unique reflections are expanded by symmetry, synthesised, modified and analysed again,
so that symmetry holds in every cycle and the origin never moves. After Shiono & Woolfson, Acta
Cryst. A48, 451, 1992, in the form of Tanaka et al. (2001), as in smtbx.
"""

from __future__ import annotations

import numpy as np
from scipy import fft

# cctbx
from cctbx import miller

from phai_cctbx.phasing.symmetrisation import point_operations

#: Reference density of low-density elimination over the mean positive density.
_RHO_C_SHARE = 0.2


class SymmetricMap:
    """Synthesis and analysis between unique reflections and a grid over the whole cell.

    Parameters
    ----------
    miller_set : cctbx.miller.set
        Unique reflections, no Friedel mates.
    points_per_d_min : float
        Grid points per d_min.
    """

    def __init__(self, miller_set: miller.set, points_per_d_min: float = 2.5):
        indices = np.array(miller_set.indices(), dtype=int)
        cell = np.array(miller_set.unit_cell().parameters()[:3])
        limits = self._limits(miller_set)
        n_real = np.maximum(cell / miller_set.d_min() * points_per_d_min, 2 * limits + 1)
        self.shape = tuple(fft.next_fast_len(int(np.ceil(n)), real=True) for n in n_real)
        targets, sources, factors, conjugated = [], [], [], []
        for rotation, translation in point_operations(miller_set.space_group()):
            turned = indices @ rotation
            # F(hR) = F(h) exp(-2 pi i h.t)
            factor = np.exp(-2j * np.pi * (indices @ translation))
            for sign in (1, -1):
                hkl = sign * turned
                half = (hkl[:, 2] >= 0) & (hkl[:, 2] <= self.shape[2] // 2)
                targets.append(hkl[half] % self.shape)
                sources.append(np.flatnonzero(half))
                factors.append(factor[half] if sign == 1 else factor[half].conj())
                conjugated.append(np.full(np.count_nonzero(half), sign == -1))
        self._half_shape = (*self.shape[:2], self.shape[2] // 2 + 1)
        targets = np.concatenate(targets)
        flat = np.ravel_multi_index(tuple(targets.T), self._half_shape)
        flat, first = np.unique(flat, return_index=True)
        self._targets = flat
        self._sources = np.concatenate(sources)[first]
        self._factors = np.concatenate(factors)[first]
        self._conjugated = np.concatenate(conjugated)[first]
        # Where each unique reflection, or its Friedel mate, lies in the half grid.
        mate = (indices % self.shape)[:, 2] > self.shape[2] // 2
        stored = np.where(mate[:, None], -indices, indices) % self.shape
        self._unique = np.ravel_multi_index(tuple(stored.T), self._half_shape)
        self._unique_is_mate = mate

    @staticmethod
    def _limits(miller_set):
        cell = miller_set.unit_cell()
        return np.array(cell.max_miller_indices(miller_set.d_min() * 0.999), dtype=int)

    def synthesis(self, f: np.ndarray) -> np.ndarray:
        """Density (arbitrary units, no F(000)) of structure factors of the unique reflections."""
        values = f[self._sources]
        values = np.where(self._conjugated, values.conj(), values) * self._factors
        half = np.zeros(np.prod(self._half_shape), dtype=complex)
        half[self._targets] = values
        return fft.irfftn(half.reshape(self._half_shape), s=self.shape)

    def analysis(self, density: np.ndarray) -> np.ndarray:
        """Structure factors of the unique reflections, the inverse of `synthesis`."""
        values = fft.rfftn(density).ravel()[self._unique]
        return np.where(self._unique_is_mate, values.conj(), values)


def eliminate_low_density(density: np.ndarray) -> np.ndarray:
    """Negative density removed, low density damped, high density kept."""
    positive = np.maximum(density, 0.0)
    rho_c = _RHO_C_SHARE * positive[positive > 0].mean()
    return positive * (1 - np.exp(-0.5 * (positive / rho_c) ** 2))
