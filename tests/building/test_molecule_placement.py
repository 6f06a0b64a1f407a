"""Molecules are found again where they were put, by |F| alone or in wrong and right maps."""

import numpy as np
import pytest

# cctbx
from cctbx import crystal, miller, xray
from cctbx.array_family import flex
from libtbx.utils import Sorry

from phai_cctbx.building.molecule import read_molecules
from phai_cctbx.building.molecule_placement import clashes, improved, place, unique_atoms
from phai_cctbx.building.molecule_pose import Diffraction, FlexibleFit, Placement, Pose
from phai_cctbx.building.molecule_search import even_rotations, special_points
from phai_cctbx.phasing.result import PhasingResult
from phai_cctbx.refinement.comparison import compare

pytest.importorskip("rdkit")

ALANINE = "C[C@H]([NH3+])C(=O)[O-]"


def _crystal(symmetry, molecule, sites, d_min=2.0, weight=1.0):
    """A structure of one molecule and its amplitudes."""
    structure = xray.structure(crystal_symmetry=symmetry)
    for k, (element, site) in enumerate(zip(molecule.elements, sites)):
        structure.add_scatterer(
            xray.scatterer(
                f"{element}{k}",
                site=symmetry.unit_cell().fractionalize(tuple(site)),
                u=0.04,
                occupancy=weight,
                scattering_type=element,
            )
        )
    structure.scattering_type_registry(table="it1992")
    indices = miller.build_set(symmetry, anomalous_flag=False, d_min=d_min)
    f_calc = indices.structure_factors_from_scatterers(structure, algorithm="direct").f_calc()
    return structure, f_calc


def _built(placement, f_obs):
    diffraction = Diffraction(f_obs, placement.poses[0].molecule.elements)
    structure = xray.structure(crystal_symmetry=f_obs.crystal_symmetry())
    for pose in placement.poses:
        unique = unique_atoms(pose, diffraction)
        for i in pose.molecule.heavy:
            if unique.representative[i] == i:
                structure.add_scatterer(
                    xray.scatterer(
                        f"{pose.molecule.elements[i]}{i}",
                        site=tuple(unique.sites[i]),
                        u=0.04,
                        scattering_type=pose.molecule.elements[i],
                    )
                )
    return structure


@pytest.fixture(scope="module")
def alanine():
    (molecule,) = read_molecules(ALANINE)
    return molecule


@pytest.fixture(scope="module")
def alanine_crystal(alanine):
    symmetry = crystal.symmetry((6.4, 12.3, 6.1, 90, 90, 90), "P 21 21 21")
    rotation = even_rotations(50)[17]
    return _crystal(symmetry, alanine, alanine.conformers[0] @ rotation.T + [2.2, 3.1, 1.4])


@pytest.mark.parametrize("group", ["P 21 21 21", "P 1 21/c 1", "C 1 2/c 1", "I 41/a", "P n a 21"])
def test_structure_factors_are_those_of_cctbx(alanine, group):
    a, b = (13.0, 13.0) if group == "I 41/a" else (12.0, 13.0)
    angle = 102 if group in ("P 1 21/c 1", "C 1 2/c 1") else 90
    symmetry = crystal.symmetry((a, b, 9.7, 90, angle, 90), group)
    sites = alanine.conformers[0] + [2.0, 3.0, 1.5]
    _, f_calc = _crystal(symmetry, alanine, sites)
    diffraction = Diffraction(abs(f_calc), alanine.elements)
    ours = diffraction.f_calc(Placement((Pose(alanine, sites),), (1.0,), 0.04))
    # Lattice translations are left out: a constant factor.
    ours *= symmetry.space_group().n_ltr()
    assert np.allclose(ours, f_calc.data().as_numpy_array(), atol=1e-3)


def test_gradients_are_those_of_finite_differences(alanine, alanine_crystal):
    _, f_calc = alanine_crystal
    ones = f_calc.customized_copy(data=flex.double(f_calc.size(), 1.0))
    diffraction = Diffraction(abs(f_calc), alanine.elements, f_phased=f_calc, confidence=ones)
    start = Placement((Pose(alanine, alanine.conformers[0] + [2.4, 3.0, 1.1]),), (1.0,), 0.04)
    fit = FlexibleFit(diffraction, start, hydrogen_torsions=True)
    x = 0.2 * np.random.default_rng(0).normal(size=fit.n_parameters - 1)
    x[-1] = 0.5
    _, gradient = fit.value_and_gradient(x)
    step = 2e-3
    for k in range(len(x)):
        ahead, behind = x.copy(), x.copy()
        ahead[k] += step
        behind[k] -= step
        slope = (fit.value_and_gradient(ahead)[0] - fit.value_and_gradient(behind)[0]) / (2 * step)
        assert slope == pytest.approx(gradient[k], abs=1e-3)


