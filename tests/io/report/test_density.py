"""Contours, and maps read at points."""

import numpy as np
import pytest

# cctbx
from cctbx import crystal, xray

from phai_cctbx.io.report.density import Box, CellMap, contour
from phai_cctbx.io.report.sections import MoleculePlane


@pytest.fixture
def carbon():
    """Coefficients of one carbon atom in P 1 to 0.8 A, and its structure."""
    structure = xray.structure(
        crystal_symmetry=crystal.symmetry((6, 7, 8, 80, 95, 100), space_group_symbol="P 1")
    )
    structure.add_scatterer(xray.scatterer("C1", site=(0.3, 0.4, 0.1), u=0.03))
    return structure.structure_factors(d_min=0.8, anomalous_flag=False).f_calc(), structure


def test_a_contour_of_a_cone_is_a_circle():
    x, y = np.meshgrid(np.arange(41) - 20.0, np.arange(31) - 15.0, indexing="ij")
    pieces = contour(np.hypot(x, y), 9.0)
    ends = (pieces - [20, 15]).reshape(-1, 2)
    assert np.hypot(*ends.T) == pytest.approx(9.0, abs=0.05)
    length = np.linalg.norm(pieces[:, 1] - pieces[:, 0], axis=1).sum()
    assert length == pytest.approx(2 * np.pi * 9, rel=0.01)
    assert contour(np.hypot(x, y), 99.0).shape == (0, 2, 2)


def test_contours_of_a_saddle_do_not_cross():
    pieces = contour(np.array([[1.0, -1.0], [-1.0, 1.0]]), 0.0)
    ends = sorted(map(tuple, pieces.reshape(-1, 2).tolist()))
    assert len(pieces) == 2 and ends == [(0, 0.5), (0.5, 0), (0.5, 1), (1, 0.5)]


def test_a_map_is_the_fourier_sum_wherever_it_is_read(carbon):
    coefficients, structure = carbon
    density = CellMap(coefficients)
    site = np.array(structure.sites_cart()[0])
    # all terms are in phase at the atom, and every one stands for its Friedel mate as well
    total = 2 * np.abs(coefficients.data().as_numpy_array()).sum()
    at_atom = density.at(site)
    assert at_atom == pytest.approx(total / structure.unit_cell().volume(), rel=0.02)
    translation = np.array(structure.unit_cell().orthogonalize((1, -1, 2)))
    assert density.at(site + translation) == pytest.approx(at_atom, rel=1e-6)
    box = Box.around(site[None], margin=1.0, d_min=0.8)
    values = density.at(box.points())
    assert values.shape == box.shape
    highest = box.points()[np.unravel_index(values.argmax(), box.shape)]
    assert np.linalg.norm(highest - site) < box.step


def test_a_large_box_stays_small():
    box = Box.around(np.array([[0.0, 0, 0], [50, 40, 30]]), margin=1.0, d_min=0.7)
    assert np.prod(box.shape) < 150_000


def test_the_plane_holds_the_molecule(solved_result):
    solution = solved_result.solution
    plane = MoleculePlane(solution.xray_structure)
    assert {label for label, _, _ in plane.atoms} >= {f"C{i}" for i in range(1, 7)} | {"O1"}
    ring = np.array([site for label, _, site in plane.atoms if label.startswith("C")])
    radii = np.linalg.norm(ring - ring.mean(axis=0), axis=1)
    assert radii == pytest.approx(1.39, abs=0.03)
    density = CellMap(solution.refinement.f_calc)
    values = plane.values(density)
    nearest = np.rint((ring + plane.half) / 0.12).astype(int)
    assert values[tuple(nearest.T)].min() > 5 * density.sigma
