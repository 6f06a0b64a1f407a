"""Hydrogen atoms by geometry, where the difference density agrees.

What an atom carries follows from its neighbours (number, distances, angles); where
geometry leaves a choice, the density at the calculated sites decides. Distances and the
numbering of idealised groups are SHELXL's (Sheldrick, Acta Cryst. C71, 3, 2015).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

# cctbx
from cctbx import xray

from phai_cctbx.building.connectivity import (
    HYDROGENS,
    Neighbour,
    bonds,
    covalent_radius,
    element_of,
    is_metal,
    u_equivalent,
)
from phai_cctbx.building.naming import hydrogen_names

TETRAHEDRAL = np.degrees(np.arccos(-1 / 3))

BOND_LENGTHS = {"C": 0.96, "N": 0.88, "O": 0.83, "B": 1.10}
"""X-H distances (A) at which density is looked for; the refinement uses those of each group."""

SP_ANGLE = 160.0
"""Angle (degrees) at an atom with two neighbours above which it is linear."""

PLANAR_HEIGHT = 0.25
"""Height (A) of an atom over the plane of its three neighbours that tells sp3 from sp2."""

MIN_DENSITY = 0.45
"""Density at a calculated site, over that of a sure hydrogen, that proves one on N or O."""

DEFAULT_DENSITY = 0.5
"""Typical difference density (e/A^3) of a hydrogen atom, where a structure has no sure one."""

SAME_SITE = 0.3
"""Hydrogens of one parent closer than this (A) are one."""

ROTATION_STEP = 5
"""Step (degrees) of the search for the torsion angle of a rotating group."""


@dataclass(frozen=True)
class HydrogenGroup:
    """Hydrogens on one atom.

    Attributes
    ----------
    kind : str
        Name of the geometry; a key of `AFIX`.
    pivot : int
        Scatterer that carries them.
    hydrogens : tuple of int
        Their scatterers, once they are in a structure.
    sites : tuple of (3,) arrays
        Cartesian coordinates, A.
    density : float
        Mean difference density at the sites, e/A^3.
    """

    kind: str
    pivot: int
    sites: tuple
    density: float
    hydrogens: tuple[int, ...] = ()

    @property
    def u_factor(self) -> float:
        """U_iso(H) over U_eq of the parent atom."""
        return 1.5 if self.kind in ("methyl", "ammonium", "hydroxyl", "free") else 1.2


AFIX = {
    "tertiary": 13,
    "secondary": 23,
    "planar": 43,
    "terminal_planar": 93,
    "linear": 163,
    "methyl": 137,
    "ammonium": 137,
    "hydroxyl": 147,
    "free": 0,
}
"""SHELXL's AFIX of each kind."""


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def _angle(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.degrees(np.arccos(np.clip(np.dot(_unit(a), _unit(b)), -1, 1))))


def _perpendicular(axis: np.ndarray, towards: np.ndarray | None = None):
    """Two unit vectors that make a frame with ``axis``; the first lies towards a vector."""
    if towards is None or np.linalg.norm(np.cross(axis, towards)) < 1e-3:
        towards = np.eye(3)[np.argmin(np.abs(axis))]
    first = _unit(towards - np.dot(towards, axis) * axis)
    return first, np.cross(axis, first)


class _Surroundings:
    """Cartesian vectors from one atom to its heavy neighbours."""

    def __init__(self, structure: xray.structure, neighbours, i: int, elements):
        unit_cell = structure.unit_cell()
        sites = structure.sites_frac()
        self.site = np.array(unit_cell.orthogonalize(sites[i]))
        self.element = elements[i]
        self.covalent: list[Neighbour] = []
        self.metals: list[Neighbour] = []
        for neighbour in neighbours[i]:
            if elements[neighbour.index] in HYDROGENS:
                continue
            group = self.metals if is_metal(elements[neighbour.index]) else self.covalent
            group.append(neighbour)
        self.vectors = [
            np.array(unit_cell.orthogonalize(n.operator * sites[n.index])) - self.site
            for n in self.covalent
        ]
        self.metal_vectors = [
            np.array(unit_cell.orthogonalize(n.operator * sites[n.index])) - self.site
            for n in self.metals
        ]
        self.neighbour_elements = [elements[n.index] for n in self.covalent]
        self.substituent = None
        if len(self.covalent) == 1:
            first = self.covalent[0]
            others = [
                np.array(
                    unit_cell.orthogonalize(first.operator.multiply(n.operator) * sites[n.index])
                )
                for n in neighbours[first.index]
                if elements[n.index] not in HYDROGENS
            ]
            others = [o - self.site for o in others if np.linalg.norm(o - self.site) > 0.5]
            self.substituents = others
            if others:
                self.substituent = others[0] - self.vectors[0]


