"""Makes the library of molecules that artificial crystals are built from.

Random SMILES of the project's own grammar become conformers with RDKit (ETKDG, Riniker & Landrum,
J. Chem. Inf. Model. 55 (2015) 2562; cleaned with MMFF94), in their symmetry frames; a share of
them is joined to symmetric dimers, and ligands to coordination compounds.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# cctbx must be loaded before RDKit, which importing this package does
from rdkit import Chem, DistanceGeometry, rdBase
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers
from tqdm import tqdm

# cctbx
from libtbx.program_template import ProgramTemplate
from libtbx.utils import Sorry

from phai_cctbx.programs.command import log_to
from phai_cctbx.training.coordination import LARGEST_BITE, POLYHEDRA, ComplexBuilder, Ligand
from phai_cctbx.training.dimers import INVERSION, MIRROR, TWOFOLD, joined
from phai_cctbx.training.elements import ATOMIC_NUMBERS
from phai_cctbx.training.molecules import Kind, Molecule, in_symmetry_frame, write_library
from phai_cctbx.training.smiles_grammar import (
    CHIRAL_SHARE,
    MINERAL_ANIONS,
    MINERAL_CATIONS,
    SMALL_ANIONS,
    SMALL_CATIONS,
    SOLVENTS,
    MoleculeGrammar,
)
from phai_cctbx.version import __version__

logger = logging.getLogger(__name__)

MASTER_PHIL = f"""
library = molecules.npz
  .type = path
  .help = File to write
n = 12000
  .type = int(value_min=1)
  .help = Molecules to make, besides counter ions and solvents
seed = 1
  .type = int(value_min=0)
  .help = Seed of all random numbers
chiral_share = {CHIRAL_SHARE}
  .type = float(value_min=0, value_max=1)
  .help = Amino acids, peptides and sugars among the neutral molecules
