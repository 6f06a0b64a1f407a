"""Symmetry tables against group theory and against cctbx."""
from __future__ import annotations

import json

import numpy as np
import pytest

from cctbx import crystal, miller, sgtbx

from phai_cctbx.network import space_groups
from phai_cctbx.network.gen_space_groups import entry
from phai_cctbx.network.space_groups import space_group

ALL = range(1, 231)
ENANTIOMORPHIC = {  # International Tables A: the 11 pairs
    76: 78, 91: 95, 92: 96, 144: 145, 151: 153, 152: 154, 169: 170, 171: 172, 178: 179,
    180: 181, 212: 213}


def same_lattice_point(difference, group) -> bool:
    shifted = difference - group.centring
    return bool((np.abs(shifted - np.rint(shifted)).max(axis=1) < 1e-9).any())


def obeys(group, rotation, translation) -> bool:
    """Whether an operator belongs to the group."""
    return any((r == rotation).all() and same_lattice_point(t - translation, group)
               for r, t in zip(group.rotations, group.translations))


def test_numbers_outside_the_table_are_refused():
    with pytest.raises(ValueError, match="1 to 230"):
        space_group(231)


def test_the_table_is_what_its_generator_makes():
    content = json.loads(space_groups.TABLE.read_text())
    rotations = content["rotations"].copy()
    for group in content["groups"]:
        made = entry(group["number"], rotations)
        assert json.loads(json.dumps(made)) == group
    assert rotations == content["rotations"]


@pytest.mark.parametrize("number", ALL)
def test_operators_form_the_group_of_cctbx(number):
    group = space_group(number)
    reference = sgtbx.space_group_info(number=number).group()
    rotations, translations = group.all_operators()
    assert group.multiplicity == len(rotations) == reference.order_z()
    rebuilt = sgtbx.space_group()
    for r, t in zip(rotations, translations):
        in_24ths = [int(round(24 * x)) for x in t]
        rebuilt.expand_smx(sgtbx.rt_mx(
            sgtbx.rot_mx([int(x) for x in r.ravel()], 1), sgtbx.tr_vec(in_24ths, 24)
        ).new_denominators(1, 12))
    assert rebuilt == reference
    assert (rotations[0] == np.eye(3)).all() and not translations[0].any()
    assert group.centrosymmetric == any((r == -np.eye(3)).all() for r in group.rotations)
    if group.centrosymmetric:
        assert obeys(group, -np.eye(3, dtype=int), np.zeros(3))


@pytest.mark.parametrize("number", ALL)
def test_origin_shifts_and_hand_keep_the_operators(number):
    group = space_group(number)
    rng = np.random.default_rng(number)
    assert not group.origin_shifts[0].any()
    for shift in group.origin_shifts:
        along_polar = rng.normal(size=len(group.polar_directions)) @ group.polar_directions
        shift = shift + along_polar
        for r, t in zip(group.rotations, group.translations):
            assert obeys(group, r, t + shift - r @ shift)
    hand = space_group(group.enantiomorph)
    p = group.inversion_shift
    for r, t in zip(group.rotations, group.translations):
        assert obeys(hand, r, -t + p - r @ p)


def test_enantiomorphic_pairs():
    pairs = {n: space_group(n).enantiomorph for n in ALL if not space_group(n).inversion_stays}
    assert pairs == {**ENANTIOMORPHIC, **{b: a for a, b in ENANTIOMORPHIC.items()}}


@pytest.mark.parametrize("number", ALL)
def test_grid_factors_map_the_grid_onto_itself(number):
    group = space_group(number)
    grid = group.grid_factors
    assert (grid == grid[group.equal_gridding]).all()
    for shift in (*group.centring, *group.translations, *group.origin_shifts,
                  group.inversion_shift):
        np.testing.assert_allclose(shift * grid, np.rint(shift * grid), atol=1e-9)
    for rotation in group.rotations:
        for i, j in np.argwhere(rotation):
            assert group.equal_gridding[i] == group.equal_gridding[j]


@pytest.mark.parametrize("number", [14, 43, 62, 92, 155, 198, 227])
def test_structure_factors_obey_the_operators(number):
    group = space_group(number)
    info = sgtbx.space_group_info(number=number)
    symmetry = crystal.symmetry(unit_cell=info.any_compatible_unit_cell(500), space_group_info=info)
    indices = miller.build_set(symmetry, anomalous_flag=False, d_min=1.5).indices()
    h = np.array(list(indices))
    rotations, translations = group.all_operators()
    site = np.array([0.11, 0.23, 0.37])
    sites = rotations @ site + translations
    f = np.exp(2j * np.pi * h @ sites.T).sum(axis=1)
    for r, t in zip(group.rotations, group.translations):
        f_mate = np.exp(2j * np.pi * (h @ r) @ sites.T).sum(axis=1)
        np.testing.assert_allclose(f_mate * np.exp(2j * np.pi * h @ t), f, atol=1e-8)
