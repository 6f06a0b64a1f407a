"""Absolute structure of simulated data, where the hand is known."""

import numpy as np
import pytest

# cctbx
from cctbx import crystal, xray

from phai_cctbx.refinement.analysis import absolute_structure, missed_symmetry


def _of(structure, f_sq):
    f_calc = f_sq.structure_factors_from_scatterers(structure, algorithm="direct").f_calc()
    return absolute_structure(f_calc, f_sq, 1.0)


def test_right_hand_is_zero(bromide):
    structure, f_sq = bromide("P 21 21 21")
    result = _of(structure, f_sq)
    assert result.decisive and not result.inverted
    assert abs(result.hooft) < 4 * result.hooft_esd
    assert abs(result.parsons) < 4 * result.parsons_esd


def test_wrong_hand_is_one_and_inversion_mends_it(bromide):
    structure, f_sq = bromide("P 21 21 21")
    wrong = structure.change_hand()
    result = _of(wrong, f_sq)
    assert result.inverted
    assert result.hooft == pytest.approx(1.0, abs=0.05)
    assert result.parsons == pytest.approx(1.0, abs=0.05)
    assert not _of(wrong.change_hand(), f_sq).inverted


def test_centrosymmetric_and_merged_data_have_no_hand(bromide):
    structure, f_sq = bromide("P 21 21 21")
    assert _of(structure, f_sq.average_bijvoet_mates()) is None


def _in_p1_and_its_own(symbol, cell):
    """A random molecule in a group, and the same crystal described in P1."""
    generator = np.random.default_rng(8)
    structure = xray.structure(crystal_symmetry=crystal.symmetry(cell, symbol))
    for k, element in enumerate("CCNOCCNO"):
        structure.add_scatterer(
            xray.scatterer(
                f"{element}{k}", site=tuple(generator.random(3)), u=0.03, scattering_type=element
            )
        )
    return structure, structure.expand_to_p1()


def test_missed_screw_axis_and_centre_are_found():
    _, in_p1 = _in_p1_and_its_own("P 1 21/c 1", (7.1, 8.3, 9.4, 90, 104, 90))
    f_calc = in_p1.structure_factors(d_min=1.0, algorithm="direct").f_calc()
    missed = missed_symmetry(f_calc, f_calc.as_intensity_array())
    assert missed.space_group.startswith("P 1 21/c 1")
    assert missed.r_merge < 0.01


def test_nothing_is_missed_in_the_right_group():
    structure, _ = _in_p1_and_its_own("P 21 21 21", (5.8, 7.3, 12.4, 90, 90, 90))
    f_calc = structure.structure_factors(d_min=1.0, algorithm="direct").f_calc()
    assert missed_symmetry(f_calc, f_calc.as_intensity_array()) is None


def test_rhombohedral_crystals_in_hexagonal_axes_are_searched():
    own, in_p1 = _in_p1_and_its_own("R -3 :H", (14.0, 14.0, 11.0, 90, 90, 120))
    for structure, missed in ((own, None), (in_p1, "R -3 :R")):
        f_calc = structure.structure_factors(d_min=1.0, algorithm="direct").f_calc()
        found = missed_symmetry(f_calc, f_calc.as_intensity_array())
        assert (found and found.space_group) == missed


def test_a_heavy_atom_and_its_image_are_no_centring():
    structure = xray.structure(
        crystal_symmetry=crystal.symmetry((6.9, 16.4, 8.7, 90, 109, 90), "P 1 21/n 1")
    )
    for label, element, site in (
        ("Cu1", "Cu", (0, 0, 0)),
        ("Cl1", "Cl", (0.21, 0.08, 0.13)),
        ("C1", "C", (0.43, 0.17, 0.36)),
    ):
        structure.add_scatterer(xray.scatterer(label, site=site, u=0.03, scattering_type=element))
    f_calc = structure.structure_factors(d_min=1.5, algorithm="direct").f_calc()
    assert missed_symmetry(f_calc, f_calc.as_intensity_array()) is None
