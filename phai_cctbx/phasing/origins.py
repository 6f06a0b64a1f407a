"""Which shifts of origin and which change of hand leave a space group as it is.

A structure and its image under one of these have the same amplitudes, so phases are determined
only up to them. The shifts are the structure-seminvariant vectors and moduli of the group
(Hauptman & Karle, Acta Cryst. 9, 45, 1956), as cctbx derives them from the symmetry operations
of any setting (Grosse-Kunstleve, Acta Cryst. A55, 383, 1999).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

# cctbx
from cctbx import miller, sgtbx
from cctbx.array_family import flex


@dataclass(frozen=True)
class OriginFreedom:
    """The allowed origin shifts of a space group, in fractions of the cell edges.

    Every allowed shift is one of `discrete` plus any real combination of `continuous`, up to
    translations of the lattice.

    Attributes
    ----------
    discrete : numpy.ndarray, shape (n, 3)
        Starts with the zero shift.
    continuous : numpy.ndarray of int, shape (k, 3), k = 0..3
        Directions of a polar group.
    """

    discrete: np.ndarray
    continuous: np.ndarray


def allowed_origin_shifts(space_group: sgtbx.space_group) -> OriginFreedom:
    """Discrete shifts and polar directions of any space group in any setting."""
    discrete = []
    continuous = []
    for seminvariant in sgtbx.structure_seminvariants(space_group).vectors_and_moduli():
        vector = np.array(seminvariant.v, dtype=int)
        if seminvariant.m == 0:
            continuous.append(vector)
        else:
            discrete.append([vector * (n / seminvariant.m) for n in range(seminvariant.m)])
    shifts = [np.sum(combination, axis=0) for combination in product([np.zeros(3)], *discrete)]
    return OriginFreedom(
        discrete=np.array(shifts) % 1.0,
        continuous=np.array(continuous, dtype=int).reshape(-1, 3),
    )


def hand_is_free(space_group: sgtbx.space_group) -> bool:
    """True where inversion gives a different structure in the same space group.

    False in centrosymmetric groups (inversion changes nothing) and in the 22 groups of the 11
    enantiomorphic pairs (inversion leads into the other group of the pair).
    """
    return not space_group.is_centric() and not space_group.type().is_enantiomorphic()


def change_hand(f: miller.array) -> miller.array:
    """The structure factors of the inverted structure, x -> -x + t, same indices and order.

    t is the centre of inversion that maps the space group onto itself (it is not zero in groups
    such as Fdd2 or I 41). In the 11 enantiomorphic pairs the result is in the other group of the
    pair: P 41 becomes P 43. Friedel's law is assumed: F'(h) = exp(2 pi i h.t) conj F(h).
    """
    group = f.space_group()
    if group.is_centric():
        return f
    cb_op = group.type().change_of_hand_op()
    inverted = miller.array(
        miller.set(f.change_basis(cb_op).crystal_symmetry(), f.indices(), anomalous_flag=False),
        flex.conj(f.data()),
    )
    return shift_origin(inverted, cb_op.c().t().as_double())


def shift_origin(f: miller.array, shift) -> miller.array:
    """The structure factors of the structure moved by `shift`: F'(h) = F(h) exp(2 pi i h.shift).

    `shift` is fractional; whether the space group allows it is for the caller to know.
    """
    indices = f.indices().as_vec3_double().as_numpy_array()
    rotation = np.exp(2j * np.pi * (indices @ np.asarray(shift, dtype=float)))
    shifted = f.data().as_numpy_array() * rotation
    return f.customized_copy(data=flex.complex_double(np.ascontiguousarray(shifted)))