"""

#: Shares of what the grammar is asked for.
SHARES = {Kind.NEUTRAL: 0.72, Kind.CATION: 0.10, Kind.ANION: 0.06, Kind.COMPLEX: 0.12}
#: Non-hydrogen atoms: log-normal, and the smallest and largest.
MEDIAN_SIZE, SIZE_SPREAD, SMALLEST, LARGEST = 17.0, 0.5, 4, 60
#: Share of neutral molecules that are made of two equal halves.
DIMER_SHARE = 0.25
#: Donors of a chelate are at least this far apart, A; complexes have at most this charge.
SHORTEST_BITE, LARGEST_CHARGE = 2.15, 3
#: Steps of the force field: enough to mend bond lengths, too few to fold the molecule up.
CLEANING_STEPS = 60
#: Bond lengths of the common hexafluoride anions, A (Allen et al., Perkin Trans. 2 (1987) S1).
HEXAFLUORIDES = {"P": 1.58, "As": 1.70, "Sb": 1.86}
#: Ligands that one library has at most.
LARGEST_LIGAND_SET = 500
#: Conformers of every counter ion and solvent.
SMALL_COPIES = 2


@dataclass(frozen=True, eq=False)
class Conformer:
    """One conformer: atoms, A, total charge, and the atoms that carried atom maps, in order."""

    atomic_numbers: np.ndarray
    coordinates: np.ndarray
    charge: int
    mapped: tuple[int, ...]


def conformer(smiles: str, seed: int) -> Conformer | None:
    """A random conformer of a molecule; None where RDKit finds none.

    Two mapped atoms are the donors of a chelate and come close enough to bind one metal.
    """
    molecule = Chem.MolFromSmiles(smiles)
    if molecule is None:
        return None
    charge = Chem.GetFormalCharge(molecule)
    molecule = Chem.AddHs(molecule)
    maps = {a.GetAtomMapNum(): a.GetIdx() for a in molecule.GetAtoms() if a.GetAtomMapNum()}
    mapped = tuple(maps[number] for number in sorted(maps))
    for atom in molecule.GetAtoms():
        atom.SetAtomMapNum(0)
    if molecule.GetNumAtoms() > 1:
        if not _embed(molecule, seed, mapped if len(mapped) == 2 else ()):
            return None
        coordinates = molecule.GetConformer().GetPositions()
    else:
        coordinates = np.zeros((1, 3))
    numbers = np.array([atom.GetAtomicNum() for atom in molecule.GetAtoms()])
    return Conformer(numbers, coordinates, charge, mapped)


def _embed(molecule: Chem.Mol, seed: int, chelating: tuple[int, ...]) -> bool:
    """Give a molecule a conformer, cleaned by the force field unless it holds a bite open."""
    parameters = rdDistGeom.ETKDGv3()
    parameters.randomSeed = seed
    parameters.maxIterations = 5
    if chelating:
        bounds = rdDistGeom.GetMoleculeBoundsMatrix(molecule)
        low, high = sorted(chelating)
        bounds[low, high] = min(bounds[low, high], LARGEST_BITE)
        bounds[high, low] = min(bounds[high, low], SHORTEST_BITE)
        DistanceGeometry.DoTriangleSmoothing(bounds)
        parameters.SetBoundsMat(bounds)
        parameters.useExpTorsionAnglePrefs = False
    if rdDistGeom.EmbedMolecule(molecule, parameters) != 0:
        parameters.useRandomCoords = True
        if rdDistGeom.EmbedMolecule(molecule, parameters) != 0:
            return False
    if not chelating and rdForceFieldHelpers.MMFFHasAllMoleculeParams(molecule):
        rdForceFieldHelpers.MMFFOptimizeMolecule(molecule, maxIters=CLEANING_STEPS)
    return True


def ligands(grammar: MoleculeGrammar, n: int) -> list[Ligand]:
    """Random ligands; chelates only with a bite that fits a metal."""
    made: list[Ligand] = []
    while len(made) < n:
        found = conformer(grammar.ligand(), seed=int(grammar.rng.integers(1, 2**31)))
        if found is None:
            continue
        donors = found.coordinates[list(found.mapped)]
        if len(donors) == 2 and np.linalg.norm(donors[1] - donors[0]) > LARGEST_BITE:
            continue
        made.append(Ligand(found.atomic_numbers, found.coordinates, found.mapped, found.charge))
    return made


def framed(numbers: np.ndarray, coordinates: np.ndarray, kind: Kind, charge: int) -> Molecule:
    """A library molecule from raw coordinates."""
    coordinates, operations = in_symmetry_frame(numbers, coordinates)
    return Molecule(numbers, coordinates, operations, kind, charge)


def hexafluorides() -> Iterator[Molecule]:
    """Octahedral anions, which distance geometry does not make."""
    for symbol, length in HEXAFLUORIDES.items():
        numbers = np.array([ATOMIC_NUMBERS[symbol]] + [ATOMIC_NUMBERS["F"]] * 6)
        coordinates = np.concatenate([np.zeros((1, 3)), length * POLYHEDRA["octahedron"]])
        yield framed(numbers, coordinates, Kind.SMALL_ANION, -1)


def small_molecules() -> Iterator[Molecule]:
    """Counter ions and solvents."""
    yield from hexafluorides()
    for kind, table in (
        (Kind.SMALL_CATION, SMALL_CATIONS + MINERAL_CATIONS),
        (Kind.SMALL_ANION, SMALL_ANIONS + MINERAL_ANIONS),
        (Kind.SOLVENT, SOLVENTS),
    ):
        for smiles in table:
            for copy in range(SMALL_COPIES):
                made = conformer(smiles, seed=copy + 1)
                if made is None:
                    raise RuntimeError(f"no conformer of {smiles}")
                yield framed(made.atomic_numbers, made.coordinates, kind, made.charge)


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
    numbers, coordinates = made.atomic_numbers, made.coordinates
    if dimer:
        operation = int(rng.choice((INVERSION, INVERSION, TWOFOLD, MIRROR)))
        both = joined(numbers, coordinates, operation, rng)
        if both is None:
            return None
        numbers, coordinates = both
    if not SMALLEST <= (numbers > 1).sum() <= LARGEST:
        return None
    return framed(numbers, coordinates, kind, made.charge)


def random_complex(builder: ComplexBuilder) -> Molecule | None:
    """One coordination compound; None where the attempt failed."""
    built = builder.build()
    if built is None:
        return None
    numbers, coordinates, charge = built
    if not SMALLEST <= (numbers > 1).sum() <= LARGEST or abs(charge) > LARGEST_CHARGE:
        return None
    return framed(numbers, coordinates, Kind.COMPLEX, charge)


def library(n: int, seed: int, chiral_share: float = CHIRAL_SHARE) -> Iterator[Molecule]:
    """Counter ions and solvents, then `n` random molecules, reproducibly."""
    rng = np.random.default_rng(seed)
    grammar = MoleculeGrammar(rng, chiral_share)
    yield from small_molecules()
    builder = ComplexBuilder(ligands(grammar, n_ligands(n)), rng)
    kinds, shares = list(SHARES), list(SHARES.values())
    n_made = n_failed = 0
    while n_made < n:
        kind = kinds[rng.choice(len(kinds), p=shares)]
        if kind == Kind.COMPLEX:
            molecule = random_complex(builder)
        else:
            molecule = random_molecule(grammar, kind)
        if molecule is None:
            n_failed += 1
            continue
        n_made += 1
        yield molecule
    logger.info("%d attempts failed", n_failed)


def n_ligands(n: int) -> int:
    """Ligands for the complexes of a library of n molecules."""
    return int(np.clip(n // 20, 40, LARGEST_LIGAND_SET))


class Program(ProgramTemplate):
    """Makes a library of molecules."""

    program_name = "phai_cctbx.molecule_library"
    version = __version__
    description = """
Makes the library of molecules that artificial crystals are built from.

  phai_cctbx.molecule_library molecules.npz n=12000 seed=1
"""
    datatypes = ["phil"]
    master_phil_str = MASTER_PHIL

    @staticmethod
    def file_parameters(arguments):
        """A file among the arguments is the one to write."""
        if len(arguments) > 1:
            raise Sorry(f"one file to write is expected, found {' '.join(arguments)}")
        return {"library": arguments[0]} if arguments else {}

    def validate(self):
        """A library needs a place to go."""
        folder = Path(self.params.library).absolute().parent
        if not folder.is_dir():
            raise Sorry(f"library={self.params.library}: the folder {folder} does not exist")

    def run(self):
        """Write the library."""
        with log_to(self.logger), rdBase.BlockLogs():
            n, seed, share = self.params.n, self.params.seed, self.params.chiral_share
            molecules = list(tqdm(library(n, seed, share), total=n, disable=None))
            write_library(self.params.library, molecules)
            logger.info("%s: %d molecules, seed %d", self.params.library, len(molecules), seed)

    def get_results(self):
        """Nothing but the file."""
        return None
