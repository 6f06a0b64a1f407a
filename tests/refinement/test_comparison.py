"""Structures against themselves on other origins, hands and asymmetric units."""

import numpy as np
import pytest

# cctbx
from cctbx import crystal, xray

from phai_cctbx.refinement.comparison import compare


@pytest.fixture
def chiral():
    symmetry = crystal.symmetry((7.0, 9.0, 11.0, 90, 90, 90), "P 21 21 21")
    structure = xray.structure(crystal_symmetry=symmetry)
    generator = np.random.default_rng(2)
    for k, element in enumerate(["S", "O", "N", "C", "C", "C"]):
        structure.add_scatterer(
            xray.scatterer(
                f"{element}{k}", site=tuple(generator.random(3)), u=0.03, scattering_type=element
            )
        )
    return structure


@pytest.mark.parametrize("shift", [(0, 0, 0), (0.5, 0, 0), (0.5, 0.5, 0.5)])
@pytest.mark.parametrize("inverted", [False, True])
def test_origin_and_hand_do_not_matter(chiral, shift, inverted):
    moved = chiral.apply_shift(shift)
    if inverted:
        moved = moved.change_hand()
    comparison = compare(moved, chiral)
    assert comparison.n_matched == 6
    assert comparison.rmsd < 1e-3
    assert (comparison.n_missing, comparison.n_extra, comparison.wrong_elements) == (0, 0, 0)


def test_polar_origin_is_free(chiral):
    polar = chiral.customized_copy(
        space_group_info=crystal.symmetry(chiral.unit_cell(), "P 1 1 21").space_group_info()
    )
    comparison = compare(polar.apply_shift((0.5, 0, 0.123)), polar)
    assert comparison.n_matched == 6
    assert comparison.rmsd < 0.01


def test_missing_extra_moved_and_wrong_atoms_are_counted(chiral):
    structure = chiral.select(~(chiral.scatterers().extract_labels() == "N2"))
    structure.scatterers()[1].scattering_type = "N"
    structure.scatterers()[0].site = tuple(np.add(structure.scatterers()[0].site, (0.02, 0, 0)))
    structure.add_scatterer(xray.scatterer("C99", site=(0.05, 0.06, 0.07), u=0.03))
    comparison = compare(structure, chiral)
    assert comparison.n_missing == 1
    assert comparison.n_extra == 1
    assert comparison.wrong_elements == 1
    assert comparison.max_distance == pytest.approx(0.14, abs=0.03)


def test_nothing_in_common_is_no_match(chiral):
    empty = xray.structure(crystal_symmetry=chiral.crystal_symmetry())
    comparison = compare(empty, chiral)
    assert comparison.n_matched == 0
    assert comparison.n_missing == 6
