"""Disorder in artificial crystals: a group of atoms in two places, each with part of the occupancy.

A group turns about the bond that holds it (CF3, tert-butyl, phenyl, chain ends), a solvent
molecule or counter ion about its centre.
"""

from __future__ import annotations

import numpy as np
import torch

from phai_cctbx.training.molecules import Molecule, bonds
from phai_cctbx.training.packing import rotation_matrices

#: Largest group that turns, in non-hydrogen atoms.
LARGEST_GROUP = 6
#: Turn between the two places, radians, and occupancy of the first one.
TURN, OCCUPANCY = (0.5, 1.3), (0.5, 0.85)


def group_beyond(bonded: np.ndarray, root: int, first: int) -> np.ndarray | None:
    """Atoms that hang on `root` through `first`; None where the bond is part of a ring."""
    reached, front = {first}, [first]
    while front:
        for neighbour in np.flatnonzero(bonded[front.pop()]):
            if neighbour == root:
                continue
            if neighbour not in reached:
                reached.add(int(neighbour))
                front.append(int(neighbour))
    closes_ring = any(bonded[atom, root] for atom in reached - {first})
    return None if closes_ring else np.array(sorted(reached))


def second_place(
    molecule: Molecule, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, float] | None:
    """A group of the molecule and where else it may be.

    Returns
    -------
    tuple or None
        Atoms of the group, their second coordinates in the frame of the molecule (A), and the
        occupancy of the first place; None where no group was found.
    """
    numbers, coordinates = molecule.atomic_numbers, molecule.coordinates
    occupancy = float(rng.uniform(*OCCUPANCY))
    turn = float(rng.uniform(*TURN))
    if 1 < len(numbers) and molecule.n_heavy <= LARGEST_GROUP:
        axis = rng.normal(size=3)
        group, centre = np.arange(len(numbers)), coordinates.mean(axis=0)
    else:
        bonded = bonds(numbers, coordinates)
        heavy_pairs = np.argwhere(bonded & (numbers[:, None] > 1) & (numbers[None] > 1))
        for root, first in rng.permutation(heavy_pairs)[:20]:
            group = group_beyond(bonded, int(root), int(first))
            if group is None or not 2 <= len(group):
                continue
            if (numbers[group] > 1).sum() <= LARGEST_GROUP:
                break
        else:
            return None
        axis, centre = coordinates[first] - coordinates[root], coordinates[root]
    rotation = rotation_matrices(torch.tensor(axis / np.linalg.norm(axis) * turn)).numpy()
    return group, (coordinates[group] - centre) @ rotation.T + centre, occupancy
