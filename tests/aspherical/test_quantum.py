"""The worker process: electrons, charges, transforms, and every way in which it can fail."""

import sys

import numpy as np
import pytest

from cctbx import crystal, xray
from cctbx.array_family import flex
from libtbx.utils import Sorry

from phai_cctbx.aspherical.cache import Cache
from phai_cctbx.aspherical.form_factors import form_factor_table, spherical_form_factor
from phai_cctbx.aspherical.molecules import grow_molecules
from phai_cctbx.aspherical.quantum import Method, Quantum
from phai_cctbx.aspherical.worker import BOHR, RADII

WATER = np.array([[0, 0, 0.1173], [0, 0.7572, -0.4692], [0, -0.7572, -0.4692]])


def test_form_factor_of_the_hydrogen_atom():
    """f(S) = 1 / (1 + (pi a S)^2)^2 for the 1s density exp(-2r/a) / (pi a^3)."""
    d_star = np.linspace(0, 4, 20)
    density = np.exp(-2 * RADII) / np.pi
    expected = 1 / (1 + (np.pi * BOHR * d_star) ** 2) ** 2
    np.testing.assert_allclose(spherical_form_factor(density, d_star), expected, atol=1e-8)


@pytest.mark.parametrize(("z", "electrons"), [(1, 1), (8, 8), (17, 17)])
def test_spherical_atoms_hold_their_electrons(quantum, z, electrons):
    assert quantum.proatom(z)["n_electrons"] == pytest.approx(electrons, abs=1e-6)


def test_water(quantum):
    water = quantum.molecule([8, 1, 1], WATER, 0, 1)
    assert water.n_electrons == pytest.approx(10, abs=1e-3)
    assert water.charges.sum() == pytest.approx(0, abs=1e-3)
    assert water.charges[0] < -0.1
    assert water.charges[1] == pytest.approx(water.charges[2], abs=1e-4)
    # restricted Hartree-Fock of water in STO-3G: -74.96 hartree (Szabo & Ostlund, 1982, ch. 3.8)
    assert water.energy == pytest.approx(-74.96, abs=0.01)
    n = quantum.n_computed["molecule"]
    quantum.molecule([8, 1, 1], WATER + 1e-9, 0, 1)
    assert quantum.n_computed["molecule"] == n


def test_field_of_a_charge_moves_electrons_towards_it(quantum):
    alone = quantum.molecule([8, 1, 1], WATER, 0, 1)
    position = np.array([[0, 0, 3.0]])
    near = quantum.molecule([8, 1, 1], WATER, 0, 1, position, np.array([1.0]))
    assert near.charges[0] < alone.charges[0] - 0.005


def test_transform_is_the_sum_over_the_grid(quantum):
    water = quantum.molecule([8, 1, 1], WATER, 0, 1)
    fractionalization = np.diag([1 / 5, 1 / 6, 1 / 7])
    indices = np.array([(0, 0, 0), (1, -2, 3), (-4, 0, 5)])
    found = quantum.transform(water, [0, 2], fractionalization, indices)
    for row, atom in zip(found, (0, 2), strict=True):
        part = slice(water.offsets[atom], water.offsets[atom + 1])
        x = water.points[part].astype(float) * BOHR @ fractionalization.T
        direct = np.exp(2j * np.pi * indices @ x.T) @ water.values[part]
        np.testing.assert_allclose(row, direct, atol=1e-6)
    np.testing.assert_allclose(found[:, 0].real, -water.charges[[0, 2]], atol=1e-5)


def test_impossible_multiplicity_is_refused(quantum):
    with pytest.raises(Sorry, match="multiplicity 2"):
        quantum.molecule([8, 1, 1], WATER, 0, 2)


def test_unknown_method_and_basis():
    with pytest.raises(Sorry, match="PBE"):
        Method("M06")
    with pytest.raises(Sorry, match="def2-SVP"):
        Method("HF", "6-31G")


def interpreter(folder, script):
    """A stand-in for Python that runs a shell script."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.skipif(sys.platform == "win32", reason="shell scripts stand in for Python")
@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("kill -9 $$", "signal 9"),
        ("echo boom >&2; exit 5", "code 5.*boom"),
        (
            'echo \'{"kind": "not_converged", "message": "the SCF x"}\' > $2/status.json; exit 1',
            "SCF x.*Check the charge",
        ),
        (
            'echo \'{"kind": "memory", "message": "not enough memory"}\' > $2/status.json; exit 1',
            "memory_mb",
        ),
        (
            "mkdir $2/m; echo 'raise ImportError(\"no pyscf here\")' > $2/m/pyscf.py; "
            f"PYTHONPATH=$2/m exec {sys.executable} $1 $2",
            "no pyscf here.*Install pyscf",
        ),
    ],
)
def test_failures_of_the_worker_are_one_message(tmp_path, script, message):
    cache = Cache(tmp_path / "cache")
    failing = Quantum(Method("HF", "STO-3G"), cache, 1, 500, interpreter(tmp_path, script))
    with pytest.raises(Sorry, match=message):
        failing.proatom(1)
    assert not list(cache.folder.rglob("*.npz"))
    assert not list(cache.folder.glob("job_*"))


def test_scf_that_stops_early_is_finished_to_second_order(quantum):
    hasty = Quantum(Method("HF", "STO-3G", scf_max_cycles=1), quantum.cache, 1, 1000)
    finished = hasty.molecule([8, 1, 1], WATER, 0, 1)
    usual = quantum.molecule([8, 1, 1], WATER, 0, 1)
    assert finished.energy == pytest.approx(usual.energy, abs=1e-6)
    np.testing.assert_allclose(finished.charges, usual.charges, atol=1e-4)


def test_core_potential_leaves_the_core_to_the_tabulated_atom(quantum):
    """Hydrogen iodide: 28 of 53 electrons in the potential of def2, all 53 in f(0)."""
    heavy = Quantum(Method("HF", "def2-SVP"), quantum.cache, 1, 1000)
    symmetry = crystal.symmetry((7, 7, 7, 90, 90, 90), "P 1")
    structure = xray.structure(
        crystal.special_position_settings(symmetry),
        flex.xray_scatterer(
            [
                xray.scatterer("I1", site=(0, 0, 0), u=0.02),
                xray.scatterer("H1", site=(0, 0, 0.23), u=0.02),
            ]
        ),
    )
    (molecule,) = grow_molecules(structure)
    density = heavy.molecule(molecule.numbers, molecule.coordinates, 0, 1)
    assert density.n_core.tolist() == [28, 0]
    table = form_factor_table(
        structure, [molecule], [density], flex.miller_index([(0, 0, 0), (0, 0, 3)]), heavy
    )
    origin = table.indices.tolist().index([0, 0, 0])
    np.testing.assert_allclose(
        table.values[origin].real, np.array([53, 1]) - density.charges, atol=0.02
    )
