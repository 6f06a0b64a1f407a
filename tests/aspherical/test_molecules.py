"""Molecules grown by symmetry, their charges and surroundings."""

import numpy as np
import pytest

from cctbx import crystal, xray
from cctbx.array_family import flex
from libtbx.utils import Sorry

from phai_cctbx.aspherical import molecules


def structure_of(cell, group, atoms):
    return xray.structure(
        crystal.special_position_settings(crystal.symmetry(cell, group)),
        flex.xray_scatterer([xray.scatterer(name, site=site, u=0.02) for name, site in atoms]),
    )


def test_molecule_on_a_special_position_is_completed(urea):
    (molecule,) = molecules.grow_molecules(urea)
    assert molecule.formula == "CH4N2O"
    assert molecule.n_per_cell == 2
    distances = np.linalg.norm(molecule.coordinates - molecule.coordinates[0], axis=1)
    assert np.sum(distances < 1.4) == 4


def test_molecule_on_an_inversion_centre():
    """Half of acetylene, the centre of the molecule on an inversion centre."""
    half = structure_of((6, 6, 6, 90, 90, 90), "P -1", [("C1", (0.1, 0, 0)), ("H1", (0.277, 0, 0))])
    (molecule,) = molecules.grow_molecules(half)
    assert molecule.formula == "C2H2"
    assert molecule.n_per_cell == 1
    np.testing.assert_allclose(molecule.coordinates.mean(axis=0), 0, atol=1e-9)


def test_polymer_is_refused():
    chain = structure_of((1.5, 8, 8, 90, 90, 90), "P 1", [("C1", (0, 0, 0))])
    with pytest.raises(Sorry, match="polymer"):
        molecules.grow_molecules(chain)


SALT = [
    ("N1", (0.5, 0.5, 0.5)),
    ("H1", (0.5727, 0.5727, 0.5727)),
    ("H2", (0.4273, 0.4273, 0.5727)),
    ("H3", (0.4273, 0.5727, 0.4273)),
    ("H4", (0.5727, 0.4273, 0.4273)),
]


def test_charges_of_a_salt_are_worked_out():
    """NH4+ and Cl-: the valences of nitrogen and the element decide."""
    pytest.importorskip("rdkit")
    salt = structure_of((8, 8, 8, 90, 90, 90), "P 1", [*SALT, ("Cl1", (0, 0, 0))])
    result = molecules.assign_charges(molecules.grow_molecules(salt))
    assert {m.formula: m.charge for m in result} == {"H4N": 1, "Cl": -1}
    assert all(m.multiplicity == 1 for m in result)


def test_cell_that_is_not_neutral_is_refused():
    salt = structure_of(
        (9, 9, 9, 90, 90, 90),
        "P 1",
        [("Na1", (0, 0, 0)), ("Cl1", (0.5, 0, 0)), ("Cl2", (0, 0.5, 0))],
    )
    with pytest.raises(Sorry, match="neutral"):
        molecules.assign_charges(molecules.grow_molecules(salt))
    with pytest.raises(Sorry, match="the molecules are"):
        molecules.assign_charges(molecules.grow_molecules(salt), {"KF": (1, None)})


def test_surroundings_are_whole_molecules_and_neutral(urea):
    (molecule,) = molecules.grow_molecules(urea)
    charges = np.array([0.4, -0.4, -0.3, 0.15, 0.15])
    dipoles = np.zeros((5, 3))
    dipoles[1] = (0, 0, 0.1)
    positions, q, d = molecules.surroundings(urea, [molecule], molecule, charges, dipoles, 6.0)
    assert len(q) % 8 == 0
    assert abs(q.sum()) < 1e-9
    nearest = np.linalg.norm(positions[:, None] - molecule.coordinates[None], axis=2)
    assert nearest.min() > 1.5
    assert nearest.min(axis=1).reshape(-1, 8).min(axis=1).max() <= 6.0
    # the mirror-related molecules stand upside down: dipoles along c alternate
    assert set(np.round(d[np.linalg.norm(d, axis=1) > 0][:, 2], 6)) == {0.1, -0.1}


def test_unmarked_disorder_is_refused():
    overlapping = structure_of(
        (9, 9, 9, 90, 90, 90),
        "P 1",
        [("C1", (0, 0, 0)), ("C2", (0.15, 0, 0)), ("C3", (0.15, 0.08, 0))],
    )
    with pytest.raises(Sorry, match="C2 and C3 are 0.72 A apart"):
        molecules.grow_molecules(overlapping)
