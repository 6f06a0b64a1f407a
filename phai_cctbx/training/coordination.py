"""Coordination compounds built geometrically: a metal, a polyhedron, and rigid ligands around it.

Bond lengths are sums of covalent radii (Cordero et al., Dalton Trans. (2008) 2832), which
reproduce metal-ligand distances in crystals within about 0.1 A.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from phai_cctbx.training.elements import ATOMIC_NUMBERS, COVALENT_RADII

#: Polyhedra: unit vectors to the corners, opposite ones next to each other where there are any.
POLYHEDRA = {
    "octahedron": np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1.0]]),
    "square": np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0.0]]),
    "tetrahedron": np.array([[1, 1, 1], [-1, -1, 1], [1, -1, -1], [-1, 1, -1.0]]) / np.sqrt(3.0),
    "line": np.array([[1, 0, 0], [-1, 0, 0.0]]),
    "pyramid": np.array([[1, 0, 0.2], [-1, 0, 0.2], [0, 1, 0.2], [0, -1, 0.2], [0, 0, 1]])
    / np.array([1.02, 1.02, 1.02, 1.02, 1.0])[:, None],
    "sandwich": np.array([[0, 0, 1], [0, 0, -1.0]]),
    "piano stool": np.array(
        [[0, 0, 1], [0.82, 0, -0.57], [-0.41, 0.71, -0.57], [-0.41, -0.71, -0.57]]
    ),
}
#: Metals with their common oxidation states and polyhedra.
METALS = {
    "Mn": ((2, 3), ("octahedron",)),
    "Fe": ((2, 3), ("octahedron", "sandwich", "tetrahedron")),
    "Co": ((2, 3), ("octahedron", "tetrahedron")),
    "Ni": ((2,), ("octahedron", "square", "tetrahedron")),
    "Cu": ((2, 1), ("octahedron", "square", "pyramid", "tetrahedron")),
    "Zn": ((2,), ("octahedron", "tetrahedron", "pyramid")),
    "Pd": ((2,), ("square",)),
    "Pt": ((2, 4), ("square", "octahedron")),
    "Ag": ((1,), ("line", "tetrahedron")),
    "Au": ((1, 3), ("line", "square")),
    "Ru": ((2, 3), ("octahedron", "piano stool")),
    "Rh": ((3, 1), ("octahedron", "square", "piano stool")),
    "Ir": ((3,), ("octahedron", "piano stool")),
    "Re": ((1, 5), ("octahedron",)),
    "Mo": ((0, 2, 6), ("octahedron",)),
    "Cr": ((3, 0), ("octahedron",)),
    "V": ((4, 3), ("pyramid", "octahedron")),
    "Cd": ((2,), ("octahedron", "tetrahedron")),
    "Hg": ((2,), ("line", "tetrahedron")),
    "Sn": ((4,), ("tetrahedron", "octahedron")),
    "Ti": ((4,), ("tetrahedron", "octahedron")),
}  # fmt: skip
METAL_WEIGHTS = {
    "Cu": 6, "Zn": 4, "Co": 4, "Ni": 4, "Fe": 5, "Mn": 3, "Pd": 3, "Pt": 2.5, "Ru": 2.5, "Ag": 2,
    "Cd": 2, "Re": 1, "Mo": 1.2, "Cr": 1, "V": 0.8, "Rh": 1, "Ir": 1, "Au": 0.8, "Hg": 0.8,
    "Sn": 1, "Ti": 0.8,
}  # fmt: skip
#: Largest distance of two donors that may chelate, A.
LARGEST_BITE = 3.3
#: Atoms of different ligands are at least this far apart, A: both heavy, one or both hydrogens.
HEAVY_CLEARANCE, HYDROGEN_CLEARANCE = 2.45, 1.95
#: Turns that are tried for every ligand, and ligand sets for every complex.
TURNS = 24
#: Share of complexes that are built centrosymmetric where the polyhedron allows it.
CENTRED_SHARE = 0.45


@dataclass(frozen=True, eq=False)
class Ligand:
    """A rigid ligand.

    Attributes
    ----------
    atomic_numbers : (n,) int
    coordinates : (n, 3) float
        A.
    donors : tuple of int
        One or two atoms that bind, or the ring atoms of a pi ligand (five or six).
    charge : int
    """

    atomic_numbers: np.ndarray
    coordinates: np.ndarray
    donors: tuple[int, ...]
    charge: int

    @property
    def n_corners(self) -> int:
        """Corners of the polyhedron that the ligand takes."""
        return 2 if len(self.donors) == 2 else 1

    def placed(self, metal: int, corners: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Coordinates about a metal (atomic number) at the origin, turned at random, (n, 3)."""
        donors = self.coordinates[list(self.donors)]
        bond = COVALENT_RADII[metal] + COVALENT_RADII[self.atomic_numbers[list(self.donors)]]
        bond = bond * rng.normal(1.0, 0.015)
        middle = donors.mean(axis=0)
        away = middle - self._weighted_centre()
        if len(self.donors) == 2:
            across = donors[1] - donors[0]
            bite = np.linalg.norm(across)
            away -= across * (away @ across) / bite**2
            height = np.sqrt(max(bond.mean() ** 2 - bite**2 / 4.0, 0.3))
            source = _frame(-away, across)
            target = _frame(corners.sum(axis=0), corners[1] - corners[0])
        else:
            if len(self.donors) > 2:
                normal = np.linalg.svd(donors - middle)[2][2]
                away = normal if rng.random() < 0.5 else -normal
                radius = np.linalg.norm(donors - middle, axis=1).mean()
                height = np.sqrt(max((bond.mean() + 0.04) ** 2 - radius**2, 1.0))
            else:
                height = bond[0]
            if np.linalg.norm(away) < 1e-3:
                away = rng.normal(size=3)
            source = _frame(-away, rng.normal(size=3))
            target = _frame(corners[0], rng.normal(size=3))
        return (self.coordinates - middle) @ (target @ source.T).T + target[:, 0] * height

    def _weighted_centre(self) -> np.ndarray:
        """Centre of the atoms near the donors: they point away from it to the metal."""
        middle = self.coordinates[list(self.donors)].mean(axis=0)
        distance = np.linalg.norm(self.coordinates - middle, axis=1)
        weights = np.exp(-((distance / 1.3) ** 2))
        return weights @ self.coordinates / weights.sum()


