"""Coordination compounds: bond lengths and symmetry."""

from __future__ import annotations

import numpy as np
import pytest

from phai_cctbx.training.coordination import METALS, ComplexBuilder, Ligand
from phai_cctbx.training.elements import ATOMIC_NUMBERS, COVALENT_RADII
from phai_cctbx.training.molecules import in_symmetry_frame

WATER = Ligand(
    np.array([8, 1, 1]), np.array([[0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0.0]]), (0,), 0
)
CHLORIDE = Ligand(np.array([17]), np.zeros((1, 3)), (0,), -1)
OXALATE = Ligand(
    np.array([8, 8, 6, 6, 8, 8]),
    np.array([[1.35, 1.1, 0], [-1.35, 1.1, 0], [0.78, 0, 0], [-0.78, 0, 0], [1.4, -1.05, 0],
              [-1.4, -1.05, 0.0]]),
    (0, 1),
    -2,
)  # fmt: skip
ANGLE = 2 * np.pi * np.arange(5) / 5
RING = Ligand(
    np.repeat([6, 1], 5),
    np.kron([[1.20], [2.28]], np.stack([np.cos(ANGLE), np.sin(ANGLE), 0 * ANGLE], 1)),
    (0, 1, 2, 3, 4),
    -1,
)


@pytest.fixture(scope="module")
def complexes():
    """Compounds of water, chloride, oxalate and cyclopentadienyl."""
    builder = ComplexBuilder([WATER, CHLORIDE, OXALATE, RING], np.random.default_rng(1))
    return [made for _ in range(80) if (made := builder.build()) is not None]


def test_most_complexes_can_be_built(complexes):
    assert len(complexes) > 30


def test_metals_are_at_bonding_distance_from_their_donors(complexes):
    symbols = {ATOMIC_NUMBERS[symbol] for symbol in METALS}
    for numbers, sites, charge in complexes:
        assert numbers[0] in symbols
        assert isinstance(int(charge), int)
        distance = np.linalg.norm(sites[1:], axis=1)
        expected = COVALENT_RADII[numbers[0]] + COVALENT_RADII[numbers[1:]]
        heavy = numbers[1:] > 1
        assert (distance[heavy] / expected[heavy]).min() > 0.85
        bonded = (distance < 1.15 * expected) & heavy
        assert 2 <= bonded.sum() <= 12


def test_some_complexes_are_exactly_centrosymmetric(complexes):
    inversion = [7 in in_symmetry_frame(numbers, sites)[1] for numbers, sites, _ in complexes]
    assert sum(inversion) > 0.2 * len(complexes)