def _tertiary(around: _Surroundings, length: float):
    return [around.site - length * _unit(sum(_unit(v) for v in around.vectors))]


def _planar(around: _Surroundings, length: float):
    nearest = sorted(around.vectors, key=np.linalg.norm)[:2]
    return [around.site - length * _unit(sum(_unit(v) for v in nearest))]


def _secondary(around: _Surroundings, length: float):
    u, v = (_unit(vector) for vector in around.vectors[:2])
    outwards, normal = -_unit(u + v), _unit(np.cross(u, v))
    half = np.radians(108.0 / 2)
    return [
        around.site + length * (np.cos(half) * outwards + sign * np.sin(half) * normal)
        for sign in (1, -1)
    ]


def _terminal_planar(around: _Surroundings, length: float):
    axis = _unit(around.vectors[0])
    in_plane, _ = _perpendicular(axis, around.substituent)
    return [
        around.site + length * (-0.5 * axis + sign * np.sqrt(0.75) * in_plane) for sign in (1, -1)
    ]


def _linear(around: _Surroundings, length: float):
    return [around.site - length * _unit(around.vectors[0])]


def _cone(around: _Surroundings, length: float, azimuth: float, n: int):
    """Sites at the tetrahedral angle to the only neighbour, ``n`` of three at one azimuth."""
    axis = _unit(around.vectors[0])
    first, second = _perpendicular(axis, around.substituent)
    sites = []
    for k in range(n):
        phi = np.radians(azimuth + 120 * k)
        sites.append(
            around.site
            + length * (-axis / 3 + np.sqrt(8) / 3 * (np.cos(phi) * first + np.sin(phi) * second))
        )
    return sites


_FIXED_SITES = {
    "tertiary": (3, _tertiary),
    "planar": (2, _planar),
    "secondary": (2, _secondary),
    "terminal_planar": (1, _terminal_planar),
    "linear": (1, _linear),
}
"""Fewest neighbours of the parent, and the sites of the hydrogens."""

_ROTATING = {"methyl": 3, "ammonium": 3, "hydroxyl": 1}
"""Hydrogens of the groups that turn."""


