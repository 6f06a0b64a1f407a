"""Wrong molecules made from a right one: what a verdict on a molecule has to find out.

An isomer has one bond at another atom, a homologue a methyl group in place of a hydrogen.
"""

from __future__ import annotations

import numpy as np

# cctbx
from libtbx.utils import Sorry

NEAR_BONDS = 2
"""A bond moves at most so many bonds along the molecule: meta for para, not another compound."""

ISOMER, HOMOLOGUE = "isomer", "one atom more"
KINDS = (ISOMER, HOMOLOGUE)


def wrong_molecules(smiles: str, seed: int = 0) -> dict[str, str]:
    """Kind -> SMILES of wrong molecules, drawn by a seed from all that there are.

    Parameters
    ----------
    smiles : str
        Of one component.
    seed : int

    Raises
    ------
    libtbx.utils.Sorry
        If RDKit cannot read the SMILES.
    """
    from rdkit import Chem

    mol = Chem.MolFromSmiles(smiles)
    if mol is None:
        raise Sorry(f"molecule={smiles}: not a SMILES that RDKit can read.")
    mol = Chem.AddHs(mol)
    rng = np.random.default_rng(seed)
    lists = {ISOMER: isomers(mol), HOMOLOGUE: homologues(mol)}
    return {kind: str(rng.choice(found)) for kind, found in lists.items() if found}


def isomers(mol) -> list[str]:
    """SMILES with one single bond a-b moved to a-c, the hydrogen of c going to b.

    Bonds outside rings move where any can, onto an atom near by where there is one.

    Parameters
    ----------
    mol : rdkit.Chem.Mol
        Hydrogens included.
    """
    from rdkit import Chem

    apart = Chem.GetDistanceMatrix(mol)
    ranked: dict[tuple[bool, bool], set[str]] = {}
    for bond in mol.GetBonds():
        if bond.GetBondType() != Chem.BondType.SINGLE:
            continue
        ends = (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())
        if any(mol.GetAtomWithIdx(i).GetAtomicNum() == 1 for i in ends):
            continue
        for a, b in (ends, ends[::-1]):
            for c, hydrogen in _hydrogens(mol):
                if c in (a, b) or mol.GetBondBetweenAtoms(a, c):
                    continue
                moved = _rewired(mol, [(a, b), (c, hydrogen)], [(a, c), (b, hydrogen)], {a, b, c})
                if moved is not None:
                    rank = (bond.IsInRing(), bool(apart[b, c] > NEAR_BONDS))
                    ranked.setdefault(rank, set()).add(moved)
    own = Chem.MolToSmiles(Chem.RemoveHs(mol), isomericSmiles=False)
    for rank in sorted(ranked):
        flat = {s: Chem.CanonSmiles(s, useChiral=0) for s in ranked[rank]}
        different = sorted(s for s, constitution in flat.items() if constitution != own)
        if different:
            return different
    return []


def homologues(mol) -> list[str]:
    """SMILES with a methyl group in place of one hydrogen, of carbon where it has any.

    Parameters
    ----------
    mol : rdkit.Chem.Mol
        Hydrogens included.
    """
    from rdkit import Chem

    places = _hydrogens(mol)
    on_carbon = [(i, h) for i, h in places if mol.GetAtomWithIdx(i).GetAtomicNum() == 6]
    found = set()
    for _, hydrogen in on_carbon or places:
        longer = Chem.RWMol(mol)
        longer.GetAtomWithIdx(hydrogen).SetAtomicNum(6)
        Chem.SanitizeMol(longer)
        found.add(Chem.MolToSmiles(Chem.RemoveHs(longer)))
    return sorted(found)


def _hydrogens(mol):
    """One hydrogen of each atom that has any: (atom, hydrogen)."""
    return [
        (
            atom.GetIdx(),
            next(n.GetIdx() for n in atom.GetNeighbors() if n.GetAtomicNum() == 1),
        )
        for atom in mol.GetAtoms()
        if any(n.GetAtomicNum() == 1 for n in atom.GetNeighbors())
    ]


def _rewired(mol, cut, joined, changed):
    """SMILES with some bonds cut and others made; None where that is no single molecule."""
    from rdkit import Chem

    other = Chem.RWMol(mol)
    for i, j in cut:
        other.RemoveBond(i, j)
    for i, j in joined:
        other.AddBond(i, j, Chem.BondType.SINGLE)
    for i in changed:
        other.GetAtomWithIdx(i).SetChiralTag(Chem.ChiralType.CHI_UNSPECIFIED)
    try:
        Chem.SanitizeMol(other)
    except ValueError:  # valences hold, an aromatic ring may not
        return None
    text = Chem.MolToSmiles(Chem.RemoveHs(other))
    return None if "." in text else text
