"""Molecules from SMILES, InChI and files, and the geometry they prescribe."""

import numpy as np
import pytest

# cctbx
from libtbx.utils import Sorry

from phai_cctbx.building.molecule import (
    read_molecules,
    superposition_rmsd,
    torsion_angle,
    turn,
)

pytest.importorskip("rdkit")

L_ALANINE = "C[C@H]([NH3+])C(=O)[O-]"


def test_smiles_and_inchi_give_the_same_molecule():
    (smiles,) = read_molecules("OCC")
    (inchi,) = read_molecules("InChI=1S/C2H6O/c1-2-3/h3H,2H2,1H3")
    assert smiles.name == inchi.name
    assert smiles.composition == {"C": 2, "H": 6, "O": 1}


def test_benzene_is_flat_and_its_bonds_are_those_of_the_crystal():
    (benzene,) = read_molecules("c1ccccc1")
    targets = benzene.distance_targets(benzene.conformers[0])
    bonds = [d for d, s in zip(targets.distances, targets.sigmas) if s < 0.015]
    assert len(bonds) == 6
    assert np.allclose(bonds, 1.39, atol=0.02)  # C-C of benzene, neutron diffraction: 1.398 A
    assert len(targets.distances) == 15
    assert benzene.torsions == ()


def test_rotatable_bonds_of_heavy_atoms_and_of_hydrogens_alone():
    (butane,) = read_molecules("CCCC")
    assert len(butane.torsions) == 1
    assert len(butane.hydrogen_torsions) == 2
    assert len(butane.conformers) >= 2  # anti and gauche


def test_rings_fold_in_every_way():
    """Chair and twist-boat of cyclohexane; axial and equatorial methyl."""
    (cyclohexane,) = read_molecules("C1CCCCC1")
    assert len(cyclohexane.foldings) >= 2
    (methyl,) = read_molecules("CC1CCCC1")
    assert len(methyl.foldings) >= 2
    (benzene,) = read_molecules("c1ccccc1")
    assert len(benzene.foldings) == 0


def test_a_folding_takes_the_torsions_of_a_placed_molecule():
    (molecule,) = read_molecules("CCC(=O)C1CCCCC1")
    sites = molecule.conformers[0] @ np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]]) + [3, 4, 5]
    for torsion, angle in zip(molecule.torsions, (0.7, -1.1, 2.0)):
        turn(sites, torsion, angle)
    laid = molecule.laid_over(molecule.conformers[0], sites, turned=True)
    assert np.allclose(laid, sites, atol=1e-6)


def test_torsion_angle_is_positive_clockwise():
    a, b, c = np.array([1.0, 0, 0]), np.zeros(3), np.array([0, 0, 1.0])
    angle = torsion_angle(a, b, c, np.array([0, -1.0, 1.0]))  # from b towards c: x to -y
    assert abs(angle) == pytest.approx(np.pi / 2)


def test_alanine_keeps_its_hand():
    (l_form,) = read_molecules(L_ALANINE)
    (d_form,) = read_molecules(L_ALANINE.replace("@", "@@"))
    assert [label for _, label in l_form.stereocentres] == ["S"]
    (volume,) = l_form.chiral_volumes(l_form.conformers[0]).values()
    (mirrored,) = d_form.chiral_volumes(d_form.conformers[0]).values()
    assert volume * mirrored < 0
    assert abs(volume) > 2


def test_components_are_apart():
    parts = read_molecules("CC(=O)O.O")
    assert [len(part.heavy) for part in parts] == [4, 1]


def test_xyz_file(tmp_path):
    path = tmp_path / "water.xyz"
    path.write_text("3\n\nO 0 0 0.12\nH 0 0.76 -0.47\nH 0 -0.76 -0.47\n")
    (water,) = read_molecules(path)
    assert water.composition == {"H": 2, "O": 1}


def test_cif_file_grows_the_molecule_over_symmetry(shared_data):
    path = shared_data / "measured" / "cod_2016452" / "cod_2016452_ref.cif"
    (molecule,) = read_molecules(path)
    assert molecule.composition == {"C": 14, "H": 14, "O": 2}  # half of it is in the CIF


@pytest.mark.parametrize("source", ["C1CC", "InChI=1S/nonsense", "absent.mol", "[H][H]", ""])
def test_what_is_no_molecule_is_refused(source):
    with pytest.raises(Sorry, match="molecule="):
        read_molecules(source)


def test_superposition_takes_no_mirror_image():
    sites = np.array([[0, 0, 0], [1.5, 0, 0], [0, 1.2, 0], [0, 0, 1.0]])
    turned = sites[:, [1, 2, 0]] + 3
    assert superposition_rmsd(sites, turned) == pytest.approx(0, abs=1e-6)
    assert superposition_rmsd(sites, -sites) > 0.3


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("two.sdf", "a\n\n\n  0  0\nM  END\n$$$$\nb\n\n\n  0  0\nM  END\n$$$$\n", "2 molecules"),
        ("query.smi", "C*", "no element"),
    ],
)
def test_files_that_hold_no_single_molecule(tmp_path, name, text, found):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(Sorry, match=found):
        read_molecules(path)
