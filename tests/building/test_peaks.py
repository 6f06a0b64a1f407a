"""Peaks of maps of structures that are known."""

import pytest

# cctbx
from cctbx import crystal, xray

from phai_cctbx.building.peaks import find_peaks


@pytest.fixture(scope="module")
def structure():
    """Three atoms in P-1, one of them on the inversion centre at (1/2, 1/2, 1/2)."""
    symmetry = crystal.symmetry((6.1, 7.3, 8.2, 95, 101, 108), "P-1")
    result = xray.structure(crystal_symmetry=symmetry)
    for label, site in (
        ("S1", (0.5, 0.5, 0.5)),
        ("O1", (0.13, 0.22, 0.31)),
        ("C1", (0.41, 0.1, 0.77)),
    ):
        result.add_scatterer(xray.scatterer(label, site=site, u=0.03))
    return result


def _distance(structure, site, other):
    images = [operator * other for operator in structure.space_group()]
    unit_cell = structure.unit_cell()
    best = 1e9
    for image in images:
        difference = [(a - b) - round(a - b) for a, b in zip(site, image)]
        best = min(best, unit_cell.length(tuple(difference)))
    return best


def test_peaks_lie_on_atoms_and_are_ranked_by_electrons(structure):
    f_calc = structure.structure_factors(d_min=0.9).f_calc()
    peaks = find_peaks(f_calc, 3)
    assert len(peaks) == 3
    for site, scatterer in zip(peaks.sites, structure.scatterers()):
        assert _distance(structure, site, scatterer.site) < 0.02
    assert list(peaks.heights) == sorted(peaks.heights, reverse=True)
    assert peaks.heights[0] > 10 * peaks.sigma


def test_atom_on_special_position_is_one_peak(structure):
    f_calc = structure.structure_factors(d_min=0.9).f_calc()
    peaks = find_peaks(f_calc, 3)
    assert _distance(structure, peaks.sites[0], (0.5, 0.5, 0.5)) < 1e-4


def test_holes_of_a_negated_map_are_its_atoms(structure):
    f_calc = structure.structure_factors(d_min=0.9).f_calc()
    negated = f_calc.customized_copy(data=-f_calc.data())
    holes = find_peaks(negated, 3, negative=True)
    assert max(holes.heights) < 0
    for site, scatterer in zip(holes.sites, structure.scatterers()):
        assert _distance(structure, site, scatterer.site) < 0.02
