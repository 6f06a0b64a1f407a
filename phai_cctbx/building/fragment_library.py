"""Common molecules and rigid fragments, and which of them a composition has room for.

Molecules are those that every laboratory has as reagents, solvents, counter ions or crystals for
tests; fragments are ring systems and groups without torsions that published structures are rich in.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations_with_replacement

import numpy as np

from phai_cctbx.building.molecule import Molecule, read_molecules

MOLECULES = {
    # Amino acids, as zwitterions.
    "glycine": "[NH3+]CC(=O)[O-]", "L-alanine": "C[C@H]([NH3+])C(=O)[O-]",
    "beta-alanine": "[NH3+]CCC(=O)[O-]", "sarcosine": "C[NH2+]CC(=O)[O-]",
    "betaine": "C[N+](C)(C)CC(=O)[O-]", "L-valine": "CC(C)[C@H]([NH3+])C(=O)[O-]",
    "L-leucine": "CC(C)C[C@H]([NH3+])C(=O)[O-]",
    "L-isoleucine": "CC[C@H](C)[C@H]([NH3+])C(=O)[O-]", "L-serine": "OC[C@H]([NH3+])C(=O)[O-]",
    "L-threonine": "C[C@@H](O)[C@H]([NH3+])C(=O)[O-]", "L-cysteine": "SC[C@H]([NH3+])C(=O)[O-]",
    "L-methionine": "CSCC[C@H]([NH3+])C(=O)[O-]", "L-proline": "[O-]C(=O)[C@@H]1CCC[NH2+]1",
    "L-aspartic acid": "OC(=O)C[C@H]([NH3+])C(=O)[O-]",
    "L-glutamic acid": "OC(=O)CC[C@H]([NH3+])C(=O)[O-]",
    "L-asparagine": "NC(=O)C[C@H]([NH3+])C(=O)[O-]",
    "L-glutamine": "NC(=O)CC[C@H]([NH3+])C(=O)[O-]",
    "L-phenylalanine": "[O-]C(=O)[C@@H]([NH3+])Cc1ccccc1",
    "L-tyrosine": "[O-]C(=O)[C@@H]([NH3+])Cc1ccc(O)cc1",
    "L-tryptophan": "[O-]C(=O)[C@@H]([NH3+])Cc1c[nH]c2ccccc12",
    "L-histidine": "[O-]C(=O)[C@@H]([NH3+])Cc1c[nH]cn1",
    "L-arginine": "NC(=[NH2+])NCCC[C@H](N)C(=O)[O-]", "L-lysine": "[NH3+]CCCC[C@H](N)C(=O)[O-]",
    "glycylglycine": "[NH3+]CC(=O)NCC(=O)[O-]", "taurine": "[NH3+]CCS(=O)(=O)[O-]",
    # Small molecules.
    "urea": "NC(N)=O", "thiourea": "NC(N)=S", "oxirane": "C1CO1", "acetaldehyde": "CC=O",
    "formamide": "NC=O", "acetamide": "CC(N)=O", "oxamide": "NC(=O)C(N)=O",
    "biuret": "NC(=O)NC(N)=O", "cyanamide": "NC#N", "cyanoguanidine": "NC(N)=NC#N",
    "melamine": "Nc1nc(N)nc(N)n1", "cyanuric acid": "O=c1[nH]c(=O)[nH]c(=O)[nH]1",
    "hexamine": "C1N2CN3CN1CN(C2)C3", "parabanic acid": "O=C1NC(=O)C(=O)N1",
    "imidazole": "c1c[nH]cn1", "pyrazole": "c1cn[nH]c1", "1,2,4-triazole": "c1nc[nH]n1",
    "pyrazine": "c1cnccn1", "piperazine": "C1CNCCN1",
    # Acids, phenols, amides.
    "oxalic acid": "OC(=O)C(=O)O", "malonic acid": "OC(=O)CC(=O)O",
    "succinic acid": "OC(=O)CCC(=O)O", "fumaric acid": "OC(=O)/C=C/C(=O)O",
    "maleic acid": "OC(=O)/C=C\\C(=O)O", "L-malic acid": "OC(=O)[C@@H](O)CC(=O)O",
    "L-tartaric acid": "OC(=O)[C@H](O)[C@@H](O)C(=O)O",
    "citric acid": "OC(=O)CC(O)(C(=O)O)CC(=O)O", "benzoic acid": "OC(=O)c1ccccc1",
    "salicylic acid": "OC(=O)c1ccccc1O", "4-hydroxybenzoic acid": "OC(=O)c1ccc(O)cc1",
    "phthalic acid": "OC(=O)c1ccccc1C(=O)O", "terephthalic acid": "OC(=O)c1ccc(C(=O)O)cc1",
    "4-nitrobenzoic acid": "OC(=O)c1ccc([N+](=O)[O-])cc1",
    "4-aminobenzoic acid": "OC(=O)c1ccc(N)cc1", "benzamide": "NC(=O)c1ccccc1",
    "nicotinamide": "NC(=O)c1cccnc1", "isonicotinamide": "NC(=O)c1ccncc1",
    "nicotinic acid": "OC(=O)c1cccnc1", "isonicotinic acid": "OC(=O)c1ccncc1",
    "phenol": "Oc1ccccc1", "catechol": "Oc1ccccc1O", "resorcinol": "Oc1cccc(O)c1",
    "hydroquinone": "Oc1ccc(O)cc1", "benzoquinone": "O=C1C=CC(=O)C=C1",
    "4-nitroaniline": "Nc1ccc([N+](=O)[O-])cc1", "4-nitrophenol": "Oc1ccc([N+](=O)[O-])cc1",
    "picric acid": "Oc1c([N+](=O)[O-])cc([N+](=O)[O-])cc1[N+](=O)[O-]",
    # Hydrocarbons.
    "benzene": "c1ccccc1", "toluene": "Cc1ccccc1", "naphthalene": "c1ccc2ccccc2c1",
    "anthracene": "c1ccc2cc3ccccc3cc2c1", "phenanthrene": "c1ccc2c(c1)ccc1ccccc12",
    "pyrene": "c1cc2ccc3cccc4ccc(c1)c2c34", "biphenyl": "c1ccc(cc1)-c1ccccc1",
    "stilbene": "c1ccc(cc1)/C=C/c1ccccc1", "tolane": "c1ccc(cc1)C#Cc1ccccc1",
    "adamantane": "C1C2CC3CC1CC(C2)C3",
    # Drugs, sugars, bases, explosives.
    "aspirin": "CC(=O)Oc1ccccc1C(=O)O", "paracetamol": "CC(=O)Nc1ccc(O)cc1",
    "caffeine": "Cn1c(=O)c2c(ncn2C)n(C)c1=O", "theophylline": "Cn1c(=O)c2[nH]cnc2n(C)c1=O",
    "ibuprofen": "CC(C)Cc1ccc(cc1)C(C)C(=O)O", "carbamazepine": "NC(=O)N1c2ccccc2C=Cc2ccccc12",
    "sulfanilamide": "Nc1ccc(cc1)S(N)(=O)=O",
    "alpha-D-glucose": "OC[C@H]1O[C@H](O)[C@H](O)[C@@H](O)[C@@H]1O",
    "sucrose": "OC[C@H]1O[C@@](CO)(O[C@H]2O[C@H](CO)[C@@H](O)[C@H](O)[C@H]2O)[C@@H](O)[C@@H]1O",
    "ascorbic acid": "OC[C@H](O)[C@H]1OC(=O)C(O)=C1O", "adenine": "Nc1ncnc2[nH]cnc12",
    "cytosine": "Nc1cc[nH]c(=O)n1", "uracil": "O=c1cc[nH]c(=O)[nH]1",
    "thymine": "Cc1c[nH]c(=O)[nH]c1=O", "RDX": "C1N(CN(CN1[N+](=O)[O-])[N+](=O)[O-])[N+](=O)[O-]",
    "HMX": "C1N(CN(CN(CN1[N+](=O)[O-])[N+](=O)[O-])[N+](=O)[O-])[N+](=O)[O-]",
    "TNT": "Cc1c(cc(cc1[N+](=O)[O-])[N+](=O)[O-])[N+](=O)[O-]",
    # Ions.
    "ammonium": "[NH4+]", "tetramethylammonium": "C[N+](C)(C)C", "guanidinium": "NC(N)=[NH2+]",
    "pyridinium": "c1cc[nH+]cc1", "imidazolium": "c1c[nH]c[nH+]1", "anilinium": "[NH3+]c1ccccc1",
    "nitrate": "[O-][N+](=O)[O-]", "perchlorate": "[O-]Cl(=O)(=O)=O",
    "tetrafluoroborate": "F[B-](F)(F)F", "sulfate": "[O-]S(=O)(=O)[O-]",
    "hydrogen sulfate": "OS(=O)(=O)[O-]", "dihydrogen phosphate": "OP(=O)(O)[O-]",
    "formate": "[O-]C=O", "acetate": "CC(=O)[O-]", "trifluoroacetate": "[O-]C(=O)C(F)(F)F",
    "hydrogen oxalate": "OC(=O)C(=O)[O-]", "hydrogen maleate": "OC(=O)/C=C\\C(=O)[O-]",
    "benzoate": "[O-]C(=O)c1ccccc1", "tosylate": "Cc1ccc(cc1)S(=O)(=O)[O-]",
    "triflate": "[O-]S(=O)(=O)C(F)(F)F", "thiocyanate": "[S-]C#N", "chloride": "[Cl-]",
    "bromide": "[Br-]", "iodide": "[I-]",
    # Solvents.
    "water": "O", "methanol": "CO", "ethanol": "CCO", "acetone": "CC(C)=O",
    "acetonitrile": "CC#N", "formic acid": "OC=O", "acetic acid": "CC(=O)O", "DMF": "CN(C)C=O",
    "DMSO": "CS(C)=O", "dichloromethane": "ClCCl", "chloroform": "ClC(Cl)Cl", "THF": "C1CCOC1",
    "dioxane": "C1COCCO1", "ethyl acetate": "CCOC(C)=O", "diethyl ether": "CCOCC",
    "pyridine": "c1ccncc1",
}  # fmt: skip
"""Name -> SMILES of whole molecules and ions."""

FRAGMENTS = {
    # Ring systems.
    "benzene ring": "c1ccccc1", "naphthalene": "c1ccc2ccccc2c1",
    "anthracene": "c1ccc2cc3ccccc3cc2c1", "pyridine": "c1ccncc1", "pyrimidine": "c1cncnc1",
    "imidazole": "c1c[nH]cn1", "pyrazole": "c1cn[nH]c1", "furan": "c1ccoc1",
    "thiophene": "c1ccsc1", "thiazole": "c1cscn1", "indole": "c1ccc2[nH]ccc2c1",
    "benzimidazole": "c1ccc2[nH]cnc2c1", "quinoline": "c1ccc2ncccc2c1",
    "benzothiazole": "c1ccc2scnc2c1", "coumarin": "O=c1ccc2ccccc2o1",
    "carbazole": "c1ccc2c(c1)[nH]c1ccccc12", "fluorene": "c1ccc2c(c1)Cc1ccccc12",
    "phthalimide": "O=C1NC(=O)c2ccccc12", "purine": "c1ncc2[nH]cnc2n1",
    "cyclohexane, chair": "C1CCCCC1", "piperidine, chair": "C1CCNCC1",
    "piperazine, chair": "C1CNCCN1", "morpholine, chair": "C1COCCN1",
    "tetrahydropyran, chair": "C1CCOCC1", "adamantane": "C1C2CC3CC1CC(C2)C3",
    "beta-lactam": "O=C1CCN1", "maleimide": "O=C1C=CC(=O)N1", "succinimide": "O=C1CCC(=O)N1",
    # Rings with a group in their plane.
    "phenyl and the next atom": "Cc1ccccc1", "1,4-phenylene and the next atoms": "Cc1ccc(C)cc1",
    "phenoxy": "Oc1ccccc1", "anisole": "COc1ccccc1", "aniline": "Nc1ccccc1",
    "benzoyl": "O=C(C)c1ccccc1", "benzoate": "O=C(O)c1ccccc1", "benzamide": "O=C(N)c1ccccc1",
    "nitrobenzene": "O=[N+]([O-])c1ccccc1", "chlorobenzene": "Clc1ccccc1",
    "bromobenzene": "Brc1ccccc1", "fluorobenzene": "Fc1ccccc1",
    "1,2-dimethoxybenzene": "COc1ccccc1OC", "benzodioxole": "c1ccc2OCOc2c1",
    "tosyl": "Cc1ccc(cc1)S(=O)(=O)C", "benzenesulfonyl": "O=S(=O)(C)c1ccccc1",
    # Groups.
    "carboxylate": "CC(=O)[O-]", "ester": "COC(C)=O", "amide": "CC(N)=O",
    "secondary amide": "CNC(C)=O", "urea": "NC(N)=O", "thiourea": "NC(N)=S",
    "nitro": "C[N+](=O)[O-]", "nitrate": "[O-][N+](=O)[O-]", "sulfonate": "CS(=O)(=O)[O-]",
    "sulfonamide": "CS(N)(=O)=O", "sulfate": "[O-]S(=O)(=O)[O-]",
    "phosphate": "[O-]P(=O)([O-])[O-]", "phosphonate": "CP(=O)([O-])[O-]",
    "perchlorate": "[O-]Cl(=O)(=O)=O", "tetrafluoroborate": "F[B-](F)(F)F",
    "trifluoromethyl": "CC(F)(F)F", "tert-butyl": "CC(C)(C)C", "isopropyl": "CC(C)C",
    "trimethylsilyl": "C[Si](C)(C)C", "trimethylammonium": "C[N+](C)(C)C",
    "guanidine": "NC(N)=[NH2+]", "dicyanovinyl": "N#CC(C#N)=C",
}  # fmt: skip
"""Name -> SMILES of fragments; they are placed without their hydrogens."""

N_COPIES_MAX, N_COPIES_OF_TWO_MAX = 4, 2
"""Copies of one molecule in the asymmetric unit, and of each where there are two kinds."""

LARGEST_PARTNER = 8
"""Non-hydrogen atoms of the smaller of two kinds: counter ions, solvents, small acids and bases."""

COUNT_TOLERANCE = 0.02
"""Share by which numbers of atoms may be off the formula: UNIT is written to whole atoms."""


@dataclass(frozen=True)
class Proposal:
    """What may be in the asymmetric unit.

    Attributes
    ----------
    names, smiles : tuple of str
        Of each kind.
    copies : tuple of int
        Of each kind; empty where the molecule lies on a special position.
    """

    names: tuple[str, ...]
    smiles: tuple[str, ...]
    copies: tuple[int, ...]

    @property
    def name(self) -> str:
        """All kinds in words."""
        numbers = self.copies or (1,) * len(self.names)
        return " + ".join(
            name if n == 1 else f"{n} {name}" for n, name in zip(numbers, self.names, strict=True)
        )


@cache
def composition_of(smiles: str) -> tuple[dict[str, int], int]:
    """Element -> number of atoms, hydrogens included, and the charge of a molecule."""
    from rdkit import Chem

    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    symbols = [atom.GetSymbol() for atom in mol.GetAtoms()]
    return {e: symbols.count(e) for e in sorted(set(symbols))}, Chem.GetFormalCharge(mol)


def molecules_for(contents: dict[str, float], n_operators: int) -> list[Proposal]:
    """Neutral sets of one or two kinds of common molecules that are the whole asymmetric unit.

    Hydrogens count where the contents have any.

    Parameters
    ----------
    contents : dict of str to float
        Element -> atoms in the asymmetric unit.
    n_operators : int
        Operators of the space group: a single molecule may lie on a special position of any
        order that divides it.

    Returns
    -------
    list of Proposal
        One kind of molecules before two.
    """
    counted = {e: n for e, n in contents.items() if n > 0}
    with_hydrogens = counted.get("H", 0) > 0

    def formula(smiles, n=1.0):
        found = {e: n * k for e, k in composition_of(smiles)[0].items()}
        return found if with_hydrogens else {e: k for e, k in found.items() if e != "H"}

    numbers = [float(n) for n in range(1, N_COPIES_MAX + 1)]
    numbers += [1 / k for k in range(2, n_operators + 1) if n_operators % k == 0]
    singles = [
        Proposal((name,), (smiles,), (int(n),) if n >= 1 else ())
        for name, smiles in MOLECULES.items()
        if composition_of(smiles)[1] == 0
        for n in numbers
        if _same(formula(smiles, n), counted)
    ]
    if singles:
        return singles
    pairs = []
    fitting = [name for name, s in MOLECULES.items() if _fits(formula(s), counted)]
    for a, b in combinations_with_replacement(fitting, 2):
        for n in range(1, N_COPIES_OF_TWO_MAX + 1):
            for m in range(1, N_COPIES_OF_TWO_MAX + 1):
                smiles = MOLECULES[a], MOLECULES[b]
                charge = n * composition_of(smiles[0])[1] + m * composition_of(smiles[1])[1]
                both = _sum(formula(smiles[0], n), formula(smiles[1], m))
                small = min(_n_heavy(s) for s in smiles) <= LARGEST_PARTNER
                if a != b and small and charge == 0 and _same(both, counted):
                    pairs.append(Proposal((a, b), smiles, (n, m)))
    return pairs


def fragments_for(contents: dict[str, float]) -> list[tuple[str, Molecule]]:
    """Fragments without hydrogens that the asymmetric unit has room for, the largest first.

    Parameters
    ----------
    contents : dict of str to float
        Element -> atoms in the asymmetric unit.
    """
    heavy = {e: n for e, n in contents.items() if e not in ("H", "D")}
    chosen = []
    for name, smiles in FRAGMENTS.items():
        needed = {e: n for e, n in composition_of(smiles)[0].items() if e != "H"}
        if _fits(needed, heavy):
            (molecule,) = read_molecules(smiles)
            chosen.append((name, without_hydrogens(molecule)))
    return sorted(chosen, key=lambda item: -len(item[1].elements))


def without_hydrogens(molecule: Molecule) -> Molecule:
    """The molecule without its hydrogens and what concerns them alone."""
    number = {int(i): k for k, i in enumerate(molecule.heavy)}

    def kept(atoms):
        return tuple(number[i] for i in atoms if i in number)

    return replace(
        molecule,
        elements=tuple(molecule.elements[i] for i in molecule.heavy),
        bonds=np.array(
            [kept(bond) for bond in molecule.bonds.tolist() if len(kept(bond)) == 2], dtype=int
        ).reshape(-1, 2),
        conformers=molecule.conformers[:, molecule.heavy],
        foldings=molecule.foldings[:, molecule.heavy],
        torsions=tuple(
            replace(t, axis=kept(t.axis), moving=kept(t.moving)) for t in molecule.torsions
        ),
        hydrogen_torsions=(),
        rigid_groups=tuple(kept(group) for group in molecule.rigid_groups),
        stereocentres=(),
    )


def _n_heavy(smiles) -> int:
    return sum(n for e, n in composition_of(smiles)[0].items() if e != "H")


def _same(formula, contents) -> bool:
    elements = {*formula, *contents}
    return all(
        abs(formula.get(e, 0) - contents.get(e, 0)) <= COUNT_TOLERANCE * contents.get(e, 0) + 1e-6
        for e in elements
    )


def _fits(formula, contents) -> bool:
    return all(n <= contents.get(e, 0) * (1 + COUNT_TOLERANCE) + 1e-6 for e, n in formula.items())


def _sum(first, second) -> dict[str, float]:
    return {e: first.get(e, 0) + second.get(e, 0) for e in {*first, *second}}
