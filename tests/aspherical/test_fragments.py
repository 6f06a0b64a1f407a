"""Large molecules by fragments: every atom once, caps where bonds are cut, the same density."""

import numpy as np
import pytest

from phai_cctbx.aspherical.fragments import (
    CAP_LENGTH,
    bonded_atoms,
    cut_bonds,
    fragments_of,
    join,
)
from phai_cctbx.aspherical.hirshfeld import as_calculated
from phai_cctbx.aspherical.molecules import Molecule


def alkane(n):
    """The all-trans n-alkane, C-C 1.53 A, C-H 1.09 A."""
    atoms = []
    for i in range(n):
        side = 1 if i % 2 else -1
        carbon = np.array([1.27 * i, 0.427 * side, 0])
        atoms.append((6, carbon))
        atoms += [(1, carbon + (0, 0.63 * side, z)) for z in (0.89, -0.89)]
        if i in (0, n - 1):
            atoms.append((1, carbon + (1.03 * (1 if i else -1), -0.36 * side, 0)))
    numbers, coordinates = zip(*atoms, strict=True)
    return Molecule((), np.array(numbers), np.array(coordinates), 1)


def test_bonds_of_rings_and_ends_are_not_cut():
    decane = alkane(10)
    neighbours = bonded_atoms(decane.numbers, decane.coordinates)
    assert sum(len(near) for near in neighbours) == 2 * 31
    assert len(cut_bonds(decane.numbers, neighbours)) == 7
    angle = 2 * np.pi * np.arange(6) / 6
    ring = np.stack([1.53 * np.cos(angle), 1.53 * np.sin(angle), 0.25 * (-1) ** np.arange(6)], 1)
    substituted = np.concatenate([ring, ring * (1.7, 1.7, 3)])
    numbers = np.array([6] * 6 + [1] * 6)
    assert cut_bonds(numbers, bonded_atoms(numbers, substituted)) == set()


def test_cores_hold_every_atom_once_and_caps_end_every_cut():
    molecule = alkane(20)
    fragments = fragments_of(molecule, core_atoms=12)
    assert len(fragments) > 2
    held = np.concatenate([f.atoms[: f.n_core] for f in fragments])
    assert sorted(held) == list(range(62))
    for fragment in fragments:
        n_caps = len(fragment.numbers) - len(fragment.atoms)
        assert n_caps in (1, 2)
        caps = fragment.coordinates[len(fragment.atoms) :]
        distances = np.linalg.norm(caps[:, None] - fragment.coordinates[None], axis=2)
        assert np.sort(distances, axis=1)[:, 1] == pytest.approx(CAP_LENGTH)
        core = fragment.coordinates[: fragment.n_core]
        assert np.linalg.norm(caps[:, None] - core[None], axis=2).min() > 3
        assert as_calculated(fragment).multiplicity == 1


@pytest.mark.slow
def test_fragments_have_the_form_factors_of_the_whole(quantum):
    """Decane in three pieces: within 0.005 e of one calculation, at every angle."""
    molecule = alkane(10)
    fragments = fragments_of(molecule, core_atoms=9)
    assert len(fragments) == 3
    densities = [quantum.molecule(f.numbers, f.coordinates, 0, 1) for f in fragments]
    joined = join(molecule, fragments, densities)
    whole = quantum.molecule(molecule.numbers, molecule.coordinates, 0, 1)
    assert joined.n_electrons == pytest.approx(82, abs=0.02)
    cell = np.diag([1 / 8, 1 / 9, 1 / 10])
    h = np.arange(-8, 9)
    indices = np.stack(np.meshgrid(h, h, h, indexing="ij"), -1).reshape(-1, 3)
    atoms = range(len(molecule.numbers))
    found = quantum.transform(joined, atoms, cell, indices)
    expected = quantum.transform(whole, atoms, cell, indices)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found, expected, atol=0.005)
