"""Artificial crystals that look like published ones: what the network is trained on.

A crystal is drawn in the order: space group, contents of the asymmetric unit (molecules of a
library, ions, solvents; on general or special positions), volume, cell, packing. All random
numbers come from one seed.
"""

from __future__ import annotations

import functools
import logging
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from phai_cctbx.network.space_groups import SpaceGroup, space_group
from phai_cctbx.training.contacts import contact_distances
from phai_cctbx.training.disorder import second_place
from phai_cctbx.training.molecules import Kind, Molecule, mates, read_library
from phai_cctbx.training.packing import Packing, Problem, Site, pack

logger = logging.getLogger(__name__)

#: Shares (per mille) of the space groups among organic and metal-organic structures, after the
#: statistics of the Cambridge Structural Database; the last ones stand for high symmetry.
GROUP_SHARES = {
    14: 350, 2: 250, 15: 85, 19: 70, 4: 50, 61: 33, 33: 14, 62: 16, 9: 10, 60: 9, 5: 9, 1: 10,
    29: 8, 12: 6, 11: 5, 13: 5, 56: 4, 18: 4, 43: 4, 88: 4, 148: 7, 7: 5, 20: 2, 64: 2, 63: 3,
    52: 2, 54: 2, 36: 2, 92: 3, 76: 3, 86: 3, 82: 2, 114: 2, 85: 2, 87: 1, 110: 1, 122: 1, 130: 1,
    142: 1, 145: 1, 144: 1, 152: 1, 154: 1, 146: 2, 147: 1, 161: 2, 165: 1, 167: 2, 169: 1,
    173: 1, 176: 1, 198: 1, 205: 1, 58: 2, 55: 1, 57: 2, 59: 1, 31: 2, 41: 1, 45: 1, 70: 2, 73: 1,
    96: 3, 78: 2, 26: 1, 34: 1, 23: 0.5, 74: 0.5, 72: 0.5, 225: 0.5, 221: 0.3, 216: 0.3, 227: 0.3,
    166: 1, 194: 0.5, 139: 0.5, 136: 0.3, 129: 0.5, 141: 0.5, 163: 0.5, 159: 0.5, 155: 0.5,
}  # fmt: skip
CENTROSYMMETRIC_SHARES = {14: 350, 2: 250, 15: 85, 61: 45, 62: 35, 60: 25}
#: Share of crystals whose main molecule is on a special position, where the group has one that
#: suits it; in P n m a and C 2/c most are.
SPECIAL_SHARE = {2: 0.15, 14: 0.15, 15: 0.5, 62: 0.8, 60: 0.5, 61: 0.15, 12: 0.8, 63: 0.9, 64: 0.9}
OTHER_SPECIAL_SHARE = 0.3
#: Kinds of contents: one molecule, two of a kind, with a solvent, salt, ionic.
CONTENTS = {"single": 0.59, "pair": 0.08, "solvate": 0.13, "salt": 0.16, "ionic": 0.04}
#: Ionic crystals: share of complex cations, mean number of waters for each cation, and the most
#: bodies of an asymmetric unit.
COMPLEX_CATION_SHARE, MEAN_WATERS, MOST_IONS = 0.3, 1.5, 8
#: Share of coordination compounds among the neutral molecules; of salts, those of two large ions;
#: of the others, those with a large cation, and the share of the volume that it takes.
COMPLEX_SHARE, ORGANIC_SALT_SHARE, CATION_SHARE, SALT_MAIN_SHARE = 0.2, 0.2, 0.75, 0.75
#: What may be the main constituent.
MAIN_KINDS = (Kind.NEUTRAL, Kind.CATION, Kind.ANION, Kind.COMPLEX)
#: Volume of the cell, A^3: log-normal about a median that grows with the multiplicity.
MEDIAN_VOLUME, VOLUME_SPREAD, VOLUME_EXPONENT = 700.0, 0.6, 0.35
SMALLEST_VOLUME, LARGEST_VOLUME = 120.0, 6000.0
#: The volume is that of the atoms times exp(mean + spread * normal).
LOOSENESS, LOOSENESS_SPREAD = -0.045, 0.045
#: Edges: log-normal about the cube root of the volume; the shortest one, A.
EDGE_SPREAD, SHORTEST_EDGE = 0.36, 3.7
#: A packing is accepted where no atoms are closer than this share of their contact distance.
CLOSEST_ALLOWED = 0.88
#: Displacements: U_iso, A^2, log-normal over crystals, within bounds.
MEDIAN_U, U_SPREAD, SMALLEST_U, LARGEST_U = 0.028, 0.45, 0.010, 0.12
#: How much more the outermost atoms of a molecule move than its middle; hydrogens; heavy atoms.
OUTER_EXCESS, HYDROGEN_FACTOR, HEAVY_FACTOR = 0.7, 1.25, 0.8
#: Share of the molecules on general positions that have a disordered group.
DISORDER_SHARE = 0.08
#: Times that contents are packed, each time in another cell, before they are abandoned: large
#: molecules fail more often and should not become rare.
LARGEST_TRIAL = 4
#: Crystals attempted at once.
ATTEMPTS = 256


