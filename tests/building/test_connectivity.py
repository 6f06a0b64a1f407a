"""Bonds and the assembly of molecules."""

import pytest

# cctbx
from cctbx import adptbx, crystal, sgtbx, xray
from cctbx.array_family import flex

from phai_cctbx.building.connectivity import assemble, bonded, bonds, closest_approach, fragments


@pytest.fixture
def scattered():
    """An O-C-C-O chain in P 21/c whose atoms are listed in different asymmetric units."""
    symmetry = crystal.symmetry((8.0, 9.0, 10.0, 90, 105, 90), "P 1 21/c 1")
    unit_cell = symmetry.unit_cell()
    start = (1.0, 2.0, 2.0)
    chain = [(0, 0, 0), (1.42, 0, 0), (1.92, 1.43, 0), (3.34, 1.45, 0.2)]
    sites = [unit_cell.fractionalize(tuple(a + b for a, b in zip(start, x))) for x in chain]
    operators = ["x,y,z", "-x,-y,-z", "x+1,y,z-1", "-x,y+1/2,-z+1/2"]
    structure = xray.structure(crystal_symmetry=symmetry)
    u_star = adptbx.u_cart_as_u_star(unit_cell, (0.02, 0.03, 0.04, 0.01, 0.0, 0.005))
    for label, site, name in zip(("O1", "C1", "C2", "O2"), sites, operators):
        structure.add_scatterer(xray.scatterer(label, site=sgtbx.rt_mx(name) * site, u=u_star))
    return structure


def test_bond_lengths_decide():
    assert bonded("C", "C", 1.54)
    assert not bonded("C", "C", 2.5)
    assert bonded("Cu", "N", 2.0)
    assert not bonded("H", "H", 0.7)
    assert not bonded("O", "H", 1.8)


@pytest.mark.parametrize(
    ("pair", "distance"),
    [
        (("C", "N"), 1.14),
        (("C", "O"), 1.21),
        (("S", "O"), 1.42),
        (("V", "O"), 1.58),
        (("C", "C"), 1.18),
    ],
)
def test_shortest_bonds_known_are_allowed(pair, distance):
    assert closest_approach(*pair) < distance


def test_scattered_atoms_are_one_molecule(scattered):
    found = fragments(bonds(scattered))
    assert len(found) == 1
    assert len(found[0]) == 4


def test_assembly_keeps_the_crystal_and_joins_the_molecule(scattered):
    together = assemble(scattered)
    unit_cell = together.unit_cell()
    sites = together.sites_frac()
    expected = [1.42, 1.515, 1.434]
    for i, length in enumerate(expected):
        assert unit_cell.distance(sites[i], sites[i + 1]) == pytest.approx(length, abs=0.01)
    before = scattered.structure_factors(d_min=1.0, algorithm="direct").f_calc()
    after = together.structure_factors(d_min=1.0, algorithm="direct").f_calc()
    assert flex.max(flex.abs(before.data() - after.data())) < 1e-6
    centre = together.sites_frac().mean()
    assert all(0 <= x <= 1 for x in centre)