def test_orientations_are_even():
    rotations = even_rotations(1000)
    assert np.allclose(np.linalg.det(rotations), 1)
    trace = np.einsum("aij,bij->ab", rotations, rotations)
    angles = np.degrees(np.arccos(np.clip((trace - 1) / 2, -1, 1))) + 180 * np.eye(1000)
    nearest = angles.min(axis=1)
    # 1000 balls of radius a / 2 fill rotation space at a = 2 (6 pi / 1000)^(1/3) = 30 degrees.
    assert 12 < nearest.min() and nearest.max() < 30


def test_alanine_is_found_by_amplitudes_alone(alanine, alanine_crystal):
    structure, f_calc = alanine_crystal
    result = place(abs(f_calc), [alanine])
    assert result.best.r1 < 0.02
    assert result.gap > 2
    assert compare(_built(result.best, abs(f_calc)), structure).rmsd < 0.05


def test_wrong_phases_do_not_mislead(alanine, alanine_crystal):
    _, f_calc = alanine_crystal
    phases = np.random.default_rng(1).uniform(0, 360, f_calc.size())
    wrong = abs(f_calc).phase_transfer(flex.double(phases), deg=True)
    sure = f_calc.customized_copy(data=flex.double(f_calc.size(), 0.9))
    result = place(abs(f_calc), [alanine], phase_sets=[PhasingResult(wrong, sure)])
    assert result.best.r1 < 0.02


def test_half_a_molecule_on_a_centre_of_inversion():
    (molecule,) = read_molecules("C#Cc1ccc(C#C)cc1")
    symmetry = crystal.symmetry((4.0, 6.0, 15.5, 90, 92, 90), "P 1 21/c 1")
    rotation = even_rotations(50)[3]
    structure, f_calc = _crystal(
        symmetry, molecule, molecule.conformers[0] @ rotation.T, weight=0.5
    )
    result = place(abs(f_calc), [molecule], [0.5])
    assert result.best.r1 < 0.1
    unique = unique_atoms(result.best.poses[0], Diffraction(abs(f_calc), molecule.elements))
    assert unique.order == 2
    assert len(set(unique.representative)) == len(molecule.elements) // 2


def test_special_points_surround_the_centres_of_inversion():
    symmetry = crystal.symmetry((8, 9, 10, 90, 105, 90), "P 1 21/c 1")
    indices = miller.build_set(symmetry, anomalous_flag=False, d_min=2.0)
    diffraction = Diffraction(indices.array(data=flex.double(indices.size(), 1.0)), {"C"})
    grid = (16, 16, 20)
    points = np.array(np.unravel_index(special_points(diffraction, grid, 2), grid)).T / grid
    centres = np.rint(2 * points) / 2
    distance = np.linalg.norm((points - centres) @ diffraction.orthogonalisation.T, axis=1)
    assert distance.max() < 0.6
    assert len(np.unique(centres % 1, axis=0)) == 8
    assert len(special_points(diffraction, grid, 4)) == 0


def test_molecule_with_its_ends_exchanged_is_turned_round():
    """Chlorophenol the wrong way round lies atom by atom on the right one."""
    symmetry = crystal.symmetry((7, 8, 12, 90, 100, 90), "P 1 21/c 1")
    (molecule,) = read_molecules("Oc1ccc(Cl)cc1")
    sites = molecule.conformers[0] + np.array([1.5, 2.0, 3.0])
    _, f_calc = _crystal(symmetry, molecule, sites)
    diffraction = Diffraction(f_calc.as_amplitude_array(), molecule.elements)
    centre = sites[molecule.heavy].mean(axis=0)
    normal, across = np.linalg.svd(sites[molecule.heavy] - centre)[2][[2, 1]]
    assert abs(normal @ across) < 1e-6
    turned = (sites - centre) @ (2 * np.outer(across, across) - np.eye(3)) + centre
    wrong = diffraction.judged(Placement((Pose(molecule, turned),), (1.0,), 0.04))
    assert wrong.r1 > 0.2
    assert improved(diffraction, wrong).r1 < 0.05


def test_molecules_that_run_into_each_other_clash(alanine):
    symmetry = crystal.symmetry((5.93, 12.26, 5.79, 90, 90, 90), "P 1 2 1")
    diffraction = Diffraction(
        abs(_crystal(symmetry, alanine, alanine.conformers[0] + [3, 6, 3])[1]), alanine.elements
    )
    near_axis = Pose(alanine, alanine.conformers[0] + [0.8, 6, 0.8])
    apart = Pose(alanine, alanine.conformers[0] + [1.48, 6, 1.45])
    assert clashes(Placement((near_axis,), (1.0,), 0.04), diffraction)
    assert len(clashes(Placement((apart,), (1.0,), 0.04), diffraction)) < len(
        clashes(Placement((near_axis,), (1.0,), 0.04), diffraction)
    )


def test_too_few_reflections_are_refused(alanine, alanine_crystal):
    _, f_calc = alanine_crystal
    with pytest.raises(Sorry, match="reflections cannot place"):
        place(abs(f_calc).resolution_filter(d_min=5), [alanine])