@dataclass(frozen=True, eq=False)
class Crystal:
    """A crystal structure in the reference setting of its space group.

    Attributes
    ----------
    number : int
        Of the space group.
    unit_cell : (6,) float
        A and degrees.
    sites : (n, 3) float
        Asymmetric unit, fractions.
    atomic_numbers : (n,) int
    occupancies : (n,) float
        Chemical occupancy times the share of the general position (1/2 on an axis).
    u_iso : (n,) float
        A^2.
    """

    number: int
    unit_cell: np.ndarray
    sites: np.ndarray
    atomic_numbers: np.ndarray
    occupancies: np.ndarray
    u_iso: np.ndarray

    @property
    def volume(self) -> float:
        """Volume of the unit cell, A^3."""
        return float(np.linalg.det(orthogonalisation(self.unit_cell)))


def orthogonalisation(unit_cell: np.ndarray) -> np.ndarray:
    """Matrix from fractions to A, upper triangular: a along x, b in the plane of x and y."""
    a, b, c = unit_cell[:3]
    cos_alpha, cos_beta, cos_gamma = np.cos(np.radians(unit_cell[3:]))
    sin_gamma = np.sqrt(1.0 - cos_gamma**2)
    y = (cos_alpha - cos_beta * cos_gamma) / sin_gamma
    z = np.sqrt(1.0 - cos_beta**2 - y**2)
    return np.array([
        [a, b * cos_gamma, c * cos_beta],
        [0.0, b * sin_gamma, c * y],
        [0.0, 0.0, c * z],
    ])


def cell_parameters(matrix: np.ndarray) -> np.ndarray:
    """Edges (A) and angles (degrees) of an orthogonalisation matrix."""
    edges = np.linalg.norm(matrix, axis=0)
    cosines = (matrix.T @ matrix) / np.outer(edges, edges)
    return np.concatenate([edges, np.degrees(np.arccos(cosines[[1, 0, 0], [2, 2, 1]]))])


def equal_edges(group: SpaceGroup) -> np.ndarray:
    """For each edge the first edge that symmetry makes equally long."""
    if group.crystal_system == "cubic":
        return np.array([0, 0, 0])
    if group.crystal_system in ("tetragonal", "trigonal", "hexagonal"):
        return np.array([0, 0, 2])
    return np.array([0, 1, 2])


def free_shears(group: SpaceGroup) -> np.ndarray:
    """Elements of the orthogonalisation matrix above its diagonal that symmetry leaves free."""
    shears = np.zeros((3, 3))
    if group.crystal_system == "triclinic":
        shears[[0, 0, 1], [1, 2, 2]] = 1.0
    elif group.crystal_system == "monoclinic":
        shears[0, 2] = 1.0
    return shears


