"""Packing: no atoms clash, symmetry stays exact, and the reported contacts are the true ones."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from phai_cctbx.network.space_groups import space_group
from phai_cctbx.training.contacts import contact_distances
from phai_cctbx.training.crystals import (
    Contents,
    CrystalGenerator,
    orthogonalisation,
    special_sites,
)
from phai_cctbx.training.molecules import Kind, Molecule, in_symmetry_frame
from phai_cctbx.training.packing import pack, rotation_matrices


def benzene() -> Molecule:
    """Carbon at 1.39 A and hydrogen at 2.48 A from the centre."""
    angle = np.pi * np.arange(6) / 3.0
    ring = np.stack([np.cos(angle), np.sin(angle), 0.0 * angle], axis=1)
    numbers = np.repeat([6, 1], 6)
    return Molecule(
        numbers, *in_symmetry_frame(numbers, np.concatenate([1.39 * ring, 2.48 * ring])),
        Kind.NEUTRAL, 0,
    )  # fmt: skip


BENZENE = benzene()


def problems(number: int, element: str | None, n: int, seed: int = 1) -> list:
    """Benzene in a group, on a general position or on an element of symmetry."""
    generator = CrystalGenerator([BENZENE], seed=seed)
    made = []
    for _ in range(n):
        sites = special_sites(number)[element] if element else [None]
        site = sites[generator.rng.integers(len(sites))]
        operation = {"inversion": 7, "twofold": 3, "mirror": 4, None: 0}[element]
        contents = Contents(space_group(number), [BENZENE], [site], [operation])
        made.append(generator.problem(contents))
    return made


def closest_by_brute_force(problem, packing) -> float:
    """Smallest ratio of distance to contact distance over 5 x 5 x 5 cells."""
    sites = packing.centres[problem.body] + problem.coordinates @ (
        np.linalg.inv(packing.cell) @ packing.orientations[0]
    ).T
    closest = np.inf
    site = problem.sites[0]
    for m, (r, t) in enumerate(zip(problem.rotations, problem.translations, strict=True)):
        images = sites @ r.T + t
        base = np.rint(packing.centres[0] - (r @ packing.centres[0] + t))
        for shift in itertools.product(range(-2, 3), repeat=3):
            lattice = base + shift
            own = m == 0 and not lattice.any()
            if site is not None and m == site.operation:
                own |= np.abs(lattice - site.lattice).max() < 1e-6
            if own:
                continue
            vector = (sites[:, None] - images[None] - lattice) @ packing.cell.T
            ratio = np.linalg.norm(vector, axis=-1) / problem.contact
            closest = min(closest, float(ratio.min()))
    return closest


@pytest.mark.parametrize(
    ("number", "element"),
    [(14, None), (14, "inversion"), (15, "twofold"), (62, "mirror"), (19, None), (148, None)],
)
def test_contacts_are_those_of_all_images(number, element):
    made = problems(number, element, 6)
    packed = pack(made, seed=0)
    assert max(p.closest for p in packed) > 0.85
    for problem, packing in zip(made, packed, strict=True):
        expected = closest_by_brute_force(problem, packing)
        assert packing.closest == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize(("number", "element"), [(15, "twofold"), (62, "mirror"), (2, "inversion")])
def test_molecules_stay_on_their_symmetry_elements(number, element):
    made = problems(number, element, 4)
    for problem, packing in zip(made, pack(made, seed=0), strict=True):
        site = problem.sites[0]
        centre = packing.centres[0]
        image = site.rotation @ centre + problem.translations[site.operation] + site.lattice
        np.testing.assert_allclose(image, centre, atol=1e-4)
        operation = packing.cell @ site.rotation @ np.linalg.inv(packing.cell)
        turned = operation @ packing.orientations[0]
        signs = packing.orientations[0].T @ turned
        np.testing.assert_allclose(np.abs(np.diag(signs)), 1.0, atol=1e-3)


def test_cells_keep_their_symmetry():
    made = problems(148, None, 3) + problems(14, None, 3)
    packed = pack(made, seed=3)
    for packing in packed[:3]:
        edges = np.linalg.norm(packing.cell, axis=0)
        assert edges[0] == pytest.approx(edges[1], rel=1e-5)
        cosine = packing.cell[:, 0] @ packing.cell[:, 1] / (edges[0] * edges[1])
        assert cosine == pytest.approx(-0.5, abs=1e-5)
    for packing in packed[3:]:
        assert packing.cell[0, 1] == pytest.approx(0.0, abs=1e-5)
        assert packing.cell[1, 2] == pytest.approx(0.0, abs=1e-5)


def test_neighbours_of_short_cells_are_seen():
    problem = problems(2, None, 1)[0]
    cell = orthogonalisation(np.array([3.8, 9.0, 14.0, 75.0, 80.0, 70.0]))
    packing = pack([replace(problem, cell=cell)], seed=0)[0]
    expected = closest_by_brute_force(problem, packing)
    assert packing.closest == pytest.approx(expected, abs=2e-3)


def test_packing_repeats_with_its_seed():
    made = problems(14, None, 4)
    first, second = pack(made, seed=5), pack(made, seed=5)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.centres, b.centres)


def test_contact_distances_of_benzene():
    contact = contact_distances([BENZENE])
    carbon = BENZENE.atomic_numbers == 6
    # C...C contacts in crystals: 3.4 A, less a little (Rowland & Taylor, 1996)
    assert contact[np.ix_(carbon, carbon)].max() == pytest.approx(3.3, abs=0.15)


def test_rotation_matrices_turn_by_their_angle():
    turn = torch.tensor([[0.0, 0.0, np.pi / 2], [0.3, -0.2, 0.1], [0.0, 0.0, 0.0]])
    matrices = rotation_matrices(turn.double())
    np.testing.assert_allclose(matrices[0] @ torch.tensor([1.0, 0, 0]).double(), [0, 1, 0],
                               atol=1e-7)
    for matrix, vector in zip(matrices, turn, strict=True):
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
        angle = np.arccos(np.clip((np.trace(matrix) - 1) / 2, -1, 1))
        assert angle == pytest.approx(float(vector.norm()), abs=1e-6)
