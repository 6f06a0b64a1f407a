"""A first guess of the atoms in a map that is too blurred to show them.

At 2 A peaks are no atoms: bonded ones melt together, and series termination makes others. Yet what
the strongest atom explains can be taken away before the next one is looked for (matching pursuit:
Mallat & Zhang, IEEE Trans. Signal Process. 41, 3397, 1993; in aperture synthesis known as CLEAN:
Hogbom, Astron. Astrophys. Suppl. 15, 417, 1974). The atoms are some tenths of an A away from where
they belong, near enough for `phai_cctbx.phasing.atoms` to move them there.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

# cctbx
from cctbx import sgtbx
from cctbx.array_family import flex

from phai_cctbx.phasing.atom_target import SHARE_TOLERANCE, SMALLEST_SHARE, AtomTarget

#: Spacing of the map over d_min.
GRID = 0.2
#: Atoms are at least this far (A) from each other and each other's images.
APART = 1.15
#: An atom on a special position is at most this far (A) from the point of the map it was seen at.
NEAR_POSITION = 0.5
#: Random places that give the mean square of a structure factor.
_N_PLACES = 256


def atoms_of_map(target: AtomTarget, f_map: np.ndarray) -> Tensor:
    """One set of atoms, heaviest first, each where what is left of the map is most like it.

    Parameters
    ----------
    target : AtomTarget
        Of the atoms that are sought.
    f_map : numpy.ndarray of complex, shape (n_reflections,)
        Coefficients of the map: |F_obs| with phases, weighted by their confidence.

    Returns
    -------
    Tensor, shape (n_atoms, 3)
        Cartesian, A.
    """
    rest = _RestOfMap(target, f_map)
    sites = []
    for atom in range(target.n_atoms):
        density = rest.like(atom)
        on_position = target.on_position(atom, rest.points)
        near = (on_position - rest.points).norm(dim=1) <= NEAR_POSITION
        if torch.isfinite(density[near]).any():
            density = density.masked_fill(~near, -np.inf)
        # else the cell is crowded there: the atom goes anywhere, tempering finds a place for it
        sites.append(on_position[density.argmax()])
        rest.without(atom, sites[-1])
    return torch.stack(sites)


def shares_in_map(target: AtomTarget, f_map: np.ndarray) -> tuple[list[str], list[float]]:
    """Elements and shares of a general position of the atoms, as a map shows them.

    What its contents tell as one atom of the asymmetric unit may be two halves on inversion
    centres. An atom so near to a special position that it would meet its own image is on it.

    Parameters
    ----------
    target : AtomTarget
        Of atoms with other shares.
    f_map : numpy.ndarray of complex, shape (n_reflections,)
        As for `atoms_of_map`.
    """
    rest = _RestOfMap(target, f_map)
    cell, group = target.f_obs.unit_cell(), target.f_obs.space_group()
    elements, shares = [], []
    for element in dict.fromkeys(target.elements):
        of_element = [i for i, other in enumerate(target.elements) if other == element]
        atom = of_element[0]
        left = sum(target.shares[i] for i in of_element)
        while left > SMALLEST_SHARE:
            place = rest.points[rest.like(atom).argmax()] @ target.fractionalisation.T
            symmetry = sgtbx.site_symmetry(cell, group, place.tolist(), APART)
            share = symmetry.multiplicity() / group.order_z()
            if share < left + SHARE_TOLERANCE:
                place = torch.tensor(symmetry.exact_site(), dtype=torch.float32)
            else:
                share = left
            elements.append(element)
            shares.append(share)
            site = place @ target.orthogonalisation.T
            rest.without(atom, site, share / target.shares[atom])
            left -= share
    return elements, shares


class _RestOfMap:
    """What atoms that were found leave of a map.

    Attributes
    ----------
    points : Tensor, shape (n, 3)
        Of the whole cell, Cartesian, A.
    """

    def __init__(self, target, f_map):
        self.target = target
        self.factors = target.factors.numpy().astype(float)
        self.sharpening = 1.0 / np.sqrt((self.factors**2).mean(1))
        self.scale = _scale(target, self.factors)
        self.coefficients = np.array(f_map)
        shape = self._density(0).shape
        axes = [torch.arange(n, dtype=torch.float32) / n for n in shape]
        fractions = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, 2)
        self.points = fractions @ target.orthogonalisation.T
        self.free = torch.ones(len(self.points), dtype=torch.bool)

    def _density(self, atom):
        coefficients = self.coefficients * self.factors[:, atom] * self.sharpening
        data = flex.complex_double(np.ascontiguousarray(coefficients))
        array = self.target.f_obs.customized_copy(data=data, sigmas=None)
        return array.fft_map(resolution_factor=GRID).real_map_unpadded().as_numpy_array()

    def like(self, atom):
        """How much the map is like an atom at each point, -inf where there are others."""
        return torch.tensor(self._density(atom)).flatten().masked_fill(~self.free, -np.inf)

    def without(self, atom, site, factor=1.0):
        """Takes what an atom, times a factor, explains away from the map."""
        of_atom = self.target.waves(site[None]).numpy()[:, 0] * self.factors[:, atom]
        self.coefficients = self.coefficients - factor * self.scale * of_atom
        self.free &= self.target.distance_to_images(self.points, site) > APART


def _scale(target, factors):
    """Of amplitudes over calculated ones, from their mean squares where atoms are anywhere."""
    generator = torch.Generator().manual_seed(0)
    anywhere = torch.rand(_N_PLACES, 3, generator=generator) @ target.orthogonalisation.T
    of_wave = target.waves(anywhere).abs().square().mean(1).numpy().astype(float)
    expected = (of_wave * (factors**2).sum(1)).sum()
    return np.sqrt(target.amplitude.square().sum().item() / expected)
