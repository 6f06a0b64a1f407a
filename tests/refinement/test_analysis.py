"""Absolute structure of simulated data, where the hand is known."""

import numpy as np
import pytest

# cctbx
from cctbx import crystal, xray
from cctbx.array_family import flex

from phai_cctbx.refinement.analysis import absolute_structure, change_hand
from phai_cctbx.refinement.least_squares import prepare_scattering


@pytest.fixture(scope="module")
def bromide():
    """A chiral arrangement with bromine, Mo K alpha, and its intensities with 1 % noise."""
    symmetry = crystal.symmetry((7.0, 9.0, 11.0, 90, 90, 90), "P 21 21 21")
    structure = xray.structure(crystal_symmetry=symmetry)
    generator = np.random.default_rng(2)
    for k, element in enumerate(["Br", "O", "N", "C", "C", "C"]):
        structure.add_scatterer(
            xray.scatterer(
                f"{element}{k}", site=tuple(generator.random(3)), u=0.03, scattering_type=element
            )
        )
    prepare_scattering(structure, "xray", 0.71073)
    f_calc = structure.structure_factors(
        d_min=0.9, anomalous_flag=True, algorithm="direct"
    ).f_calc()
    exact = flex.norm(f_calc.data())
    sigmas = 0.01 * exact + 0.1
    noise = flex.double(generator.normal(size=exact.size())) * sigmas
    f_sq = f_calc.customized_copy(data=exact + noise, sigmas=sigmas)
    return structure, f_sq.set_observation_type_xray_intensity()


def _of(structure, f_sq):
    f_calc = f_sq.structure_factors_from_scatterers(structure, algorithm="direct").f_calc()
    return absolute_structure(f_calc, f_sq, 1.0)


def test_right_hand_is_zero(bromide):
    structure, f_sq = bromide
    result = _of(structure, f_sq)
    assert result.decisive and not result.inverted
    assert abs(result.hooft) < 4 * result.hooft_esd
    assert abs(result.parsons) < 4 * result.parsons_esd


def test_wrong_hand_is_one_and_inversion_mends_it(bromide):
    structure, f_sq = bromide
    wrong = change_hand(structure)
    result = _of(wrong, f_sq)
    assert result.inverted
    assert result.hooft == pytest.approx(1.0, abs=0.05)
    assert result.parsons == pytest.approx(1.0, abs=0.05)
    assert not _of(change_hand(wrong), f_sq).inverted


def test_centrosymmetric_and_merged_data_have_no_hand(bromide):
    structure, f_sq = bromide
    assert _of(structure, f_sq.average_bijvoet_mates()) is None


def test_enantiomorphic_group_is_not_inverted_in_place():
    symmetry = crystal.symmetry((7, 7, 9, 90, 90, 120), "P 31")
    structure = xray.structure(crystal_symmetry=symmetry)
    structure.add_scatterer(xray.scatterer("C1", site=(0.1, 0.2, 0.3), u=0.03))
    assert change_hand(structure) is None
