"""Makes the library of molecules that artificial crystals are built from.

Random SMILES of the project's own grammar become conformers with RDKit (ETKDG, Riniker & Landrum,
J. Chem. Inf. Model. 55 (2015) 2562; cleaned with MMFF94), in their symmetry frames; a share of
them is joined to symmetric dimers, and ligands to coordination compounds.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np

# cctbx must be loaded before RDKit, which importing this package does
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

from phai_cctbx.training.dimers import INVERSION, MIRROR, TWOFOLD, joined
from phai_cctbx.training.molecules import Kind, Molecule, in_symmetry_frame
from phai_cctbx.training.smiles_grammar import (
    SMALL_ANIONS,
    SMALL_CATIONS,
    SOLVENTS,
    MoleculeGrammar,
)

logger = logging.getLogger(__name__)

#: Shares of what the grammar is asked for.
SHARES = {Kind.NEUTRAL: 0.72, Kind.CATION: 0.10, Kind.ANION: 0.06, Kind.COMPLEX: 0.12}
#: Non-hydrogen atoms: log-normal, and the smallest and largest.
MEDIAN_SIZE, SIZE_SPREAD, SMALLEST, LARGEST = 17.0, 0.5, 4, 60
#: Share of neutral molecules that are made of two equal halves.
DIMER_SHARE = 0.25
#: Steps of the force field: enough to mend bond lengths, too few to fold the molecule up.
CLEANING_STEPS = 60
#: Conformers of every counter ion and solvent.
SMALL_COPIES = 2


def conformer(smiles: str, seed: int) -> tuple[np.ndarray, np.ndarray, int] | None:
    """Atomic numbers, coordinates (A) and charge of one conformer; None where RDKit finds none."""
    molecule = Chem.MolFromSmiles(smiles)
    if molecule is None:
        return None
    charge = Chem.GetFormalCharge(molecule)
    molecule = Chem.AddHs(molecule)
    parameters = rdDistGeom.ETKDGv3()
    parameters.randomSeed = seed
    parameters.maxIterations = 5
    if molecule.GetNumAtoms() > 1:
        if rdDistGeom.EmbedMolecule(molecule, parameters) != 0:
            parameters.useRandomCoords = True
            if rdDistGeom.EmbedMolecule(molecule, parameters) != 0:
                return None
        if rdForceFieldHelpers.MMFFHasAllMoleculeParams(molecule):
            rdForceFieldHelpers.MMFFOptimizeMolecule(molecule, maxIters=CLEANING_STEPS)
        coordinates = molecule.GetConformer().GetPositions()
    else:
        coordinates = np.zeros((1, 3))
    numbers = np.array([atom.GetAtomicNum() for atom in molecule.GetAtoms()])
    return numbers, coordinates, charge


def framed(numbers: np.ndarray, coordinates: np.ndarray, kind: Kind, charge: int) -> Molecule:
    """A library molecule from raw coordinates."""
    coordinates, operations = in_symmetry_frame(numbers, coordinates)
    return Molecule(numbers, coordinates, operations, kind, charge)


def small_molecules() -> Iterator[Molecule]:
    """Counter ions and solvents."""
    for kind, table in (
        (Kind.SMALL_CATION, SMALL_CATIONS),
        (Kind.SMALL_ANION, SMALL_ANIONS),
        (Kind.SOLVENT, SOLVENTS),
    ):
        for smiles in table:
            for copy in range(SMALL_COPIES):
                made = conformer(smiles, seed=copy + 1)
                if made is None:
                    raise RuntimeError(f"no conformer of {smiles}")
                yield framed(*made[:2], kind, made[2])


def random_molecule(grammar: MoleculeGrammar, kind: Kind) -> Molecule | None:
    """One molecule of a kind; None where the attempt failed."""
    rng = grammar.rng
    size = int(np.clip(rng.lognormal(np.log(MEDIAN_SIZE), SIZE_SPREAD), SMALLEST, LARGEST))
    dimer = kind == Kind.NEUTRAL and rng.random() < DIMER_SHARE
    if kind == Kind.NEUTRAL:
        smiles = grammar.neutral(max(SMALLEST, size // 2) if dimer else size)
    else:
        smiles = grammar.ion(size, 1 if kind == Kind.CATION else -1)
    made = conformer(smiles, seed=int(rng.integers(1, 2**31)))
    if made is None:
        return None
    numbers, coordinates, charge = made
    if dimer:
        operation = int(rng.choice((INVERSION, INVERSION, TWOFOLD, MIRROR)))
        both = joined(numbers, coordinates, operation, rng)
        if both is None:
            return None
        numbers, coordinates = both
    if not SMALLEST <= (numbers > 1).sum() <= LARGEST:
        return None
    return framed(numbers, coordinates, kind, charge)
