"""Held-out reflections choose the parameters; the figures tell a wrong molecule."""

import pytest

from phai_cctbx.building.molecule import read_molecules
from phai_cctbx.building.molecule_placement import place
from phai_cctbx.io.read import read
from phai_cctbx.phasing.normalisation import prepare
from phai_cctbx.programs.benchmark_entries import reference_structure
from phai_cctbx.refinement.comparison import compare
from phai_cctbx.refinement.molecule_judgement import judge, rigid_parts
from phai_cctbx.refinement.molecule_refinement import FREE, RIGID, Level, _chosen, refine_molecule
from phai_cctbx.refinement.molecule_rivals import refined_gap

pytest.importorskip("rdkit")


def _refined(folder, smiles, weight=1.0):
    name = folder.name
    data = read(folder / f"{name}.ins")
    prepared = prepare(data.observations, d_min=2.0)
    (molecule,) = read_molecules(smiles)
    placed = place(prepared.f_obs, [molecule], [weight])
    refined = refine_molecule(
        prepared.f_sq, prepared.f_obs, placed.best, data.radiation, data.wavelength
    )
    reference = reference_structure(folder / f"{name}_ref.cif")
    gap = refined_gap(prepared.f_sq, prepared.f_obs, placed, refined)
    return placed, refined, judge(prepared.f_obs, placed, refined, gap), reference


def test_more_parameters_only_where_they_help():
    levels = [Level("a", 8, 0, 0.100), Level("b", 20, 9, 0.099), Level("c", 30, 9, 0.090)]
    assert _chosen(levels[:2]).name == "a"
    assert _chosen(levels).name == "c"


def test_alanine_at_2_angstrom(shared_data):
    """39 reflections: the molecule is right, and free atoms do not win."""
    placed, refined, judgement, reference = _refined(
        shared_data / "measured" / "lala_23K", "C[C@H]([NH3+])C(=O)[O-]"
    )
    assert compare(refined.refinement.xray_structure, reference).rmsd < 0.08
    assert judgement.right
    assert judgement.held_out_r < 0.06
    assert judgement.log_likelihood_gap > 10
    assert refined.level.name != FREE
    assert refined.levels[0].name == RIGID and refined.levels[0].n_parameters == 8


def test_a_molecule_on_a_special_position(shared_data):
    """Urea on mm2: four atoms of eight are given, and stay where symmetry holds them."""
    _, refined, judgement, reference = _refined(
        shared_data / "measured" / "urea_xharpy", "NC(N)=O", 0.25
    )
    structure = refined.refinement.xray_structure
    comparison = compare(structure, reference)
    assert (comparison.n_matched, comparison.n_missing, comparison.n_extra) == (3, 0, 0)
    assert comparison.rmsd < 0.05


def test_a_wrong_molecule_is_found_out(shared_data):
    """Beta-alanine, an isomer, in the crystal of L-alanine."""
    _, _, judgement, _ = _refined(shared_data / "measured" / "lala_23K", "[NH3+]CCC(=O)[O-]")
    assert not judgement.right
    assert judgement.reasons


def test_rigid_parts_are_what_rotatable_bonds_leave():
    (biphenyl,) = read_molecules("c1ccccc1-c1ccccc1")
    assert [len(part) for part in rigid_parts(biphenyl)] == [6, 6]
