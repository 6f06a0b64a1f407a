"""Riding hydrogens keep their geometry while their parents move."""

import pytest

from phai_cctbx.building.connectivity import u_equivalent
from phai_cctbx.building.hydrogens import HydrogenPlacer, add_hydrogens
from phai_cctbx.refinement.least_squares import prepare_scattering, refine
from phai_cctbx.refinement.riding import (
    CovalentBonds,
    checked_groups,
    hydrogen_restraints,
    riding_constraints,
)


@pytest.fixture
def with_methyl(crystal_model):
    groups = HydrogenPlacer(crystal_model, lambda site: 0.0).groups()
    assert [group.kind for group in groups] == ["methyl"]
    structure, placed = add_hydrogens(crystal_model, groups)
    prepare_scattering(structure)
    return structure, placed


def test_methyl_rides(with_methyl, exact_intensities):
    structure, groups = with_methyl
    result = refine(
        structure,
        exact_intensities,
        constraints=riding_constraints(structure, groups),
        connectivity=CovalentBonds(structure),
        n_cycles=10,
    )
    scatterers = result.xray_structure.scatterers()
    unit_cell = structure.unit_cell()
    pivot = scatterers[groups[0].pivot]
    for i in groups[0].hydrogens:
        # SHELXL: 0.96 A for a methyl group at room temperature
        assert unit_cell.distance(pivot.site, scatterers[i].site) == pytest.approx(0.96, abs=1e-3)
        assert scatterers[i].u_iso == pytest.approx(1.5 * u_equivalent(pivot, unit_cell))
    # the free torsion angle is the only parameter the hydrogens add
    without = refine(structure.select(~structure.element_selection("H")), exact_intensities)
    assert result.n_parameters == without.n_parameters + 1


def test_internuclear_distances_for_neutrons(with_methyl, exact_intensities):
    structure, groups = with_methyl
    result = refine(
        structure,
        exact_intensities,
        constraints=riding_constraints(structure, groups, internuclear=True),
        connectivity=CovalentBonds(structure),
        n_cycles=3,
    )
    scatterers = result.xray_structure.scatterers()
    distance = structure.unit_cell().distance(
        scatterers[groups[0].pivot].site, scatterers[groups[0].hydrogens[0]].site
    )
    assert distance == pytest.approx(1.083, abs=2e-3)


def test_group_without_its_neighbours_becomes_free_with_restrained_distances(with_methyl):
    structure, groups = with_methyl
    lonely = structure.select(~(structure.scatterers().extract_labels() == "C1"))
    shifted = [
        type(group)(
            group.kind,
            group.pivot - 1,
            group.sites,
            group.density,
            tuple(i - 1 for i in group.hydrogens),
        )
        for group in groups
    ]
    checked = checked_groups(lonely, shifted)
    assert [group.kind for group in checked] == ["free"]
    assert hydrogen_restraints(lonely, checked).bond_proxies.size() == 3
    assert hydrogen_restraints(structure, groups) is None
