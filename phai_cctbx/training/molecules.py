"""Molecules for artificial crystals: a library of conformers and their symmetry.

Each molecule stands in a frame of its own, centred, with its axes along the symmetry elements it
has (of D2h: an inversion centre, twofold axes, mirrors); there it is exactly symmetric, so that it
can sit on a special position. The library is a file made by ``phai_cctbx.molecule_library``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import numpy as np

from phai_cctbx.training.elements import ATOMIC_VOLUMES, COVALENT_RADII

#: Coordinates are kept as integers in units of this, A.
COORDINATE_UNIT = 1e-3
#: Version of the file format.
FORMAT = 1
#: An operation is a symmetry of a conformer where it moves no atom by more than this, A.
SYMMETRY_TOLERANCE = 0.35
#: Up to so many atoms, more axes are tried.
SMALL = 12
#: Atoms closer than the sum of their covalent radii plus this are bonded, A.
BOND_TOLERANCE = 0.4


class Kind(IntEnum):
    """What a molecule is in a crystal."""

    NEUTRAL = 0
    CATION = 1
    ANION = 2
    SMALL_CATION = 3
    SMALL_ANION = 4
    SOLVENT = 5
    COMPLEX = 6


def signs(operation: int) -> np.ndarray:
    """Diagonal of an operation of D2h: bit i of the number inverts axis i.

    0 is the identity, 7 the inversion; 3, 5, 6 are twofold axes; 1, 2, 4 are mirrors.
    """
    return np.array([-1.0 if operation >> axis & 1 else 1.0 for axis in range(3)])


@dataclass(frozen=True, eq=False)
class Molecule:
    """A rigid molecule or ion.

    Attributes
    ----------
    atomic_numbers : (n,) int
    coordinates : (n, 3) float
        A, about the centre of the atoms.
    operations : tuple of int
        Symmetries, see `signs`; a subgroup of D2h without the identity.
    kind : Kind
    charge : int
    """

    atomic_numbers: np.ndarray
    coordinates: np.ndarray
    operations: tuple[int, ...]
    kind: Kind
    charge: int

    @property
    def n_heavy(self) -> int:
        """Number of atoms other than hydrogen."""
        return int((self.atomic_numbers > 1).sum())

    @property
    def volume(self) -> float:
        """Volume that the atoms take in a crystal on average, A^3."""
        return float(ATOMIC_VOLUMES[self.atomic_numbers].sum())


def bonds(atomic_numbers: np.ndarray, coordinates: np.ndarray) -> np.ndarray:
    """Which atoms are bonded, by distance; shape (n, n), bool."""
    distance = np.linalg.norm(coordinates[:, None] - coordinates[None], axis=-1)
    radii = COVALENT_RADII[atomic_numbers]
    both_hydrogen = (atomic_numbers[:, None] == 1) & (atomic_numbers[None] == 1)
    bonded = (distance < radii[:, None] + radii[None] + BOND_TOLERANCE) & ~both_hydrogen
    np.fill_diagonal(bonded, False)
    return bonded


def mates(
    atomic_numbers: np.ndarray, coordinates: np.ndarray, operation: int, tolerance: float
) -> np.ndarray | None:
    """The atom onto which an operation brings each atom; None where it is no symmetry."""
    image = coordinates * signs(operation)
    distance = np.linalg.norm(image[:, None] - coordinates[None], axis=-1)
    distance[atomic_numbers[:, None] != atomic_numbers[None]] = np.inf
    nearest = distance.argmin(axis=1)
    if distance[np.arange(len(nearest)), nearest].max() > tolerance:
        return None
    if (nearest[nearest] != np.arange(len(nearest))).any():
        return None
    return nearest


def _frames(atomic_numbers: np.ndarray, centred: np.ndarray) -> list[np.ndarray]:
    """Rotations into frames whose axes may be symmetry elements."""
    heavy = centred[atomic_numbers > 1] if (atomic_numbers > 1).any() else centred
    _, axes = np.linalg.eigh(heavy.T @ heavy)
    # Tops have no principal axes of their own: axes point at atoms, or halve or stand upright on
    # the angle of two.
    tried = centred if len(centred) <= SMALL else heavy
    outer = tried[np.argsort(-np.linalg.norm(tried, axis=1), kind="stable")]
    outer = [v / max(np.linalg.norm(v), 1e-6) for v in outer[: 4 if len(centred) <= SMALL else 2]]
    pairs = [(a, b) for k, a in enumerate(outer) for b in outer[k + 1 :]]
    candidates = [*axes.T, *outer, *(a + b for a, b in pairs), *(np.cross(a, b) for a, b in pairs)]
    units = [v / length for v in candidates if (length := np.linalg.norm(v)) > 0.1]
    frames = [axes.T]
    for k, x in enumerate(units):
        for y in units[k + 1 :]:
            if abs(x @ y) < 0.1:
                y = y - x * (x @ y)
                y /= np.linalg.norm(y)
                frames.append(np.array([x, y, np.cross(x, y)]))
    return frames


def _subgroup(found: dict[int, np.ndarray]) -> list[int]:
    """The largest subgroup of D2h (without identity) among the operations found."""
    best: list[int] = []
    for a in found:
        for b in found:
            group = sorted({a, b, a ^ b} - {0})
            if len(group) > len(best) and all(operation in found for operation in group):
                best = group
    return sorted(found) if len(found) == 7 else best


def in_symmetry_frame(
    atomic_numbers: np.ndarray, coordinates: np.ndarray
) -> tuple[np.ndarray, tuple[int, ...]]:
    """Turn a molecule so that its symmetries are those of `signs`, and make them exact.

    Returns
    -------
    coordinates : (n, 3) float
        A, centred, rounded to `COORDINATE_UNIT`.
    operations : tuple of int
    """
    centred = coordinates - coordinates.mean(axis=0)
    best, best_group, best_mates = centred, [], {}
    for frame in _frames(atomic_numbers, centred):
        turned = centred @ frame.T
        found = {
            operation: mate
            for operation in range(1, 8)
            if (mate := mates(atomic_numbers, turned, operation, SYMMETRY_TOLERANCE)) is not None
        }
        group = _subgroup(found)
        if len(group) > len(best_group):
            best, best_group, best_mates = turned, group, found
    images = [best] + [(best * signs(operation))[best_mates[operation]] for operation in best_group]
    exact = np.mean(images, axis=0)
    exact = np.rint(exact / COORDINATE_UNIT) * COORDINATE_UNIT
    kept = [o for o in best_group if mates(atomic_numbers, exact, o, 1e-6) is not None]
    if len(kept) < len(best_group):
        return np.rint(centred / COORDINATE_UNIT) * COORDINATE_UNIT, ()
    return exact, tuple(kept)


def write_library(path: str | Path, molecules: list[Molecule]) -> None:
    """Write molecules to a compact ``.npz`` file."""
    with open(path, "wb") as stream:
        np.savez_compressed(
            stream,
            format=np.array(FORMAT),
            n_atoms=np.array([len(m.atomic_numbers) for m in molecules], dtype=np.uint16),
            atomic_numbers=np.concatenate([m.atomic_numbers for m in molecules]).astype(np.uint8),
            coordinates=np.rint(
                np.concatenate([m.coordinates for m in molecules]) / COORDINATE_UNIT
            ).astype(np.int16),
            operations=np.array(
                [sum(1 << operation for operation in m.operations) for m in molecules],
                dtype=np.uint8,
            ),
            kind=np.array([m.kind for m in molecules], dtype=np.uint8),
            charge=np.array([m.charge for m in molecules], dtype=np.int8),
        )


def read_library(path: str | Path) -> list[Molecule]:
    """Molecules of a library file.

    Raises
    ------
    ValueError
        If the file has another format.
    """
    with np.load(path) as content:
        if "format" not in content or int(content["format"]) != FORMAT:
            raise ValueError(f"{path}: not a molecule library of format {FORMAT}")
        ends = np.cumsum(content["n_atoms"].astype(np.int64))[:-1]
        numbers = np.split(content["atomic_numbers"].astype(np.int64), ends)
        coordinates = np.split(content["coordinates"] * COORDINATE_UNIT, ends)
        return [
            Molecule(z, x, tuple(o for o in range(1, 8) if flags >> o & 1), Kind(kind), int(charge))
            for z, x, flags, kind, charge in zip(
                numbers,
                coordinates,
                content["operations"],
                content["kind"],
                content["charge"],
                strict=True,
            )
        ]