def _frame(x: np.ndarray, near_y: np.ndarray) -> np.ndarray:
    """Right-handed frame as columns: along `x`, and `near_y` made orthogonal to it."""
    x = x / np.linalg.norm(x)
    y = near_y - x * (near_y @ x)
    y /= np.linalg.norm(y)
    return np.stack([x, y, np.cross(x, y)], axis=1)


def _clashes(
    numbers: np.ndarray, sites: np.ndarray, others: np.ndarray, other_sites: np.ndarray
) -> bool:
    distance = np.linalg.norm(sites[:, None] - other_sites[None], axis=-1)
    with_hydrogen = (numbers == 1)[:, None] | (others == 1)[None]
    return bool((distance < np.where(with_hydrogen, HYDROGEN_CLEARANCE, HEAVY_CLEARANCE)).any())


class ComplexBuilder:
    """Builds coordination compounds from a set of ligands.

    Parameters
    ----------
    ligands : list of Ligand
    rng : numpy.random.Generator
    """

    def __init__(self, ligands: list[Ligand], rng: np.random.Generator):
        self.rng = rng
        self.chelates = [x for x in ligands if len(x.donors) == 2]
        self.rings = [x for x in ligands if len(x.donors) > 2]
        self.single = [x for x in ligands if len(x.donors) == 1]

    def _any(self, ligands: list[Ligand]) -> Ligand:
        return ligands[self.rng.integers(len(ligands))]

    def build(self) -> tuple[np.ndarray, np.ndarray, int] | None:
        """Atomic numbers, coordinates (A) and charge of a complex; None where ligands clash."""
        rng = self.rng
        symbols = list(METAL_WEIGHTS)
        weights = np.array(list(METAL_WEIGHTS.values()))
        symbol = str(rng.choice(symbols, p=weights / weights.sum()))
        states, shapes = METALS[symbol]
        shape = str(rng.choice(shapes))
        corners = POLYHEDRA[shape]
        plan = self._plan(shape, len(corners))
        centred = shape in ("octahedron", "square", "line", "sandwich") and (
            rng.random() < CENTRED_SHARE
        )
        metal = ATOMIC_NUMBERS[symbol]
        numbers, sites, charges = [np.array([metal])], [np.zeros((1, 3))], 0
        done: set[int] = set()
        for ligand, taken in plan:
            if done & set(taken):
                continue
            placed = self._placed(ligand, metal, corners[taken], numbers, sites, centred)
            if placed is None:
                return None
            copies = 2 if centred and not set(taken) & {t ^ 1 for t in taken} else 1
            if centred and copies == 1:
                return None
            for sign in (1.0, -1.0)[:copies]:
                numbers.append(ligand.atomic_numbers)
                sites.append(sign * placed)
                charges += ligand.charge
            done |= set(taken) | ({t ^ 1 for t in taken} if centred else set())
        charge = min((state + charges for state in states), key=abs)
        return np.concatenate(numbers), np.concatenate(sites), charge

    def _plan(self, shape: str, n_corners: int) -> list[tuple[Ligand, list[int]]]:
        """Ligands and the corners they take: few kinds, as in real compounds."""
        rng = self.rng
        if shape == "sandwich":
            first = self._any(self.rings)
            return [(first, [0]), (first if rng.random() < 0.6 else self._any(self.rings), [1])]
        kinds = [self._any(self.single) for _ in range(1 + (rng.random() < 0.6))]
        plan: list[tuple[Ligand, list[int]]] = []
        free = list(range(n_corners))
        if shape == "piano stool":
            plan.append((self._any(self.rings), [0]))
            free.remove(0)
        # chelates span corners at right angles
        spans = {6: ([0, 2], [1, 3]), 5: ([0, 2], [1, 3]), 4: ([0, 2], [1, 3])}.get(n_corners, ())
        if shape == "piano stool":
            spans = ([1, 2],)
        if shape == "octahedron" and rng.random() < 0.25:
            spans = ([0, 2], [1, 4], [3, 5])
        n_chelates = int(rng.integers(0, len(spans) + 1)) if spans else 0
        chelate = self._any(self.chelates)
        for span in spans[:n_chelates]:
            plan.append((chelate, list(span)))
            free = [corner for corner in free if corner not in span]
        for pair in range(0, len(free), 2):
            kind = kinds[rng.integers(len(kinds))]
            plan.extend((kind, [corner]) for corner in free[pair : pair + 2])
        return plan

    def _placed(
        self,
        ligand: Ligand,
        metal: int,
        corners: np.ndarray,
        numbers: list[np.ndarray],
        sites: list[np.ndarray],
        centred: bool,
    ) -> np.ndarray | None:
        """The ligand turned so that it clashes with nothing placed before, nor its own image."""
        apart = np.ones(len(ligand.atomic_numbers), dtype=bool)
        apart[list(ligand.donors)] = False
        for _ in range(TURNS):
            placed = ligand.placed(metal, corners, self.rng)
            others, other_sites = np.concatenate(numbers[1:] or [numbers[0][:0]]), np.concatenate(
                sites[1:] or [sites[0][:0]]
            )
            if centred:
                others = np.concatenate([others, ligand.atomic_numbers])
                other_sites = np.concatenate([other_sites, -placed])
            free = ~_near_metal(other_sites)
            if len(others) and (
                _clashes(ligand.atomic_numbers[apart], placed[apart], others, other_sites)
                or _clashes(ligand.atomic_numbers, placed, others[free], other_sites[free])
            ):
                continue
            to_metal = np.linalg.norm(placed[apart], axis=1)
            if len(to_metal) and to_metal.min() < 1.9 and len(ligand.donors) < 3:
                continue
            return placed
        return None


def _near_metal(sites: np.ndarray) -> np.ndarray:
    return np.linalg.norm(sites, axis=1) < 2.75
