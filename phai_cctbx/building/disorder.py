"""Groups of atoms that a crystal holds in one of two arrangements, and how a model gets them.

The arrangements are parts 1 and 2 as in SHELXL (Sheldrick, Acta Cryst. C71, 3, 2015): atoms of
different parts are never bonded, those of part 0 belong to both, and the occupancies of the two
add up to 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from string import ascii_uppercase

import numpy as np

# cctbx
from cctbx import xray

from phai_cctbx.building.connectivity import HYDROGENS, bonds, element_of, u_equivalent
from phai_cctbx.building.hydrogens import HydrogenGroup, HydrogenPlacer
from phai_cctbx.building.naming import LONGEST_NAME, hydrogen_names


@dataclass(frozen=True)
class DisorderedGroup:
    """Atoms in one of two arrangements.

    Attributes
    ----------
    pairs : tuple of (int, int)
        Scatterers other than hydrogen that stand for one another, part 1 first.
    first, second : tuple of int
        All scatterers of part 1 and of part 2, hydrogens included.
    beside : tuple of int
        Hydrogens of full occupancy on atoms that both parts share, in the geometry that they have
        with part 1; SHELXL reads them in PART 1.
    occupancy, esd : float
        Of part 1, and its standard uncertainty; part 2 has the rest.
    """

    pairs: tuple[tuple[int, int], ...]
    first: tuple[int, ...]
    second: tuple[int, ...]
    beside: tuple[int, ...]
    occupancy: float
    esd: float = float("nan")

    def labels(self, structure: xray.structure) -> tuple[list[str], list[str]]:
        """Labels of the atoms that stand for one another, of part 1 and of part 2."""
        scatterers = structure.scatterers()
        first, second = ([scatterers[pair[k]].label for pair in self.pairs] for k in (0, 1))
        return first, second


def parts(n: int, groups: Sequence[DisorderedGroup]) -> list[int]:
    """SHELX PART of each of n scatterers: 0, or 1 and 2 in disordered groups."""
    result = [0] * n
    for group in groups:
        for number, members in ((1, (*group.first, *group.beside)), (2, group.second)):
            for i in members:
                result[i] = number
    return result


class _Builder:
    """A structure that grows, with hydrogens on their parents, and the parts of one new group."""

    def __init__(self, structure: xray.structure, riding: Sequence[HydrogenGroup], occupancy):
        self.old = structure
        self.on_pivot = {group.pivot: group for group in riding}
        self.occupancy = {1: occupancy, 2: 1 - occupancy}
        self.structure = xray.structure(special_position_settings=structure)
        self.riding: list[HydrogenGroup] = []
        self.members: dict[int, list[int]] = {1: [], 2: []}
        self.new_index: dict[int, int] = {}
        self.used = {scatterer.label for scatterer in structure.scatterers()}

    def add(self, scatterer: xray.scatterer, part: int) -> int:
        """Append a scatterer; its number."""
        if part:
            scatterer.occupancy = self.occupancy[part]
        self.structure.add_scatterer(scatterer)
        number = self.structure.scatterers().size() - 1
        if part:
            self.members[part].append(number)
        return number

    def copy(self, i: int, part: int) -> int:
        """Append a scatterer of the old structure; its number."""
        self.new_index[i] = self.add(self.old.scatterers()[i].customized_copy(), part)
        return self.new_index[i]

    def hydrogens_of(self, i: int, part: int) -> tuple[int, ...]:
        """Append the hydrogens of an old scatterer that has been copied; their numbers."""
        group = self.on_pivot.get(i)
        if group is None:
            return ()
        numbers = tuple(self.copy(j, part) for j in group.hydrogens)
        self.riding.append(replace(group, pivot=self.new_index[i], hydrogens=numbers))
        return numbers

    def hydrogens_at(self, group: HydrogenGroup, pivot: int, sites, part: int) -> tuple[int, ...]:
        """Append new hydrogens on a pivot, at Cartesian sites; their numbers."""
        unit_cell = self.old.unit_cell()
        parent = self.structure.scatterers()[pivot]
        names = hydrogen_names(parent.label, element_of(parent), len(sites), self.used)
        self.used.update(names)
        numbers = tuple(
            self.add(
                xray.scatterer(
                    name,
                    site=unit_cell.fractionalize(tuple(site)),
                    u=group.u_factor * u_equivalent(parent, unit_cell),
                    scattering_type="H",
                ),
                part,
            )
            for name, site in zip(names, sites, strict=True)
        )
        self.riding.append(HydrogenGroup(group.kind, pivot, tuple(sites), group.density, numbers))
        return numbers


def split(
    structure: xray.structure,
    riding: Sequence[HydrogenGroup],
    second_sites: Mapping[int, Sequence[float]],
    occupancy: float,
    density,
    fresh=frozenset(),
) -> tuple[xray.structure, list[HydrogenGroup], DisorderedGroup, dict[int, int]]:
    """Give atoms a second place each, with the hydrogens that follow from it.

    Atoms of the second part are isotropic, with the U(eq) of the first. Hydrogens that ride on
    atoms of the group are there twice, in the same geometry; where second places do not have the
    neighbours that this geometry needs, or hydrogens are free, those of the second part lack.

    Parameters
    ----------
    structure : xray.structure
    riding : sequence of HydrogenGroup
        Of the structure.
    second_sites : mapping of int to (3,) float
        Scatterer other than hydrogen -> its second place, fractional.
    occupancy : float
        Of the first part.
    density : callable
        Cartesian site -> difference density, which turns methyl and hydroxyl groups.
    fresh : set of int
        Carbon atoms of the group, or beside it, that get new hydrogens, by the geometry that they
        have with the first part, in the place of those they have.

    Returns
    -------
    structure : xray.structure
    riding : list of HydrogenGroup
    group : DisorderedGroup
    new_index : dict
        Old number of each scatterer -> its new one.
    """
    scatterers = structure.scatterers()
    near = bonds(structure)
    shared = {n.index for i in second_sites for n in near[i]} - set(second_sites)
    on_pivot = {group.pivot: group for group in riding}
    placed = _fresh_hydrogens(structure, fresh, density)
    riding = [group for group in riding if group.pivot not in fresh]
    sites = _second_hydrogens(structure, {**on_pivot, **placed}, second_sites, density)
    builder = _Builder(structure, riding, occupancy)
    riders = {j for group in on_pivot.values() for j in group.hydrogens}
    pairs, beside = [], []
    for i in range(scatterers.size()):
        if i in riders:
            continue
        disordered = i in second_sites
        first = builder.copy(i, 1 if disordered else 0)
        hydrogens = builder.hydrogens_of(i, 1 if disordered else 0)
        if i in placed:
            part = 1 if disordered else 0
            hydrogens = builder.hydrogens_at(placed[i], first, placed[i].sites, part)
        if i in shared:
            beside += hydrogens
        if not disordered:
            continue
        label = _second_label(scatterers[i].label, element_of(scatterers[i]), builder.used)
        builder.used.add(label)
        second = builder.add(
            xray.scatterer(
                label,
                site=tuple(second_sites[i]),
                u=u_equivalent(scatterers[i], structure.unit_cell()),
                scattering_type=scatterers[i].scattering_type,
            ),
            2,
        )
        pairs.append((first, second))
        if i in sites:
            builder.hydrogens_at(placed.get(i) or on_pivot[i], second, sites[i], 2)
    group = DisorderedGroup(
        pairs=tuple(pairs),
        first=tuple(builder.members[1]),
        second=tuple(builder.members[2]),
        beside=tuple(beside),
        occupancy=occupancy,
    )
    return builder.structure, builder.riding, group, builder.new_index


def _placer(structure, second_sites, density) -> tuple[HydrogenPlacer, list[int]]:
    """What places hydrogens, and the scatterers it knows; some of them at second places."""
    scatterers = structure.scatterers()
    heavy = [i for i, s in enumerate(scatterers) if element_of(s) not in HYDROGENS]
    arrangement = xray.structure(special_position_settings=structure)
    for i in heavy:
        site = tuple(second_sites.get(i, scatterers[i].site))
        arrangement.add_scatterer(scatterers[i].customized_copy(site=site))
    return HydrogenPlacer(arrangement, density), heavy


def _fresh_hydrogens(structure, pivots, density) -> dict[int, HydrogenGroup]:
    """Hydrogens on carbon atoms by their geometry, by pivot."""
    placer, heavy = _placer(structure, {}, density)
    found = {
        i: placer.on_carbon(heavy.index(i))
        for i in pivots
        if element_of(structure.scatterers()[i]) == "C"
    }
    return {i: group for i, group in found.items() if group is not None}


def kinds_of_hydrogens(structure: xray.structure, atoms, density) -> dict[int, str | None]:
    """Kind of the hydrogens that the geometry of carbon atoms calls for; None for none.

    Parameters
    ----------
    structure : xray.structure
        Without second parts of the atoms in question.
    atoms : iterable of int
    density : callable
        Cartesian site -> difference density.
    """
    found = _fresh_hydrogens(structure, atoms, density)
    return {i: found[i].kind if i in found else None for i in atoms}


def _second_hydrogens(structure, on_pivot, second_sites, density):
    """Cartesian sites of the hydrogens of the second arrangement, by pivot where possible."""
    placer, heavy = _placer(structure, second_sites, density)
    sites = {}
    for i in set(second_sites).intersection(on_pivot):
        found = placer.of_kind(on_pivot[i].kind, heavy.index(i))
        if found is not None and len(found.sites) == len(on_pivot[i].sites):
            sites[i] = [np.array(site) for site in found.sites]
    return sites


def _second_label(label: str, element: str, used: set[str]) -> str:
    """C7 -> C7A, or the first name like it that is free and that SHELX reads."""
    names = [label + letter for letter in ascii_uppercase]
    names += [element + a + b for a in ascii_uppercase for b in ascii_uppercase]
    names += [element + a + b for a in ascii_uppercase for b in "0123456789"]
    return next(name for name in names if len(name) <= LONGEST_NAME and name not in used)
