"""Artificial crystals: symmetry, statistics like those of published structures, one seed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

# cctbx
from cctbx import crystal, xray
from cctbx.array_family import flex
from iotbx import cif

from phai_cctbx.network.space_groups import space_group
from phai_cctbx.training.crystals import (
    CENTROSYMMETRIC_SHARES,
    CrystalGenerator,
    equal_edges,
    orthogonalisation,
    random_cell,
    read_crystals,
    write_crystals,
)
from phai_cctbx.training.elements import ATOMIC_NUMBERS, ATOMIC_VOLUMES, SYMBOLS, form_factors

pytest.importorskip("rdkit", reason="the molecules of the test are made with RDKit")

N_MOLECULES, N_ATTEMPTS = 60, 96
#: Metals of two or three positive charges that ionic crystals may hold, by atomic number.
MINERAL_METALS = (12, 13, 20, 24, 25, 26, 27, 28, 29, 30, 38, 39, 48, 56, 57, 82)


@pytest.fixture(scope="module")
def molecules():
    """A small library."""
    from phai_cctbx.programs.molecule_library import library

    return list(library(N_MOLECULES, seed=1))


@pytest.fixture(scope="module")
def crystals(molecules):
    """Crystals of all groups that one round of attempts gives."""
    return CrystalGenerator(molecules, seed=2).batch(N_ATTEMPTS)


def in_cell(c) -> float:
    """Non-hydrogen atoms in the unit cell."""
    heavy = c.occupancies[c.atomic_numbers > 1].sum()
    return heavy * space_group(c.number).multiplicity


def as_cctbx(c) -> xray.structure:
    """The crystal as cctbx holds it: site symmetry is found there anew."""
    symmetry = crystal.symmetry(
        unit_cell=[float(x) for x in c.unit_cell], space_group_symbol=f"{c.number}"
    )
    special = crystal.special_position_settings(symmetry, min_distance_sym_equiv=0.01)
    structure = xray.structure(special)
    multiplicity = symmetry.space_group().order_z()
    for k, (site, z, share, u) in enumerate(
        zip(c.sites, c.atomic_numbers, c.occupancies, c.u_iso, strict=True)
    ):
        weight = special.site_symmetry([float(x) for x in site]).multiplicity() / multiplicity
        structure.add_scatterer(
            xray.scatterer(
                f"{SYMBOLS[z]}{k}", site=[float(x) for x in site], u=float(u),
                occupancy=float(share / weight), scattering_type=SYMBOLS[z],
            )  # fmt: skip
        )
    return structure


def test_most_attempts_pack(crystals):
    assert len(crystals) > 0.4 * N_ATTEMPTS


def test_structure_factors_agree_with_cctbx(crystals):
    for c in sorted(crystals, key=lambda c: c.volume)[:6]:
        structure = as_cctbx(c)
        structure.scattering_type_registry(table="it1992")
        f_calc = structure.structure_factors(d_min=1.5, algorithm="direct").f_calc()
        h = np.array(list(f_calc.indices()), dtype=float)
        s_sq = f_calc.sin_theta_over_lambda_sq().data().as_numpy_array()
        f = form_factors(torch.tensor(c.atomic_numbers.astype(np.int64)), torch.tensor(s_sq))
        f = f.numpy() * c.occupancies * np.exp(-8 * math.pi**2 * s_sq[:, None] * c.u_iso)
        total = np.zeros(len(h), dtype=complex)
        rotations, translations = space_group(c.number).all_operators()
        for r, t in zip(rotations, translations, strict=True):
            total += (f * np.exp(2j * np.pi * h @ (c.sites @ r.T + t).T)).sum(axis=1)
        expected = f_calc.data().as_numpy_array()
        assert np.abs(total - expected).max() < 1e-3 * np.abs(expected).max()


def test_atoms_on_special_positions_have_their_share(crystals):
    seen = 0
    for c in crystals:
        settings = crystal.special_position_settings(
            crystal.symmetry(
                unit_cell=[float(x) for x in c.unit_cell], space_group_symbol=f"{c.number}"
            ),
            min_distance_sym_equiv=0.02,
        )
        order = space_group(c.number).multiplicity
        for site, share in zip(c.sites, c.occupancies, strict=True):
            symmetry = settings.site_symmetry([float(x) for x in site])
            if symmetry.multiplicity() < order:
                seen += 1
                assert share == pytest.approx(symmetry.multiplicity() / order)
                exact = np.array(symmetry.exact_site())
                assert np.abs(exact - site).max() < 1e-6
    assert seen > 0


def test_no_atoms_clash(crystals):
    for c in crystals[:20]:
        heavy = as_cctbx(c).select(flex.bool((c.atomic_numbers > 1) & (c.occupancies >= 0.5)))
        heavy.set_occupancies(1.0)
        table = heavy.pair_asu_table(distance_cutoff=1.02)
        assert sum(table.pair_counts()) == 0


def test_density_and_displacements_are_those_of_published_crystals(crystals, shared_data):
    per_atom, filling = [], []
    for path in sorted((shared_data / "structures").glob("*.cif"))[::3]:
        try:
            structure = next(iter(cif.reader(str(path)).build_crystal_structures().values()))
        except ValueError:
            continue
        symbols = [x.element_symbol() for x in structure.scatterers()]
        z = np.array([1 if s == "D" else ATOMIC_NUMBERS[s] for s in symbols])
        weights = np.array([x.weight() for x in structure.scatterers()])
        order, volume = structure.space_group().order_z(), structure.unit_cell().volume()
        if (z == 1).sum() < 0.3 * (z > 1).sum():
            continue
        per_atom.append(volume / (weights[z > 1].sum() * order))
        filling.append((ATOMIC_VOLUMES[z] * weights).sum() * order / volume)
    ours = [c.volume / in_cell(c) for c in crystals]
    assert np.median(ours) == pytest.approx(np.median(per_atom), rel=0.15)
    low, high = np.percentile(per_atom, [1, 99])
    assert np.mean([low - 3 < x < high + 3 for x in ours]) > 0.8
    our_filling = [
        (ATOMIC_VOLUMES[c.atomic_numbers] * c.occupancies).sum()
        * space_group(c.number).multiplicity / c.volume
        for c in crystals
    ]  # fmt: skip
    assert np.median(our_filling) == pytest.approx(np.median(filling), abs=0.07)
    assert all(((0.005 < c.u_iso) & (c.u_iso < 0.15)).all() for c in crystals)


def test_elements_are_mostly_those_of_organic_crystals(crystals):
    z = np.concatenate([c.atomic_numbers for c in crystals])
    heavy = z[z > 1]
    assert 0.55 < (heavy == 6).mean() < 0.85
    assert 0.1 < np.isin(heavy, (7, 8)).mean() < 0.4
    assert 0.3 < (z == 1).mean() < 0.6


def test_ionic_crystals_are_neutral_and_pack(molecules, monkeypatch):
    monkeypatch.setattr("phai_cctbx.training.crystals.CONTENTS", {"ionic": 1.0, "solvate": 0.0})
    shares = {2: 1.0, 14: 1.0, 19: 1.0}
    generator = CrystalGenerator(molecules, seed=6, group_shares=shares, median_volume=500.0)
    drawn = [c for _ in range(300) if (c := generator.contents()) is not None]
    for contents in drawn:
        charges = [
            m.charge * (1.0 if site is None else 0.5)
            for m, site in zip(contents.molecules, contents.sites, strict=True)
        ]
        assert sum(charges) == 0.0
    on_elements = [c for c in drawn if c.sites[0] is not None]
    assert 0.1 < len(on_elements) / len(drawn) < 0.6
    packed = generator.batch(24)
    assert len(packed) > 12
    metals = [np.isin(c.atomic_numbers, MINERAL_METALS).any() for c in packed]
    assert np.mean(metals) > 0.25


@pytest.mark.parametrize("number", [2, 14, 19, 92, 148, 176, 198])
def test_random_cells_obey_the_group(number):
    group = space_group(number)
    rng = np.random.default_rng(number)
    for _ in range(10):
        cell = random_cell(group, 800.0, rng)
        assert np.linalg.det(orthogonalisation(cell)) == pytest.approx(800.0, rel=1e-9)
        assert (cell[:3] == cell[:3][equal_edges(group)]).all()
        symmetry = crystal.symmetry(unit_cell=list(cell), space_group_symbol=f"{number}")
        assert symmetry.is_compatible_unit_cell()


def test_crystals_repeat_with_their_seed(molecules):
    shares = CENTROSYMMETRIC_SHARES
    first, second, other = (
        CrystalGenerator(molecules, seed=seed, group_shares=shares).batch(8) for seed in (3, 3, 4)
    )
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.sites, b.sites)
        assert {a.number, b.number} <= set(shares)
    assert not any(np.array_equal(a.unit_cell, b.unit_cell) for a in first for b in other)


def test_pool_file_keeps_crystals(crystals, tmp_path):
    write_crystals(tmp_path / "pool.npz", crystals)
    assert [p.name for p in tmp_path.iterdir()] == ["pool.npz"]
    for before, after in zip(crystals, read_crystals(tmp_path / "pool.npz"), strict=True):
        assert before.number == after.number
        np.testing.assert_allclose(before.sites, after.sites, atol=1e-6)
        np.testing.assert_array_equal(before.atomic_numbers, after.atomic_numbers)
        np.testing.assert_allclose(before.u_iso, after.u_iso, atol=1e-6)


def test_sugars_and_peptides_are_as_many_as_asked():
    from rdkit import Chem

    from phai_cctbx.training.smiles_grammar import MoleculeGrammar

    grammar = MoleculeGrammar(np.random.default_rng(0), chiral_share=1.0)
    chiral = [Chem.MolFromSmiles(grammar.neutral(20)) for _ in range(60)]
    assert all(molecule is not None for molecule in chiral)
    pattern = Chem.MolFromSmarts("[C;R](O)[C;R]([O,N,H])[C;R]O")
    sugars = sum(molecule.HasSubstructMatch(pattern) for molecule in chiral)
    amides = sum(molecule.HasSubstructMatch(Chem.MolFromSmarts("NCC(=O)")) for molecule in chiral)
    assert sugars >= 12 and amides >= 25
    assert max(molecule.GetNumHeavyAtoms() for molecule in chiral) < 60