def random_cell(group: SpaceGroup, volume: float, rng: np.random.Generator) -> np.ndarray:
    """A cell of given volume (A^3) that the group allows, shape (6,)."""
    while True:
        edges = np.exp(EDGE_SPREAD * rng.normal(size=3))[equal_edges(group)]
        angles = np.full(3, 90.0)
        if group.crystal_system == "monoclinic":
            angles[1] += min(abs(rng.normal(scale=12.0)), 35.0)
        elif group.crystal_system == "triclinic":
            sign = 1.0 if rng.random() < 0.5 else -1.0
            angles += sign * np.minimum(np.abs(rng.normal(scale=13.0, size=3)), 30.0)
        elif group.crystal_system in ("trigonal", "hexagonal"):
            angles[2] = 120.0
        cell = np.concatenate([edges, angles])
        matrix = orthogonalisation(cell)
        if not np.isfinite(matrix).all():
            continue
        cell[:3] *= (volume / np.linalg.det(matrix)) ** (1.0 / 3.0)
        widths = 1.0 / np.linalg.norm(np.linalg.inv(orthogonalisation(cell)), axis=1)
        if widths.min() >= SHORTEST_EDGE - 0.2 and cell[:3].min() >= SHORTEST_EDGE:
            return cell


@functools.cache
def special_sites(number: int) -> dict[str, list[Site]]:
    """Elements of symmetry of order two that fix points: `inversion`, `twofold`, `mirror`."""
    names = {(-1, -3): "inversion", (1, -1): "twofold", (-1, 1): "mirror"}
    found: dict[str, list[Site]] = {}
    rotations, translations = space_group(number).all_operators()
    for operation, (r, t) in enumerate(zip(rotations, translations, strict=True)):
        kind = names.get((int(round(np.linalg.det(r))), int(np.trace(r))))
        if kind is None:
            continue
        for lattice in np.ndindex(2, 2, 2):
            shift = t + np.array(lattice) - 1.0
            if np.abs((np.eye(3) + r) @ shift).max() < 1e-9:
                site = Site(operation, np.array(lattice) - 1.0, r.astype(float), shift / 2.0)
                found.setdefault(kind, []).append(site)
    return found


#: The operations of a molecule (see `molecules.signs`) that each element of symmetry asks for.
SUITABLE = {"inversion": (7,), "twofold": (3, 5, 6), "mirror": (1, 2, 4)}
_AXIS_OF = {1: 0, 2: 1, 4: 2, 3: 2, 5: 1, 6: 0}


@dataclass
class Contents:
    """Bodies of an asymmetric unit: molecules, and their site and operation where special."""

    group: SpaceGroup
    molecules: list[Molecule]
    sites: list[Site | None]
    operations: list[int]

    @property
    def volume(self) -> float:
        """Volume of the cell that the atoms ask for, A^3."""
        asymmetric = sum(
            m.volume * (1.0 if site is None else 0.5)
            for m, site in zip(self.molecules, self.sites, strict=True)
        )
        return asymmetric * self.group.multiplicity


class MoleculeShelf:
    """The library, sorted for the questions that the crystals ask."""

    def __init__(self, molecules: list[Molecule]):
        self.by_kind = {kind: [m for m in molecules if m.kind == kind] for kind in Kind}
        self.water = next(
            (m for m in self.by_kind[Kind.SOLVENT] if sorted(m.atomic_numbers) == [1, 1, 8]), None
        )
        main = [m for m in molecules if m.kind in MAIN_KINDS]
        neutral = [m for m in main if m.charge == 0]
        self._sorted = {
            "neutral": self._by_volume(neutral),
            "complex": self._by_volume([m for m in neutral if m.kind == Kind.COMPLEX]),
            "cation": self._by_volume([m for m in main if m.charge > 0]),
            "anion": self._by_volume([m for m in main if m.charge < 0]),
        }
        for element, operations in SUITABLE.items():
            # half of a molecule, and counter ions: its charge must be even
            suitable = [m for m in main if set(operations) & set(m.operations) and not m.charge % 2]
            self._sorted[element] = self._by_volume(suitable)

    @staticmethod
    def _by_volume(molecules: list[Molecule]) -> tuple[np.ndarray, list[Molecule]]:
        ordered = sorted(molecules, key=lambda m: m.volume)
        return np.array([m.volume for m in ordered]), ordered

    def near(self, which: str, volume: float, rng: np.random.Generator) -> Molecule | None:
        """A random molecule of about a volume (within 15 %); None where there is none."""
        volumes, molecules = self._sorted[which]
        low, high = np.searchsorted(volumes, (0.85 * volume, 1.15 * volume))
        return molecules[rng.integers(low, high)] if high > low else None


