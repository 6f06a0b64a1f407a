"""Wrong molecules of a benchmark: isomers keep the formula, homologues have a CH2 more."""

import pytest

pytest.importorskip("rdkit")

from rdkit import Chem
from rdkit.Chem.rdMolDescriptors import CalcMolFormula

from phai_cctbx.programs.benchmark_decoys import HOMOLOGUE, ISOMER, wrong_molecules


def _formula(smiles):
    return CalcMolFormula(Chem.MolFromSmiles(smiles))


@pytest.mark.parametrize(
    ("smiles", "formula", "longer"),
    [
        ("NC(N)=O", "CH4N2O", "C2H6N2O"),
        ("C[C@H]([NH3+])C(=O)[O-]", "C3H7NO2", "C4H9NO2"),
        ("CC(=O)Oc1ccccc1C(=O)O", "C9H8O4", "C10H10O4"),
    ],
)
def test_formulae_and_constitutions(smiles, formula, longer):
    wrong = wrong_molecules(smiles, seed=3)
    assert _formula(wrong[ISOMER]) == formula
    assert _formula(wrong[HOMOLOGUE]) == longer
    assert Chem.CanonSmiles(wrong[ISOMER], useChiral=0) != Chem.CanonSmiles(smiles, useChiral=0)


def test_oxirane_has_no_isomer_by_one_bond_moved():
    assert set(wrong_molecules("C1CO1")) == {HOMOLOGUE}
