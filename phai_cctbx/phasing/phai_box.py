"""A P 21/c crystal in the box of indices that PhAI's network sees, and the answers taken out."""

from __future__ import annotations

from itertools import product

import numpy as np
import torch

# cctbx
from cctbx import miller, sgtbx

from phai_cctbx.network.phai import sphere_indices
from phai_cctbx.phasing.normalisation import reference_operator

#: Allowed origins of P 1 21/c 1.
ORIGINS = np.array(list(product((0.0, 0.5), repeat=3)))
#: Largest multiple of one axis added to another in the search for the shortest cell.
_MOST_STEPS = 2


class PhaiBox:
    """Amplitudes of a crystal in the order of the network.

    A reflection (h, k, 0) with h > 0 has two places: (-h, k, 0) is its mate by symmetry, with the
    phase plus k * 180 degrees. In training both were filled, and so they are here.

    Parameters
    ----------
    f_obs : cctbx.miller.array
        Unique amplitudes in P 1 21/c 1, standard asymmetric unit, inside the sphere of indices.

    Attributes
    ----------
    amplitudes : torch.Tensor, shape (1, 1205)
    weight : numpy.ndarray, shape (n,)
        |F|^2 times multiplicity, its sum 1.
    """

    def __init__(self, f_obs: miller.array):
        hkl = np.array(f_obs.indices())
        place = {tuple(index): n for n, index in enumerate(sphere_indices().tolist())}
        self._place = np.array([place[tuple(index)] for index in hkl.tolist()])
        self._has_mate = (hkl[:, 2] == 0) & (hkl[:, 0] > 0)
        mates = (hkl[self._has_mate] * [-1, 1, 1]).tolist()
        self._place_of_mate = np.array([place[tuple(index)] for index in mates], dtype=int)
        self._sign_of_mate = np.where(hkl[self._has_mate, 1] % 2 == 0, 1.0, -1.0)
        f = f_obs.data().as_numpy_array()
        values = np.zeros(len(place), dtype=np.float32)
        values[self._place] = f
        values[self._place_of_mate] = f[self._has_mate]
        self.amplitudes = torch.from_numpy(values)[None]
        multiplicity = f_obs.space_group().multiplicity(f_obs.indices(), False)
        weight = multiplicity.as_numpy_array() * f**2
        self.weight = weight / weight.sum()
        self._signs_of_origins = np.cos(2 * np.pi * (ORIGINS @ hkl.T)).round()

    def log_odds(self, of_places: np.ndarray) -> np.ndarray:
        """Log odds of the reflections from those of all places, (s, 1205) -> (s, n).

        Where two places speak of one reflection, their mean is taken.
        """
        log_odds = of_places[:, self._place]
        of_mates = of_places[:, self._place_of_mate] * self._sign_of_mate
        log_odds[:, self._has_mate] = (log_odds[:, self._has_mate] + of_mates) / 2
        return log_odds

    def agreement(self, log_odds: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """r of several starts, shape (s, n), with one of them, each on its best origin."""
        weighted = np.sign(log_odds) * np.sign(reference) * self.weight
        return (weighted @ self._signs_of_origins.T).max(1)


def shortest_cell_operator(f_obs: miller.array) -> sgtbx.change_of_basis_op:
    """Change of basis from any setting of P 21/c to P 1 21/c 1 on the shortest axes, beta >= 90.

    The lattice leaves a choice: a may be replaced by a + n c, and c by c + 2 n a, with the glide
    still along c. The network's box of indices holds most reflections where the axes are short,
    and the choice makes all descriptions of a crystal one.
    """
    to_reference = reference_operator(f_obs)
    cell = f_obs.unit_cell().change_basis(to_reference)
    best = None
    steps = range(-_MOST_STEPS, _MOST_STEPS + 1)
    for p, q, r, s in product(steps, repeat=4):
        determinant = p * s - q * r
        if abs(determinant) != 1 or r % 2:
            continue
        operator = sgtbx.change_of_basis_op(f"{p:+d}*a{q:+d}*c,{determinant:+d}*b,{r:+d}*a{s:+d}*c")
        a, _, c, _, beta, _ = cell.change_basis(operator).parameters()
        key = (round(a + c, 6), beta < 90.0 - 1e-6, operator.as_xyz() != "x,y,z", operator.as_xyz())
        if best is None or key < best[0]:
            best = key, operator
    return best[1] * to_reference
