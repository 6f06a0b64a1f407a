"""Molecules: symmetry frames, dimers, contacts, the library file, and the element tables."""

from __future__ import annotations

import numpy as np
import pytest
import torch

# cctbx
from cctbx.eltbx import xray_scattering

from phai_cctbx.training.contacts import HYDROGEN_BOND, METAL_METAL, contact_distances
from phai_cctbx.training.crystals import random_rotation
from phai_cctbx.training.dimers import INVERSION, MIRROR, TWOFOLD, joined
from phai_cctbx.training.elements import ATOMIC_NUMBERS, COVALENT_RADII, SYMBOLS, form_factors
from phai_cctbx.training.molecules import (
    Kind,
    Molecule,
    bonds,
    in_symmetry_frame,
    read_library,
    signs,
    write_library,
)

WATER = np.array([8, 1, 1]), np.array([[0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0.0]])


def ring(element: int, radius: float, n: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """A regular ring of one element."""
    angle = 2 * np.pi * np.arange(n) / n
    return np.full(n, element), radius * np.stack([np.cos(angle), np.sin(angle), 0 * angle], 1)


def benzene() -> tuple[np.ndarray, np.ndarray]:
    """Carbon at 1.39 A and hydrogen at 2.48 A from the centre."""
    parts = ring(6, 1.39), ring(1, 2.48)
    return tuple(np.concatenate(x) for x in zip(*parts, strict=True))


def molecule(numbers, coordinates, kind=Kind.NEUTRAL, charge=0) -> Molecule:
    """A library molecule."""
    return Molecule(numbers, *in_symmetry_frame(numbers, coordinates), kind, charge)


def test_form_factors_are_those_of_cctbx():
    s_sq = torch.tensor([0.0, 0.01, 0.0625, 0.25], dtype=torch.float64)
    numbers = torch.tensor([[0, *range(1, 97)]])
    f = form_factors(numbers, s_sq[None])[0]
    assert f.shape == (4, 97)
    assert (f[:, 0] == 0).all()
    for z in range(1, 97):
        gaussian = xray_scattering.it1992(SYMBOLS[z], True).fetch()
        expected = [gaussian.at_stol_sq(float(s)) for s in s_sq]
        np.testing.assert_allclose(f[:, z], expected, atol=2e-4)


def test_radii_and_symbols():
    assert ATOMIC_NUMBERS["Fe"] == 26
    # Cordero et al., Dalton Trans. (2008) 2832
    assert COVALENT_RADII[6] == pytest.approx(0.76, abs=0.04)
    assert COVALENT_RADII[78] == pytest.approx(1.36, abs=0.01)


@pytest.mark.parametrize(
    ("shape", "n_operations"), [(WATER, 3), (benzene(), 7)], ids=["water C2v", "benzene D2h"]
)
def test_symmetry_is_found_in_any_orientation_and_made_exact(shape, n_operations):
    numbers, coordinates = shape
    rng = np.random.default_rng(2)
    for _ in range(5):
        turned = coordinates @ random_rotation(rng).T + rng.normal(size=3)
        turned += rng.normal(scale=0.01, size=turned.shape)
        exact, operations = in_symmetry_frame(numbers, turned)
        assert len(operations) == n_operations
        for operation in operations:
            image = exact * signs(operation)
            distance = np.linalg.norm(image[:, None] - exact[None], axis=-1)
            assert distance.min(axis=1).max() < 1e-9
        original = np.linalg.norm(turned[:, None] - turned[None], axis=-1)
        kept = np.linalg.norm(exact[:, None] - exact[None], axis=-1)
        assert np.abs(original - kept).max() < 0.1


def test_a_chiral_molecule_has_no_symmetry():
    numbers = np.array([6, 1, 9, 17, 35])
    corners = np.array([[1, 1, 1], [-1, -1, 1], [1, -1, -1], [-1, 1, -1]]) / np.sqrt(3)
    coordinates = np.concatenate([np.zeros((1, 3)), corners * [[1.09], [1.35], [1.77], [1.94]]])
    assert in_symmetry_frame(numbers, coordinates)[1] == ()


@pytest.mark.parametrize("operation", [INVERSION, TWOFOLD, MIRROR])
def test_dimers_are_symmetric_and_bonded(operation):
    rng = np.random.default_rng(0)
    numbers, coordinates = None, None
    for _ in range(20):
        made = joined(*benzene(), operation, rng)
        if made is not None:
            numbers, coordinates = made
            break
    assert (numbers == 6).sum() >= 12
    assert (numbers == 1).sum() in (10, 11)
    dimer = molecule(numbers, coordinates)
    assert {INVERSION: {7}, TWOFOLD: {3, 5, 6}, MIRROR: {1, 2, 4}}[operation] & set(
        dimer.operations
    )
    bonded = bonds(numbers, coordinates)
    reached, front = {0}, [0]
    while front:
        new = set(np.flatnonzero(bonded[front.pop()])) - reached
        reached |= new
        front += new
    assert len(reached) == len(numbers)


def test_contacts_allow_hydrogen_bonds_and_keep_metals_apart():
    water = molecule(*WATER)
    sodium = Molecule(np.array([11]), np.zeros((1, 3)), (7,), Kind.SMALL_CATION, 1)
    contact = contact_distances([water, sodium])
    assert (contact == contact.T).all()
    oxygen = int(np.flatnonzero(water.atomic_numbers == 8)[0])
    hydrogen = int(np.flatnonzero(water.atomic_numbers == 1)[0])
    assert contact[oxygen, hydrogen] == HYDROGEN_BOND
    assert contact[3, 3] == METAL_METAL
    assert 2.2 < contact[oxygen, 3] < 2.6  # Na-O bonds: 2.3-2.5 A


def test_library_file_keeps_molecules(tmp_path):
    molecules = [molecule(*WATER, kind=Kind.SOLVENT), molecule(*benzene())]
    write_library(tmp_path / "library.npz", molecules)
    for before, after in zip(molecules, read_library(tmp_path / "library.npz"), strict=True):
        assert (before.atomic_numbers == after.atomic_numbers).all()
        np.testing.assert_allclose(before.coordinates, after.coordinates, atol=1e-9)
        assert (before.operations, before.kind, before.charge) == (
            after.operations, after.kind, after.charge
        )  # fmt: skip
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(ValueError, match="not a molecule library"):
        read_library(tmp_path / "other.npz")
