"""Large molecules as overlapping fragments: each gives the density of its core alone.

Bonds between carbon atoms are cut where one of them is tetrahedral and no ring closes over the
bond; hydrogen caps the ends. What is left whole makes units, a core is some connected units, and
its fragment holds the units around it too, so that the caps are far from every atom whose density
is used. Cutting and capping as in K. Kitaura et al., Chem. Phys. Lett. 313, 701 (1999), and with
transferable Hirshfeld densities in mind (Chodkiewicz et al., IUCrJ 11, 249, 2024).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from phai_cctbx.aspherical.molecules import Molecule, symbols_of
from phai_cctbx.aspherical.quantum import MoleculeDensity
from phai_cctbx.building.connectivity import bonded

CORE_ATOMS = 40
"""A core grows to this many atoms; one that has no room for half of them joins another."""

UNITS_AROUND = 2
"""Cut bonds between a core and the caps of its fragment, at least, plus one."""

CAP_LENGTH = 1.09
"""C-H distance (A) of a cap; bonds of carbon alone are cut."""

NEAREST_CHARGE = 2.5
"""Atoms of the molecule nearer than this (A) to a fragment do not surround it as charges: the
caps stand in their place."""


@dataclass(frozen=True)
class Fragment:
    """One calculation of a large molecule.

    Attributes
    ----------
    atoms : numpy.ndarray of int
        Atoms of the molecule in the fragment, the core first.
    n_core : int
        How many of them are the core.
    numbers : numpy.ndarray of int, (n,)
        Atomic numbers of these atoms and the caps after them.
    coordinates : numpy.ndarray, (n, 3), A
    """

    atoms: np.ndarray
    n_core: int
    numbers: np.ndarray
    coordinates: np.ndarray

    def molecule(self) -> Molecule:
        """The fragment as a molecule of its own."""
        return Molecule((), self.numbers, self.coordinates, 1)


def bonded_atoms(numbers, coordinates) -> list[set[int]]:
    """Bonded neighbours of every atom of a molecule."""
    symbols = symbols_of(numbers)
    distances = np.linalg.norm(coordinates[:, None] - coordinates[None], axis=2)
    n = len(symbols)
    return [
        {j for j in range(n) if j != i and bonded(symbols[i], symbols[j], distances[i, j])}
        for i in range(n)
    ]


def cut_bonds(numbers, neighbours) -> set[frozenset[int]]:
    """C-C bonds with a tetrahedral end that are in no ring."""
    carbon = [z == 6 for z in numbers]
    heavy = [sum(numbers[j] > 1 for j in near) for near in neighbours]
    return {
        frozenset((i, j))
        for i, near in enumerate(neighbours)
        for j in near
        if i < j
        and carbon[i]
        and carbon[j]
        and 4 in (len(neighbours[i]), len(neighbours[j]))
        and min(heavy[i], heavy[j]) > 1
        and j not in reached(i, neighbours, {frozenset((i, j))})
    }


def reached(start: int, neighbours, without: set) -> set[int]:
    """Atoms that bonds lead to from an atom, some bonds left out."""
    found, front = {start}, [start]
    while front:
        i = front.pop()
        for j in neighbours[i]:
            if j not in found and frozenset((i, j)) not in without:
                found.add(j)
                front.append(j)
    return found


def fragments_of(molecule: Molecule, core_atoms: int = CORE_ATOMS) -> list[Fragment]:
    """Fragments whose cores are all atoms of a molecule, each once.

    Parameters
    ----------
    molecule : Molecule
    core_atoms : int
        Size to which a core grows.

    Returns
    -------
    list of Fragment
        A single one, without caps, where nothing can be cut.
    """
    numbers, coordinates = molecule.numbers, molecule.coordinates
    neighbours = bonded_atoms(numbers, coordinates)
    cuts = cut_bonds(numbers, neighbours)
    unit_of, units = {}, []
    for i in range(len(numbers)):
        if i not in unit_of:
            members = sorted(reached(i, neighbours, cuts))
            unit_of.update(dict.fromkeys(members, len(units)))
            units.append(members)
    beside = [
        {unit_of[j] for i in members for j in neighbours[i]} - {k}
        for k, members in enumerate(units)
    ]
    result = []
    for core in cores(units, beside, core_atoms):
        around = set(core)
        for _ in range(UNITS_AROUND):
            around |= {k for unit in around for k in beside[unit]}
        inner = [i for unit in core for i in units[unit]]
        outer = [i for unit in sorted(around - set(core)) for i in units[unit]]
        atoms = np.array(inner + outer)
        inside = set(atoms.tolist())
        caps = [
            cap_position(coordinates[i], coordinates[j])
            for i in atoms
            for j in sorted(neighbours[i])
            if j not in inside
        ]
        result.append(
            Fragment(
                atoms,
                len(inner),
                np.concatenate([numbers[atoms], np.ones(len(caps), dtype=int)]),
                np.concatenate([coordinates[atoms], np.array(caps).reshape(-1, 3)]),
            )
        )
    return result


def cores(units: Sequence, beside: Sequence, core_atoms: int) -> list[list[int]]:
    """Connected groups of units that together hold every unit once."""
    free, result = set(range(len(units))), []
    ends_first = sorted(free, key=lambda k: (len(beside[k]), k))
    for start in ends_first:
        if start not in free:
            continue
        core, size = [start], len(units[start])
        free.discard(start)
        while size < core_atoms and (near := {k for unit in core for k in beside[unit]} & free):
            nearest = min(near, key=lambda k: (len(beside[k] & free), k))
            core.append(nearest)
            free.discard(nearest)
            size += len(units[nearest])
        result.append(core)
    return merged(result, units, beside, core_atoms / 2)


def merged(groups: list, units: Sequence, beside: Sequence, least: float) -> list[list[int]]:
    """Groups of fewer atoms than `least` joined to the smallest one beside them."""

    def size(group):
        return sum(len(units[k]) for k in group)

    for group in sorted(groups, key=size):
        touching = {k for unit in group for k in beside[unit]}
        others = [other for other in groups if other is not group and touching & set(other)]
        if size(group) < least and others:
            groups = [other for other in groups if other is not group]
            min(others, key=size).extend(group)
    return groups


def cap_position(kept: np.ndarray, left_out: np.ndarray) -> np.ndarray:
    """Where the hydrogen stands that takes the place of an atom, A."""
    bond = left_out - kept
    return kept + CAP_LENGTH * bond / np.linalg.norm(bond)


def charges_around(fragment: Fragment, molecule: Molecule) -> np.ndarray:
    """Atoms of the molecule that surround a fragment as charges."""
    distances = np.linalg.norm(
        molecule.coordinates[:, None] - fragment.coordinates[None], axis=2
    ).min(axis=1)
    return np.flatnonzero(distances > NEAREST_CHARGE)


def join(molecule: Molecule, fragments: Sequence[Fragment], densities) -> MoleculeDensity:
    """The Hirshfeld atoms of a molecule, each from the fragment whose core it is in.

    Parameters
    ----------
    molecule : Molecule
    fragments : sequence of Fragment
    densities : sequence of MoleculeDensity

    Returns
    -------
    MoleculeDensity
        ``n_electrons`` counts them by the charges of the atoms; there is no density matrix.
    """
    n = len(molecule.numbers)
    points, values = [None] * n, [None] * n
    charges, dipoles, n_core = np.zeros(n), np.zeros((n, 3)), np.zeros(n, dtype=int)
    for fragment, density in zip(fragments, densities, strict=True):
        for k, atom in enumerate(fragment.atoms[: fragment.n_core]):
            part = slice(density.offsets[k], density.offsets[k + 1])
            points[atom], values[atom] = density.points[part], density.values[part]
            charges[atom], dipoles[atom] = density.charges[k], density.dipoles[k]
            n_core[atom] = density.n_core[k]
    return MoleculeDensity(
        points=np.concatenate(points),
        values=np.concatenate(values),
        offsets=np.concatenate([[0], np.cumsum([len(v) for v in values])]),
        charges=charges,
        dipoles=dipoles,
        density_matrix=np.zeros((0, 0)),
        n_electrons=float((molecule.numbers - n_core - charges).sum()),
        n_core=n_core,
        energy=float("nan"),
    )