@dataclass
class CrystalGenerator:
    """Draws artificial crystals.

    Parameters
    ----------
    molecules : list of Molecule
    seed : int
    group_shares : dict of int to float
        Relative shares of the space groups.
    median_volume : float
        Of the cells of groups with four general positions, A^3.
    device : str
        Where the packing runs.
    """

    molecules: list[Molecule]
    seed: int
    group_shares: dict[int, float] = field(default_factory=lambda: GROUP_SHARES)
    median_volume: float = MEDIAN_VOLUME
    device: str = "cpu"

    def __post_init__(self):
        self.rng = np.random.default_rng(self.seed)
        self.shelf = MoleculeShelf(self.molecules)
        self.n_attempts = self.n_accepted = self.n_abandoned = 0
        self._failed: list[tuple[Contents, int]] = []

    def __iter__(self) -> Iterator[Crystal]:
        while True:
            yield from self.batch(ATTEMPTS)

    def take(self, n: int) -> list[Crystal]:
        """The next n crystals."""
        crystals = iter(self)
        return [next(crystals) for _ in range(n)]

    def batch(self, n_attempts: int) -> list[Crystal]:
        """The crystals of n attempts: those that packed without a clash."""
        trials, self._failed = self._failed, []
        while len(trials) < n_attempts:
            drawn = self.contents()
            if drawn is not None:
                trials.append((drawn, 1))
        problems = [self.problem(contents) for contents, _ in trials]
        packed = pack(problems, int(self.rng.integers(2**31)), self.device)
        crystals = []
        for (contents, trial), result in zip(trials, packed, strict=True):
            if result.closest >= CLOSEST_ALLOWED:
                crystals.append(self.crystal(contents, result))
            elif trial < LARGEST_TRIAL:
                self._failed.append((contents, trial + 1))
            else:
                self.n_abandoned += 1
        self.n_attempts += len(trials)
        self.n_accepted += len(crystals)
        logger.info("packed %d of %d", len(crystals), len(trials))
        return crystals

    def contents(self) -> Contents | None:
        """What an asymmetric unit is made of; None where nothing of the drawn size fits."""
        rng = self.rng
        numbers = list(self.group_shares)
        shares = np.array([self.group_shares[n] for n in numbers], dtype=float)
        group = space_group(int(rng.choice(numbers, p=shares / shares.sum())))
        median = self.median_volume * (group.multiplicity / 4.0) ** VOLUME_EXPONENT
        volume = median * np.exp(VOLUME_SPREAD * rng.normal())
        if not SMALLEST_VOLUME <= volume <= LARGEST_VOLUME:
            return None
        asymmetric = volume / group.multiplicity
        elements = special_sites(group.number)
        special = SPECIAL_SHARE.get(group.number, OTHER_SPECIAL_SHARE)
        if elements and rng.random() < special:
            return self._special(group, asymmetric)
        kind = rng.choice(list(CONTENTS), p=list(CONTENTS.values()))
        if kind == "single":
            molecules = [self._neutral(asymmetric)]
        elif kind == "pair":
            molecules = [self._neutral(asymmetric / 2.0)] * 2
        elif kind == "solvate":
            solvent = self._any(Kind.SOLVENT)
            molecules = [self._neutral(asymmetric - solvent.volume), solvent]
        elif kind == "ionic":
            return self._ionic(group, asymmetric)
        else:
            molecules = self._salt(asymmetric)
        if any(m is None for m in molecules):
            return None
        return Contents(group, molecules, [None] * len(molecules), [0] * len(molecules))

    def _any(self, kind: Kind) -> Molecule:
        return self.shelf.by_kind[kind][self.rng.integers(len(self.shelf.by_kind[kind]))]

    def _neutral(self, volume: float) -> Molecule | None:
        which = "complex" if self.rng.random() < COMPLEX_SHARE else "neutral"
        return self.shelf.near(which, volume, self.rng)

    def _counter_ions(self, charge: int) -> list[Molecule]:
        """Small ions, all of one kind, that make up for a charge."""
        kind = Kind.SMALL_ANION if charge > 0 else Kind.SMALL_CATION
        single = [m for m in self.shelf.by_kind[kind] if abs(m.charge) == 1]
        return [single[self.rng.integers(len(single))]] * abs(charge)

    def _ionic(self, group: SpaceGroup, asymmetric: float) -> Contents | None:
        """Formula units of a salt or mineral, of a volume; half a cation may be on an element."""
        rng = self.rng
        if rng.random() < COMPLEX_CATION_SHARE:
            cation = self.shelf.near("cation", asymmetric * rng.uniform(0.3, 0.8), rng)
            if cation is None:
                return None
        else:
            cation = self._any(Kind.SMALL_CATION)
        anion = self._any(Kind.SMALL_ANION)
        sites: list[Site | None] = [None]
        operations, cations = [0], 1.0
        elements = special_sites(group.number)
        if elements and rng.random() < OTHER_SPECIAL_SHARE:
            element = str(rng.choice(list(elements)))
            suitable = sorted(set(SUITABLE[element]) & set(cation.operations))
            if suitable and cation.charge % 2 == 0:
                sites = [elements[element][rng.integers(len(elements[element]))]]
                operations, cations = [int(rng.choice(suitable))], 0.5
        # the fewest ions that are neutral together
        most = MOST_IONS if cations == 1.0 else 1
        for n in range(1, most + 1):
            anions = n * cations * cation.charge / -anion.charge
            if anions == int(anions):
                break
        else:
            return None
        waters = int(rng.poisson(MEAN_WATERS * n)) if self.shelf.water else 0
        unit = [cation] * n + [anion] * int(anions) + [self.shelf.water] * waters
        volume = sum(m.volume for m in unit) - (1.0 - cations) * cation.volume
        copies = 1 if cations < 1.0 else max(1, round(asymmetric / volume))
        molecules = unit * copies
        if len(molecules) > MOST_IONS or not 0.4 < copies * volume / asymmetric < 2.5:
            return None
        others = len(molecules) - 1
        return Contents(group, molecules, sites + [None] * others, operations + [0] * others)

    def _salt(self, volume: float) -> list[Molecule | None]:
        rng = self.rng
        if rng.random() < ORGANIC_SALT_SHARE:
            share = rng.uniform(0.3, 0.7)
            pair = [
                self.shelf.near("cation", share * volume, rng),
                self.shelf.near("anion", (1.0 - share) * volume, rng),
            ]
            balanced = None not in pair and sum(m.charge for m in pair) == 0
            return pair if balanced else [None]
        which = "cation" if rng.random() < CATION_SHARE else "anion"
        main = self.shelf.near(which, SALT_MAIN_SHARE * volume, rng)
        return [None] if main is None else [main, *self._counter_ions(main.charge)]

    def _special(self, group: SpaceGroup, asymmetric: float) -> Contents | None:
        rng = self.rng
        elements = special_sites(group.number)
        element = str(rng.choice(list(elements)))
        main = self.shelf.near(element, 2.0 * asymmetric, rng)
        if main is None:
            return None
        site = elements[element][rng.integers(len(elements[element]))]
        operation = int(rng.choice(sorted(set(SUITABLE[element]) & set(main.operations))))
        molecules = [main, *self._counter_ions(main.charge // 2)]
        if len(molecules) == 1 and rng.random() < CONTENTS["solvate"]:
            molecules.append(self._any(Kind.SOLVENT))
        others = len(molecules) - 1
        return Contents(group, molecules, [site] + [None] * others, [operation] + [0] * others)

    def problem(self, contents: Contents) -> Problem:
        """The packing problem: a cell, and a random start."""
        rng, group = self.rng, contents.group
        volume = contents.volume * np.exp(LOOSENESS + LOOSENESS_SPREAD * rng.normal())
        cell = orthogonalisation(random_cell(group, volume, rng))
        rotations, translations = group.all_operators()
        centres, orientations = [], []
        for site, operation in zip(contents.sites, contents.operations, strict=True):
            if site is None:
                centres.append(rng.random(3))
                orientations.append(random_rotation(rng))
            else:
                centres.append(site.point + site.projection @ rng.random(3))
                orientations.append(self._aligned(cell, site, operation))
        sizes = [len(m.atomic_numbers) for m in contents.molecules]
        return Problem(
            cell=cell,
            equal_edges=equal_edges(group),
            shears=free_shears(group),
            rotations=rotations.astype(float),
            translations=translations,
            coordinates=np.concatenate([m.coordinates for m in contents.molecules]),
            hydrogen=np.concatenate([m.atomic_numbers for m in contents.molecules]) == 1,
            body=np.repeat(np.arange(len(sizes)), sizes),
            contact=contact_distances(contents.molecules),
            sites=contents.sites,
            centres=np.array(centres),
            orientations=np.array(orientations),
        )

    def _aligned(self, cell: np.ndarray, site: Site, operation: int) -> np.ndarray:
        """A random orientation in which the molecule's element coincides with the crystal's."""
        if operation == 7:
            return random_rotation(self.rng)
        cartesian = cell @ site.rotation @ np.linalg.inv(cell)
        determinant = np.linalg.det(cartesian)
        axis = np.linalg.svd(np.eye(3) + determinant * cartesian)[0][:, 0]
        return rotation_along(axis, _AXIS_OF[operation], self.rng)

    def crystal(self, contents: Contents, packing: Packing) -> Crystal:
        """The asymmetric unit of a packed crystal, with displacements and disorder."""
        rng = self.rng
        inverse = np.linalg.inv(packing.cell)
        base_u = np.clip(MEDIAN_U * np.exp(U_SPREAD * rng.normal()), SMALLEST_U, LARGEST_U)
        parts: list[tuple[np.ndarray, ...]] = []
        for k, molecule in enumerate(contents.molecules):
            orientation = packing.orientations[k]
            u, _, vh = np.linalg.svd(orientation)
            to_fractions = inverse @ u @ vh
            sites = packing.centres[k] + molecule.coordinates @ to_fractions.T
            weights = np.ones(len(sites))
            kept = np.arange(len(sites))
            site = contents.sites[k]
            if site is not None:
                mate = mates(
                    molecule.atomic_numbers, molecule.coordinates, contents.operations[k], 1e-6
                )
                kept = np.flatnonzero(kept <= mate)
                on_element = mate[kept] == kept
                weights = np.where(on_element, 0.5, 1.0)
                exact = site.point + (sites - site.point) @ site.projection.T
                sites = np.where((mate == np.arange(len(sites)))[:, None], exact, sites)
                sites = sites[kept]
            u_iso = displacements(molecule, base_u * np.exp(0.15 * rng.normal()), rng)[kept]
            parts.append((sites, molecule.atomic_numbers[kept], weights, u_iso))
            second = None
            if site is None and rng.random() < DISORDER_SHARE:
                second = second_place(molecule, rng)
            if second is not None:
                group, coordinates, occupancy = second
                weights[group] = occupancy
                moved = packing.centres[k] + coordinates @ to_fractions.T
                rest = np.full(len(group), 1.0 - occupancy)
                parts.append((moved, molecule.atomic_numbers[group], rest, u_iso[group]))
        sites, numbers, occupancies, u_iso = (np.concatenate(x) for x in zip(*parts, strict=True))
        return Crystal(
            contents.group.number,
            cell_parameters(packing.cell),
            sites,
            numbers,
            occupancies,
            u_iso,
        )


def displacements(molecule: Molecule, base: float, rng: np.random.Generator) -> np.ndarray:
    """U_iso (A^2): larger far from the middle, for hydrogens, and smaller for heavy atoms."""
    radius = np.linalg.norm(molecule.coordinates, axis=1)
    relative = radius / max(radius.max(), 3.0)
    factor = 1.0 + OUTER_EXCESS * relative**2
    factor *= np.where(molecule.atomic_numbers == 1, HYDROGEN_FACTOR, 1.0)
    factor *= np.where(molecule.atomic_numbers > 18, HEAVY_FACTOR, 1.0)
    factor *= np.exp(0.08 * rng.normal(size=len(factor)))
    return np.clip(base * factor, SMALLEST_U, LARGEST_U)


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    """A rotation, uniform over all."""
    w, x, y, z = (q := rng.normal(size=4)) / np.linalg.norm(q)
    return np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ])