class HydrogenPlacer:
    """Finds the hydrogens of a structure without any.

    Parameters
    ----------
    structure : xray.structure
        Non-hydrogen atoms, put together and named.
    density : callable
        Cartesian site (3,) -> difference density, e/A^3.
    peaks : dict, optional
        Scatterer -> Cartesian sites of difference peaks around it, highest first, for atoms
        whose neighbours say too little.
    """

    def __init__(
        self,
        structure: xray.structure,
        density: Callable[[np.ndarray], float],
        peaks: dict[int, list[np.ndarray]] | None = None,
    ):
        self.structure = structure
        self.density = density
        self.peaks = peaks or {}
        self.elements = [element_of(s) for s in structure.scatterers()]
        self.neighbours = bonds(structure)
        self.around = [
            _Surroundings(structure, self.neighbours, i, self.elements)
            for i in range(len(self.elements))
        ]
        self.reference_density = DEFAULT_DENSITY

    def _group(self, kind: str, i: int, sites) -> HydrogenGroup:
        density = float(np.mean([self.density(site) for site in sites]))
        return HydrogenGroup(kind, i, tuple(sites), density)

    def _fixed(self, kind: str, i: int) -> HydrogenGroup:
        """The group in the one place that its neighbours leave."""
        around = self.around[i]
        _, sites = _FIXED_SITES[kind]
        return self._group(kind, i, sites(around, BOND_LENGTHS[around.element]))

    def _rotated(self, kind: str, i: int, bonus=None) -> HydrogenGroup:
        """The group turned to where the density is highest."""
        around, n = self.around[i], _ROTATING[kind]
        length = BOND_LENGTHS[around.element]
        turns = range(0, 120 if n == 3 else 360, ROTATION_STEP)
        best = None
        for azimuth in turns:
            group = self._group(kind, i, _cone(around, length, azimuth, n))
            score = group.density + (bonus(group.sites[0]) if bonus else 0.0)
            if best is None or score > best[0]:
                best = (score, group)
        return best[1]

    def of_kind(self, kind: str, i: int) -> HydrogenGroup | None:
        """The group of one kind on an atom, None where its neighbours do not allow it."""
        around = self.around[i]
        if kind not in _FIXED_SITES and kind not in _ROTATING:
            return None
        n_neighbours, _ = _FIXED_SITES.get(kind, (1, None))
        if len(around.vectors) < n_neighbours or around.element not in BOND_LENGTHS:
            return None
        return self._rotated(kind, i) if kind in _ROTATING else self._fixed(kind, i)

    def on_carbon(self, i: int) -> HydrogenGroup | None:
        """Hydrogens of a carbon atom: geometry decides, density where geometry does not."""
        around = self.around[i]
        vectors = around.vectors
        distances = [float(np.linalg.norm(v)) for v in vectors]
        if len(vectors) == 3:
            normal = _unit(np.cross(vectors[1] - vectors[0], vectors[2] - vectors[0]))
            height = abs(float(np.dot(normal, vectors[0])))
            group = self._fixed("tertiary", i)
            evidence = (height - PLANAR_HEIGHT) / 0.05
            evidence += 2 * (group.density / self.reference_density - 0.5)
            return group if evidence > 0 else None
        if len(vectors) == 2:
            angle = _angle(*vectors)
            if angle > SP_ANGLE:
                return None
            planar = self._fixed("planar", i)
            secondary = self._fixed("secondary", i)
            shortening = min(
                d - covalent_radius("C") - covalent_radius(e)
                for d, e in zip(distances, around.neighbour_elements, strict=True)
            )
            evidence = (angle - 116.0) / 2.0 - (shortening + 0.06) / 0.03
            evidence += 3 * (planar.density - secondary.density) / self.reference_density
            return planar if evidence > 0 else secondary
        if len(vectors) == 1:
            other = around.neighbour_elements[0]
            stretch = distances[0] - covalent_radius("C") - covalent_radius(other)
            if stretch > -0.10 or (other == "C" and distances[0] > 1.41):
                return self._rotated("methyl", i)
            if other == "C" and distances[0] > 1.26 and around.substituent is not None:
                return self._fixed("terminal_planar", i)
            if other == "C" and distances[0] < 1.23:
                return self._fixed("linear", i)
        return None

    def _proved(self, group: HydrogenGroup, threshold: float = MIN_DENSITY) -> bool:
        weakest = min(self.density(site) for site in group.sites)
        return (
            group.density > threshold * self.reference_density
            and weakest > 0.6 * threshold * self.reference_density
        )

    def on_nitrogen(self, i: int) -> HydrogenGroup | None:
        """Hydrogens of a nitrogen atom, each proved by density."""
        around = self.around[i]
        length = BOND_LENGTHS["N"]
        vectors = around.vectors
        if len(vectors) == 3:
            normal = _unit(np.cross(vectors[1] - vectors[0], vectors[2] - vectors[0]))
            if abs(float(np.dot(normal, vectors[0]))) < PLANAR_HEIGHT or around.metals:
                return None
            group = self._fixed("tertiary", i)
            return group if self._proved(group) else None
        if len(vectors) == 2:
            if _angle(*vectors) > SP_ANGLE:
                return None
            planar = self._fixed("planar", i)
            secondary = self._fixed("secondary", i)
            if around.metals:
                trial = self._bisecting_metal(i, length)
                return trial if trial is not None and self._proved(trial) else None
            if self._proved(secondary) and secondary.density > planar.density:
                return secondary
            return planar if self._proved(planar) else None
        if len(vectors) == 1:
            if np.linalg.norm(vectors[0]) < 1.21:
                return None
            candidates = [self._rotated("ammonium", i)]
            if around.substituent is not None:
                flat = self._fixed("terminal_planar", i)
                if np.linalg.norm(vectors[0]) < 1.40:
                    candidates = [flat, *candidates]
                else:
                    candidates.append(flat)
            for candidate in candidates:
                if self._proved(candidate):
                    return candidate
        return self._from_peaks(i)

    def _bisecting_metal(self, i: int, length: float) -> HydrogenGroup | None:
        """The fourth site of a nitrogen bound to two atoms and a metal."""
        around = self.around[i]
        vectors = [*around.vectors, around.metal_vectors[0]]
        direction = sum(_unit(v) for v in vectors)
        if np.linalg.norm(direction) < 0.5:
            return None
        return self._group("free", i, [around.site - length * _unit(direction)])

    def on_oxygen(self, i: int) -> HydrogenGroup | None:
        """Hydrogens of an oxygen atom, each proved by density."""
        around = self.around[i]
        vectors = around.vectors
        if len(vectors) == 1:
            stretch = (
                np.linalg.norm(vectors[0])
                - covalent_radius("O")
                - covalent_radius(around.neighbour_elements[0])
            )
            if stretch < -0.16:
                return None
            group = self._rotated("hydroxyl", i)
            threshold = MIN_DENSITY if stretch < -0.06 or around.metals else 0.7 * MIN_DENSITY
            return group if self._proved(group, threshold) else None
        if not vectors:
            return self._from_peaks(i)
        return None

    def _from_peaks(self, i: int) -> HydrogenGroup | None:
        """Hydrogens of water and other lone atoms from peaks of the difference map."""
        around = self.around[i]
        length = BOND_LENGTHS.get(around.element)
        if length is None:
            return None
        most = 2 if around.element == "O" else 4 - len(around.vectors)
        chosen: list[np.ndarray] = []
        away = [*around.vectors, *around.metal_vectors]
        for peak in self.peaks.get(i, ()):
            vector = peak - around.site
            if not 0.6 < np.linalg.norm(vector) < 1.2 or len(chosen) == most:
                continue
            if any(_angle(vector, other) < 80 for other in away):
                continue
            if all(80 < _angle(vector, c - around.site) < 140 for c in chosen):
                chosen.append(around.site + length * _unit(vector))
        if not chosen:
            return None
        group = self._group("free", i, chosen)
        return group if group.density > 0.5 * MIN_DENSITY * self.reference_density else None

    def groups(self) -> list[HydrogenGroup]:
        """All hydrogen groups; those on carbon first, they set the scale of the density."""
        full = [
            s.occupancy > 0.99 and element_of(s) not in HYDROGENS
            for s in self.structure.scatterers()
        ]
        indices = [i for i, whole in enumerate(full) if whole]
        found: dict[int, HydrogenGroup] = {}
        for _ in range(2):
            found = {}
            for i in indices:
                if self.elements[i] == "C":
                    group = self.on_carbon(i)
                    if group is not None:
                        found[i] = group
            if found:
                typical = float(np.median([group.density for group in found.values()]))
                self.reference_density = max(typical, 0.3 * DEFAULT_DENSITY)
        for i in indices:
            place = {"N": self.on_nitrogen, "O": self.on_oxygen}.get(self.elements[i])
            group = place(i) if place else None
            if group is not None:
                found[i] = group
        return [found[i] for i in sorted(found)]


