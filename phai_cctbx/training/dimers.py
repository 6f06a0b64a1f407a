"""Symmetric molecules from two halves, for special positions (Z' = 1/2).

Two copies of a molecule are joined where one hydrogen was: across an inversion centre, about a
twofold axis, or in a mirror; directly, or through a bridging atom on the symmetry element.
"""

from __future__ import annotations

import numpy as np

from phai_cctbx.training.elements import COVALENT_RADII
from phai_cctbx.training.molecules import bonds, signs

#: Bridges on an axis or a mirror: the atoms on the element (atomic number, height along the axis
#: of the bridge in A), and the angle that the halves enclose, degrees. Lengths and angles are
#: those of the methods of joining in Allen et al., J. Chem. Soc. Perkin Trans. 2 (1987) S1.
BRIDGES = (
    (((8, 0.0),), 118.0),
    (((16, 0.0),), 103.0),
    (((6, 0.0), (8, -1.22)), 119.0),
    (((7, 0.0), (1, -0.95)), 124.0),
    (((16, 0.0), (16, -1.95)), 105.0),
    (((34, 0.0),), 99.0),
)
INVERSION, TWOFOLD, MIRROR = 7, 3, 4
#: Atoms of the two halves stay apart by the sum of their covalent radii plus this, A, other than
#: those that hold the halves together.
CLEARANCE = 1.0


def joined(
    atomic_numbers: np.ndarray, coordinates: np.ndarray, operation: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray] | None:
    """Two halves joined symmetrically.

    Parameters
    ----------
    atomic_numbers : (n,) int
    coordinates : (n, 3) float
        A molecule with hydrogens, A.
    operation : int
        `INVERSION`, `TWOFOLD` (about z) or `MIRROR` (across z).
    rng : numpy.random.Generator

    Returns
    -------
    tuple or None
        Atomic numbers and coordinates (A); None where there is no hydrogen to replace or the
        halves would clash.
    """
    bonded = bonds(atomic_numbers, coordinates)
    hydrogens = [
        h for h in np.flatnonzero(atomic_numbers == 1)
        if bonded[h].sum() == 1 and atomic_numbers[bonded[h].argmax()] == 6
    ]
    if not hydrogens:
        return None
    h = int(rng.choice(hydrogens))
    root = int(bonded[h].argmax())
    numbers = np.delete(atomic_numbers, h)
    direction = coordinates[h] - coordinates[root]
    half = np.delete(coordinates, h, axis=0) - coordinates[root]
    half = half @ _rotation_between(direction / np.linalg.norm(direction), rng).T
    radius = COVALENT_RADII[6]
    bridge_numbers, bridge = np.zeros(0, dtype=np.int64), np.zeros((0, 3))
    if operation == INVERSION:
        outward, start = np.array([0.0, 0.0, 1.0]), radius - 0.02
    else:
        atoms, angle = BRIDGES[rng.integers(len(BRIDGES))]
        bridge_numbers = np.array([z for z, _ in atoms])
        axis = np.array([0.0, 0.0, 1.0]) if operation == TWOFOLD else np.array([0.0, 1.0, 0.0])
        bridge = np.array([height for _, height in atoms])[:, None] * axis
        spread = np.array([1.0, 0.0, 0.0]) if operation == TWOFOLD else np.array([0.0, 0.0, 1.0])
        half_angle = np.radians(angle / 2.0)
        outward = np.cos(half_angle) * axis + np.sin(half_angle) * spread
        start = radius + COVALENT_RADII[atoms[0][0]] - 0.02
    half = half @ _frame_along(outward).T + outward * start
    image = half * signs(operation)
    distance = np.linalg.norm(half[:, None] - image[None], axis=-1)
    limit = COVALENT_RADII[numbers][:, None] + COVALENT_RADII[numbers][None] + CLEARANCE
    root_index = root - (h < root)
    distance[root_index] = distance[:, root_index] = np.inf
    to_bridge = np.linalg.norm(half[:, None] - bridge[None], axis=-1)
    to_bridge[root_index] = np.inf
    bridge_limit = COVALENT_RADII[numbers][:, None] + COVALENT_RADII[bridge_numbers][None] + 0.6
    if (distance < limit).any() or (to_bridge < bridge_limit).any():
        return None
    return np.concatenate([numbers, numbers, bridge_numbers]), np.concatenate([half, image, bridge])


def _rotation_between(direction: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A rotation that brings `direction` to -z, with a random turn about z."""
    frame = _frame_along(-direction).T
    angle = rng.uniform(0.0, 2.0 * np.pi)
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]) @ frame


def _frame_along(z: np.ndarray) -> np.ndarray:
    """Rotation matrix whose third column is `z`."""
    other = np.eye(3)[np.abs(z).argmin()]
    x = np.cross(other, z)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z], axis=1)