def rotation_along(axis: np.ndarray, column: int, rng: np.random.Generator) -> np.ndarray:
    """A random rotation that brings a coordinate axis onto a given unit vector."""
    across = np.cross(axis, rng.normal(size=3))
    across /= np.linalg.norm(across)
    columns = [axis, across, np.cross(axis, across)]
    return np.stack([columns[(i - column) % 3] for i in range(3)], axis=1)


def write_crystals(path: str | Path, crystals: list[Crystal]) -> None:
    """Write a pool of crystals to an ``.npz`` file, which appears when it is complete."""
    path = Path(path)
    unfinished = path.with_name(path.name + ".part")
    with open(unfinished, "wb") as stream:
        np.savez_compressed(
            stream,
            number=np.array([c.number for c in crystals], dtype=np.uint8),
            unit_cell=np.array([c.unit_cell for c in crystals]),
            n_atoms=np.array([len(c.sites) for c in crystals], dtype=np.int32),
            sites=np.concatenate([c.sites for c in crystals]).astype(np.float32),
            atomic_numbers=np.concatenate([c.atomic_numbers for c in crystals]).astype(np.uint8),
            occupancies=np.concatenate([c.occupancies for c in crystals]).astype(np.float32),
            u_iso=np.concatenate([c.u_iso for c in crystals]).astype(np.float32),
        )
    unfinished.replace(path)