def add_hydrogens(
    structure: xray.structure, groups: Sequence[HydrogenGroup]
) -> tuple[xray.structure, list[HydrogenGroup]]:
    """Insert hydrogens after their parents.

    Parameters
    ----------
    structure : xray.structure
        Without hydrogens.
    groups : sequence of HydrogenGroup

    Returns
    -------
    xray.structure
    list of HydrogenGroup
        With scatterer numbers of the new structure.
    """
    unit_cell = structure.unit_cell()
    by_pivot = {group.pivot: group for group in groups}
    result = xray.structure(special_position_settings=structure)
    placed = []
    used = {scatterer.label for scatterer in structure.scatterers()}
    for i, scatterer in enumerate(structure.scatterers()):
        pivot = result.scatterers().size()
        result.add_scatterer(scatterer.customized_copy())
        group = by_pivot.get(i)
        if group is None:
            continue
        sites = [np.array(unit_cell.fractionalize(tuple(site))) for site in group.sites]
        unique, occupancies = _unique_sites(structure, i, sites)
        kind = group.kind if len(unique) == len(sites) and min(occupancies) == 1 else "free"
        u_iso = group.u_factor * u_equivalent(scatterer, unit_cell)
        names = hydrogen_names(scatterer.label, element_of(scatterer), len(unique), used)
        used.update(names)
        first = result.scatterers().size()
        for name, site, occupancy in zip(names, unique, occupancies, strict=True):
            result.add_scatterer(
                xray.scatterer(
                    name,
                    site=tuple(site),
                    u=u_iso,
                    scattering_type="H",
                    occupancy=scatterer.occupancy * occupancy,
                )
            )
        indices = tuple(range(first, first + len(unique)))
        placed.append(HydrogenGroup(kind, pivot, group.sites, group.density, indices))
    return result, placed


def _unique_sites(structure: xray.structure, i: int, sites):
    """Hydrogens that the site symmetry of their parent leaves unique, and their occupancies.

    Images of one another count once. Where the symmetry makes more hydrogens than the group
    has, the group is disordered over them, and their occupancy says so.
    """
    site_symmetry = structure.site_symmetry_table().get(i)
    if site_symmetry.is_point_group_1():
        return sites, [1.0] * len(sites)
    unit_cell = structure.unit_cell()
    unique: list[np.ndarray] = []
    n_images = []
    for site in sites:
        images: list[np.ndarray] = []
        for operator in site_symmetry.matrices():
            image = np.array(operator * tuple(site))
            if all(unit_cell.length(tuple(image - other)) > SAME_SITE for other in images):
                images.append(image)
        known = any(
            unit_cell.length(tuple(image - other)) < SAME_SITE
            for image in images
            for other in unique
        )
        if not known:
            unique.append(site)
            n_images.append(len(images))
    share = min(1.0, len(sites) / sum(n_images))
    return unique, [share] * len(unique)
