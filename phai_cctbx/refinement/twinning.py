"""Twins by merohedry: the laws that a lattice allows, and how much of the second domain there is.

A law is a rotation of the lattice that is no symmetry of the crystal. The intensities of both
domains add up (C. Giacovazzo (ed.), Fundamentals of Crystallography, 2011, section 3.5); from those
of a model the fraction follows by linear least squares.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# cctbx
from cctbx import miller, sgtbx, xray
from cctbx.array_family import flex
from cctbx.sgtbx import cosets, lattice_symmetry

MAX_OBLIQUITY = 1.0
"""Misfit (degrees, of Le Page) up to which the reflections of both domains fall together."""

INVERSION = sgtbx.rot_mx((-1, 0, 0, 0, -1, 0, 0, 0, -1))
"""The law of a twin by inversion."""

FRACTION_START = 0.02
"""Smallest start of a refined fraction."""


@dataclass(frozen=True)
class Twin:
    """The second domain of a twin.

    Attributes
    ----------
    law : sgtbx.rot_mx
        The reflection h of the first domain falls on h * law of the second.
    fraction : float
        Its share of the crystal, 0 to 1.
    esd : float or None
        Of the refined fraction.
    """

    law: sgtbx.rot_mx
    fraction: float
    esd: float | None = None

    def component(self) -> xray.twin_component:
        """What smtbx refines."""
        return xray.twin_component(self.law, max(self.fraction, FRACTION_START), True)

    @property
    def as_hkl(self) -> str:
        """The law as it changes indices, such as ``-h,-k,l``."""
        return self.law.as_hkl()


def twin_laws(f_sq: miller.array) -> list[sgtbx.rot_mx]:
    """Laws that the lattice of a crystal allows, one of each set that does the same.

    Rotations of the lattice (Le Page, J. Appl. Cryst. 15, 255, 1982, as in cctbx) in cosets of the
    Laue group: inversion makes no difference to intensities but for Friedel's.

    Parameters
    ----------
    f_sq : miller.array

    Returns
    -------
    list of sgtbx.rot_mx
        Empty where the Laue group has the symmetry of the lattice.
    """
    to_niggli = f_sq.change_of_basis_op_to_niggli_cell()
    reduced = f_sq.crystal_symmetry().change_basis(to_niggli)
    lattice = lattice_symmetry.group(reduced.unit_cell(), max_delta=MAX_OBLIQUITY)
    point_group = reduced.space_group().build_derived_laue_group().build_derived_acentric_group()
    lattice = lattice.build_derived_acentric_group()
    laws = []
    for partition in cosets.left_decomposition(g=lattice, h=point_group).partitions[1:]:
        proper = [op for op in partition if op.r().determinant() > 0]
        laws.append(to_niggli.inverse().apply(proper[0]).r())
    return laws


def second_domain(
    structure: xray.structure, f_sq: miller.array, law: sgtbx.rot_mx
) -> np.ndarray:
    """|F_calc|^2 of the reflections of the second domain, shape (n_reflections,)."""
    rotation = np.array(law.num()).reshape(3, 3) // law.den()
    rotated = np.array(f_sq.indices()) @ rotation
    indices = flex.miller_index([tuple(h) for h in rotated.tolist()])
    moved = miller.set(f_sq.crystal_symmetry(), indices, anomalous_flag=True)
    f_calc = moved.structure_factors_from_scatterers(structure, algorithm="direct").f_calc()
    return np.array(flex.norm(f_calc.data()))


def fraction_of(first, second, f_sq, weights) -> tuple[float, float]:
    """Share of the second domain that explains intensities best, and its esd.

    Parameters
    ----------
    first, second : numpy.ndarray, shape (n_reflections,)
        Calculated intensities of both domains.
    f_sq : numpy.ndarray, shape (n_reflections,)
        Observed ones, on any scale.
    weights : numpy.ndarray, shape (n_reflections,)

    Returns
    -------
    fraction, esd : float
        The esd is infinite where the domains cannot be told apart.
    """
    design = np.stack([first, second], axis=1)
    normal = design.T @ (weights[:, None] * design)
    if np.linalg.cond(normal) > 1e12:
        return 0.0, float("inf")
    inverse = np.linalg.inv(normal)
    k = inverse @ (design.T @ (weights * f_sq))
    total = k.sum()
    if not total > 0:
        return 0.0, float("inf")
    residual = f_sq - design @ k
    variance = np.sum(weights * residual**2) / max(len(f_sq) - 2, 1)
    gradient = np.array([-k[1], k[0]]) / total**2
    return float(k[1] / total), float(np.sqrt(variance * gradient @ inverse @ gradient))