def read_crystals(path: str | Path) -> list[Crystal]:
    """The crystals of a pool."""
    with np.load(path) as content:
        ends = np.cumsum(content["n_atoms"])[:-1]
        per_atom = [
            np.split(content[name], ends)
            for name in ("sites", "atomic_numbers", "occupancies", "u_iso")
        ]
        return [
            Crystal(int(number), cell, *atoms)
            for number, cell, *atoms in zip(
                content["number"], content["unit_cell"], *per_atom, strict=True
            )
        ]


def main(arguments: list[str]) -> None:
    """Write a pool: ``out.npz library=FILE n=4000 seed=0 groups=all median_volume=700``.

    `groups` may be ``all``, ``centro``, ``acentric``, or numbers of space groups (``2,14``).
    """
    out, *rest = arguments
    options = {"n": "4000", "seed": "0", "groups": "all", "device": "cpu", "library": ""}
    options["median_volume"] = str(MEDIAN_VOLUME)
    options.update(argument.split("=", 1) for argument in rest)
    generator = CrystalGenerator(
        read_library(options["library"]),
        int(options["seed"]),
        _shares(options["groups"]),
        float(options["median_volume"]),
        options["device"],
    )
    start = time.monotonic()
    crystals = generator.take(int(options["n"]))
    write_crystals(out, crystals)
    seconds = time.monotonic() - start
    logger.info(
        "%s: %d crystals in %.0f s (%.1f per second); %.0f %% of %d attempts packed, %d abandoned",
        out, len(crystals), seconds, len(crystals) / seconds,
        100.0 * generator.n_accepted / generator.n_attempts, generator.n_attempts,
        generator.n_abandoned,
    )  # fmt: skip


def _shares(groups: str) -> dict[int, float]:
    """Space groups and their shares, of a word or of numbers as the command takes them."""
    if groups == "all":
        return GROUP_SHARES
    if groups == "centro":
        return CENTROSYMMETRIC_SHARES
    if groups == "acentric":
        return {n: share for n, share in GROUP_SHARES.items() if not space_group(n).centrosymmetric}
    return {int(n): GROUP_SHARES[int(n)] for n in groups.split(",")}


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main(sys.argv[1:])
