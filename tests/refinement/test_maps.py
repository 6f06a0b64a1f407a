"""Difference maps of incomplete models."""

# cctbx
from cctbx import miller

from phai_cctbx.building.peaks import find_peaks
from phai_cctbx.refinement.least_squares import refine
from phai_cctbx.refinement.maps import difference_coefficients
from phai_cctbx.refinement.weighting import Weighting


def test_missing_atom_is_the_highest_difference_peak(crystal_model, exact_intensities):
    incomplete = crystal_model.select(~(crystal_model.scatterers().extract_labels() == "N1"))
    result = refine(incomplete, exact_intensities)
    coefficients = difference_coefficients(result, exact_intensities)
    assert isinstance(coefficients, miller.array)
    peaks = find_peaks(coefficients, 3)
    missing = crystal_model.scatterers()[3].site
    images = [operator * missing for operator in crystal_model.space_group()]
    unit_cell = crystal_model.unit_cell()
    distance = min(
        unit_cell.length(tuple((a - b) - round(a - b) for a, b in zip(peaks.sites[0], image)))
        for image in images
    )
    assert distance < 0.15
    assert peaks.heights[0] > 2 * peaks.heights[1]


def test_complete_model_leaves_nothing(crystal_model, exact_intensities):
    result = refine(crystal_model, exact_intensities, Weighting(0.0, 0.0), n_cycles=10)
    coefficients = difference_coefficients(result, exact_intensities)
    assert find_peaks(coefficients, 1).heights[0] < 0.01
