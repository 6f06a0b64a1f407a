"""Phases found in P 1 brought onto an origin where the symmetry of the space group holds.

Density modification in P 1 finds a structure anywhere in the cell. The shift that makes its
phases obey the symmetry operations is the maximum of one Fourier synthesis (Palatinus & van der
Lee, J. Appl. Cryst. 41, 975, 2008, search the same agreement in direct space).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# cctbx
from cctbx import miller, sgtbx
from cctbx.array_family import flex

from phai_cctbx.phasing.wave_sums import climb, maximise

#: The first search uses reflections down to this d (A): the finer ones only refine the origin.
_SEARCH_D_MIN = 1.3


@dataclass(frozen=True)
class Symmetrised:
    """Phases on an origin of the space group.

    Attributes
    ----------
    f_phased : cctbx.miller.array
        |F_obs| with the phase of the mean over equivalents, reflections of `f_obs`.
    consistency : numpy.ndarray, shape (n,)
        Length of the mean of the unit phase vectors over equivalents, 0 to 1.
    agreement : float
        Mean cosine of the phase differences between equivalents, weighted by |F|^2.
    """

    f_phased: miller.array
    consistency: np.ndarray
    agreement: float


def symmetrise(f_p1: miller.array, f_obs: miller.array) -> Symmetrised:
    """Move phases in P 1 to the origin where they obey the space group of `f_obs` best.

    In the 11 enantiomorphic pairs the inverted phases are tried too: phasing in P 1 cannot know
    which of the two groups was given.

    Parameters
    ----------
    f_p1 : cctbx.miller.array
        Complex, P 1, all equivalents of `f_obs` (no Friedel mates).
    f_obs : cctbx.miller.array
        Amplitudes in the space group, unique reflections of the standard asymmetric unit.
    """
    operations = point_operations(f_obs.space_group())
    sphere = _Sphere(f_p1)
    candidates = [sphere]
    if f_obs.space_group().type().is_enantiomorphic():
        candidates.append(sphere.inverted())
    fits = [
        (*_best_origin(candidate, operations, f_obs.unit_cell()), candidate)
        for candidate in candidates
    ]
    agreement, shift, sphere = max(fits, key=lambda fit: fit[0])
    indices = np.array(f_obs.indices(), dtype=int)
    mean = np.zeros(len(indices), dtype=complex)
    for rotation, translation in operations:
        turned = indices @ rotation
        value = sphere.look_up(turned)
        unit = value / np.maximum(np.abs(value), np.finfo(float).tiny)
        mean += unit * np.exp(2j * np.pi * (turned @ shift + indices @ translation))
    mean /= len(operations)
    phases = flex.double(np.angle(mean))
    return Symmetrised(
        f_phased=f_obs.discard_sigmas().phase_transfer(phases),
        consistency=np.abs(mean),
        agreement=agreement,
    )


def point_operations(space_group: sgtbx.space_group) -> list[tuple[np.ndarray, np.ndarray]]:
    """(rotation, translation) of one operation for every operation of the point group."""
    operations = []
    for i_inv in range(space_group.f_inv()):
        for i_smx in range(space_group.n_smx()):
            operation = space_group(0, i_inv, i_smx)
            rotation = np.array(operation.r().as_double()).reshape(3, 3).round().astype(int)
            operations.append((rotation, np.array(operation.t().as_double())))
    return operations


class _Sphere:
    """Structure factors of the whole sphere in a box, for look-up by any index."""

    def __init__(self, f_p1):
        self.indices = np.array(f_p1.indices(), dtype=int)
        self.values = f_p1.data().as_numpy_array()
        limits = np.abs(self.indices).max(axis=0)
        self.box = np.zeros(tuple(2 * limits + 1), dtype=complex)
        self.box[tuple(self.indices.T)] = self.values
        self.box[tuple(-self.indices.T)] = self.values.conj()

    def inverted(self):
        other = object.__new__(_Sphere)
        other.indices, other.values = self.indices, self.values.conj()
        other.box = self.box.conj()
        return other

    def look_up(self, indices):
        limits = (np.array(self.box.shape) - 1) // 2
        inside = np.all(np.abs(indices) <= limits, axis=1)
        found = np.zeros(len(indices), dtype=complex)
        found[inside] = self.box[tuple(indices[inside].T)]
        return found


def _best_origin(sphere, operations, unit_cell):
    """(agreement, shift): F(hR) exp(2 pi i h.t) = F(h) for the shifted structure."""
    frequencies, terms, weight, d_spacings = [], [], 0.0, []
    d_of_index = np.array(unit_cell.d(flex.miller_index(sphere.indices.tolist())))
    for rotation, translation in operations:
        if np.array_equal(rotation, np.eye(3)):
            continue
        turned = sphere.indices @ rotation
        phase = np.exp(2j * np.pi * (sphere.indices @ translation))
        term = sphere.values.conj() * sphere.look_up(turned) * phase
        frequencies.append(turned - sphere.indices)
        terms.append(term)
        d_spacings.append(d_of_index)
        weight += np.abs(term).sum()
    if not terms or weight == 0:
        return 1.0, np.zeros(3)
    frequencies, terms = np.concatenate(frequencies), np.concatenate(terms) / weight
    coarse = np.concatenate(d_spacings) >= min(_SEARCH_D_MIN, d_of_index.max())
    _, start = maximise(frequencies[coarse], terms[coarse], oversampling=2.5)
    return climb(frequencies, terms, start)
