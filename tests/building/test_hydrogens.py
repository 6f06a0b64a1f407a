"""Hydrogens from geometry and density, on fragments of known shape."""

import numpy as np
import pytest

# cctbx
from cctbx import crystal, xray

from phai_cctbx.building.connectivity import element_of
from phai_cctbx.building.hydrogens import HydrogenPlacer, add_hydrogens

CELL = 20.0


def _structure(atoms):
    symmetry = crystal.symmetry((CELL, CELL, CELL, 90, 90, 90), "P 1")
    structure = xray.structure(crystal_symmetry=symmetry)
    for k, (element, *site) in enumerate(atoms):
        structure.add_scatterer(
            xray.scatterer(
                f"{element}{k + 1}",
                site=tuple((x + 8) / CELL for x in site),
                u=0.03,
                scattering_type=element,
            )
        )
    return structure


def _density_of(hydrogens):
    """Difference density of hydrogens at Cartesian sites relative to the fragment's origin."""
    sites = np.array(hydrogens, dtype=float).reshape(-1, 3) + 8

    def density(site):
        if not len(sites):
            return 0.0
        return float(0.6 * np.exp(-np.sum((sites - site) ** 2, axis=1) / 0.15).sum())

    return density


def _place(atoms, hydrogens=()):
    structure = _structure(atoms)
    groups = HydrogenPlacer(structure, _density_of(hydrogens)).groups()
    return {group.pivot: group for group in groups}, structure, groups


BENZENE = [
    ("C", 1.39 * np.cos(a), 1.39 * np.sin(a), 0.0) for a in np.radians(np.arange(0, 360, 60))
]


def test_benzene_has_six_hydrogens_on_the_ring_axes_outwards():
    found, _, _ = _place(BENZENE)
    assert [group.kind for group in found.values()] == ["planar"] * 6
    for group in found.values():
        radius = np.linalg.norm(group.sites[0] - 8)
        assert radius == pytest.approx(1.39 + 0.96, abs=0.01)


def _ethane_like(element, length):
    return [("C", 0, 0, 0), (element, length, 0, 0)]


def test_methyl_groups_turn_into_the_density():
    truth = []
    for azimuth in (20, 140, 260):
        a = np.radians(azimuth)
        truth.append((-0.96 / 3, 0.905 * np.cos(a), 0.905 * np.sin(a)))
    found, _, _ = _place(_ethane_like("C", 1.53), truth)
    assert found[0].kind == "methyl"
    for site in found[0].sites:
        assert min(np.linalg.norm(site - 8 - np.array(t)) for t in truth) < 0.06


@pytest.mark.parametrize(("length", "kind"), [(1.53, "methyl"), (1.19, "linear")])
def test_bond_length_tells_methyl_from_alkyne(length, kind):
    found, _, _ = _place(_ethane_like("C", length))
    assert found[0].kind == kind


def test_nitrile_carries_none():
    found, _, _ = _place([("C", 0, 0, 0), ("C", 1.46, 0, 0), ("N", 2.6, 0, 0)])
    assert set(found) == {0}


def test_tetrahedral_carbon_has_one_hydrogen_and_planar_none():
    directions = np.array([(1, 1, 1), (1, -1, -1), (-1, 1, -1)]) / np.sqrt(3)
    tetrahedral = [("C", 0, 0, 0), *[("C", *(1.53 * d)) for d in directions]]
    found, _, _ = _place(tetrahedral)
    assert found[0].kind == "tertiary"
    assert np.allclose(found[0].sites[0] - 8, 0.96 * np.array([-1, -1, 1]) / np.sqrt(3), atol=0.01)
    flat = [("C", 0, 0, 0)] + [
        ("C", 1.45 * np.cos(a), 1.45 * np.sin(a), 0) for a in np.radians([0, 120, 240])
    ]
    found, _, _ = _place(flat)
    assert 0 not in found


def test_hydroxyl_only_where_there_is_density():
    methanol = [("C", 0, 0, 0), ("O", 1.42, 0, 0)]
    hydroxyl = (1.42 + 0.83 / 3, 0.7826, 0.0)
    with_density, _, _ = _place(methanol, [hydroxyl])
    assert with_density[1].kind == "hydroxyl"
    assert np.linalg.norm(with_density[1].sites[0] - 8 - np.array(hydroxyl)) < 0.08
    without, _, _ = _place(methanol)
    assert 1 not in without


def test_added_hydrogens_follow_their_parents_and_take_1_2_or_1_5_of_their_u():
    _, structure, groups = _place(_ethane_like("O", 1.42))
    completed, placed = add_hydrogens(structure, groups)
    labels = [s.label for s in completed.scatterers()]
    assert labels == ["C1", "H1A", "H1B", "H1C", "O2"]
    assert placed[0].hydrogens == (1, 2, 3)
    for i in placed[0].hydrogens:
        assert element_of(completed.scatterers()[i]) == "H"
        assert completed.scatterers()[i].u_iso == pytest.approx(1.5 * 0.03)


def test_symmetry_equivalent_hydrogens_are_added_once():
    """A CH2 group on the mirror of P m has one unique hydrogen."""
    symmetry = crystal.symmetry((12, 12, 12, 90, 90, 90), "P 1 m 1")
    structure = xray.structure(crystal_symmetry=symmetry)
    for label, site in (("C1", (6, 0, 6)), ("C2", (7.25, 0, 6.85)), ("C3", (4.75, 0, 6.85))):
        structure.add_scatterer(
            xray.scatterer(label, site=tuple(x / 12 for x in site), u=0.03, scattering_type="C")
        )
    placer = HydrogenPlacer(structure, lambda site: 0.0)
    group = placer.on_carbon(0)
    assert group.kind == "secondary"
    completed, _ = add_hydrogens(structure, [group])
    hydrogens = [s for s in completed.scatterers() if element_of(s) == "H"]
    assert len(hydrogens) == 1
    assert hydrogens[0].multiplicity() == 2
