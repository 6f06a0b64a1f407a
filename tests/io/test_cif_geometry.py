"""The uncertainties of the cell enter those of the bonds in the units of the cell."""

import math

import pytest

from cctbx import geometry, sgtbx, uctbx
from cctbx.array_family import flex

from phai_cctbx.io.cif_geometry import cell_covariance


@pytest.mark.parametrize("parameter", range(6))
def test_bond_uncertainty_follows_the_derivative_of_the_cell(parameter):
    """One esd of 0.001 (A or degrees) moves the bond as a cell changed by as much does."""
    constants = [5, 6, 7, 80, 95, 100]
    one, other = (0.1, 0.2, 0.3), (0.3, 0.25, 0.45)
    esds = [0.0] * 6
    esds[parameter] = 0.001
    unit_cell = uctbx.unit_cell(constants)
    bond = geometry.distance((unit_cell.orthogonalize(one), unit_cell.orthogonalize(other)))
    variance = bond.variance(flex.double(21, 0.0), cell_covariance(esds), unit_cell, sgtbx.rt_mx())
    moved = uctbx.unit_cell([c + e for c, e in zip(constants, esds)])
    change = abs(moved.distance(one, other) - unit_cell.distance(one, other))
    assert math.sqrt(variance) == pytest.approx(change, rel=1e-3)
