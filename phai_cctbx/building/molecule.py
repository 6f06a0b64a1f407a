"""A molecule as the chemist knows it: atoms, bonds, conformers, and how exact its geometry is.

Conformers are embedded with RDKit's knowledge-based distance geometry (ETKDG; Wang, Witek,
Landrum & Riniker, J. Chem. Inf. Model. 60, 2044, 2020) and relaxed with MMFF94 (Halgren, J. Comput.
Chem. 17, 490, 1996) or, where it lacks parameters, UFF (Rappe et al., JACS 114, 10024, 1992).
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

# cctbx
import iotbx.cif
from libtbx.utils import Sorry

from phai_cctbx.building.connectivity import bonds as crystal_bonds
from phai_cctbx.building.connectivity import element_of, fragments

logger = logging.getLogger(__name__)

FILE_SUFFIXES = (".mol", ".sdf", ".xyz", ".cif", ".smi", ".txt")
"""What a molecule may be read from, besides SMILES and InChI."""

BOND_SIGMA = 0.014
"""Standard deviation (A) of MMFF94 bond lengths from crystal structures (Halgren, 1996, p. 490)."""

ANGLE_SIGMA = 1.2
"""The same for bond angles, degrees."""

RIGID_SIGMA = 0.04
"""Standard deviation (A) of distances between atoms 1,4 and further within a rigid ring system."""

N_EMBEDDED_PER_TORSION, N_EMBEDDED_MAX = 10, 60
"""Embedded conformers per rotatable bond (one share at least), and their largest number."""

MIN_RING_TORSION = 20.0
"""Torsions within saturated rings that are smaller (degrees) have no sign: half of those of the
flattest envelope. Conformers whose rings differ in a sign are folded differently."""

N_FOLDS_MAX = 16
"""Foldings of the rings that are tried in a placement, those of lowest energy first."""

MIN_CONFORMER_DISTANCE = 0.45
"""Conformers closer than this (A, root mean square of non-hydrogen atoms) are one."""

N_CONFORMERS_MAX = 24
"""Conformers kept, those of lowest energy first."""

RELAXATION_STEPS = 200
"""Largest number of force-field steps; what remains then is below the accuracy of the field."""

TORSION_FREEDOM, TORSION_FORCE = 10.0, 100.0
"""Degrees that a rotatable bond may relax, and the force constant (kcal/mol/rad^2) beyond: the
embedding knows torsions of crystals, the field would fold the molecule onto itself."""

SOLVENT_DIELECTRIC = 80.0
"""Dielectric constant: in a crystal, charges are screened by their neighbours, not by a fold."""

CLEAR_DISTANCE = 2.8
"""Non-hydrogen atoms four or more bonds apart do not collide beyond this, A."""

OCCUPANCY_OF_MAJOR_PART = 0.5
"""Atoms of a CIF below this occupancy are left out as minor parts of disorder."""


@dataclass(frozen=True)
class Torsion:
    """A rotatable bond: its two atoms, and the atoms that turn about it."""

    axis: tuple[int, int]
    moving: tuple[int, ...]


@dataclass(frozen=True)
class DistanceTargets:
    """Distances that the geometry of a molecule prescribes, non-hydrogen atoms only.

    Attributes
    ----------
    pairs : numpy.ndarray of int, shape (n, 2)
    distances, sigmas : numpy.ndarray, shape (n,)
        A.
    """

    pairs: np.ndarray
    distances: np.ndarray
    sigmas: np.ndarray


@dataclass(frozen=True, eq=False)
class Molecule:
    """One molecule or ion.

    Attributes
    ----------
    name : str
        SMILES.
    elements : tuple of str
        Hydrogens included.
    bonds : numpy.ndarray of int, shape (m, 2)
    conformers : numpy.ndarray, shape (k, n, 3)
        Cartesian coordinates, A, centred on the non-hydrogen atoms; lowest energy first.
    foldings : numpy.ndarray, shape (m, n, 3)
        One conformer for each way in which the saturated rings are folded, lowest energy first;
        none where there is one way alone.
    torsions : tuple of Torsion
        Rotatable bonds that move non-hydrogen atoms.
    hydrogen_torsions : tuple of Torsion
        Rotatable bonds that move hydrogens alone: methyl, hydroxyl, ammonium.
    rigid_groups : tuple of tuple of int
        Ring systems and double bonds with their substituents: atoms that keep their distances.
    stereocentres : tuple of (int, str)
        Atom and CIP label, those left open included as "?".
    charge : int
    """

    name: str
    elements: tuple[str, ...]
    bonds: np.ndarray
    conformers: np.ndarray
    foldings: np.ndarray
    torsions: tuple[Torsion, ...]
    hydrogen_torsions: tuple[Torsion, ...]
    rigid_groups: tuple[tuple[int, ...], ...]
    stereocentres: tuple[tuple[int, str], ...]
    charge: int

    @cached_property
    def heavy(self) -> np.ndarray:
        """Numbers of the atoms other than hydrogen."""
        return np.array([i for i, element in enumerate(self.elements) if element != "H"])

    @cached_property
    def neighbours(self) -> tuple[tuple[int, ...], ...]:
        """Bonded atoms of each atom."""
        lists: list[list[int]] = [[] for _ in self.elements]
        for i, j in self.bonds:
            lists[i].append(int(j))
            lists[j].append(int(i))
        return tuple(tuple(entry) for entry in lists)

    @property
    def radius(self) -> float:
        """Root mean square distance (A) of the non-hydrogen atoms from their centre."""
        heavy = self.conformers[0][self.heavy]
        return float(np.sqrt((heavy**2).sum(axis=1).mean()))

    @property
    def composition(self) -> dict[str, int]:
        """Element -> number of atoms."""
        return {element: self.elements.count(element) for element in sorted(set(self.elements))}

    def distance_targets(self, coordinates: np.ndarray) -> DistanceTargets:
        """Bonds, angles (as 1,3 distances) and rigid groups of one conformer.

        Estimated deviations: `BOND_SIGMA`; of a 1,3 distance d the sum of the squares of
        (b1 + b2) / d * `BOND_SIGMA` / sqrt(2) and b1 b2 sin(angle) / d * `ANGLE_SIGMA`;
        `RIGID_SIGMA` within rigid groups.

        Parameters
        ----------
        coordinates : numpy.ndarray, shape (n, 3)
            A; a relaxed conformer.
        """
        is_heavy = np.array([element != "H" for element in self.elements])
        sigmas: dict[tuple[int, int], float] = {}
        for i, j in self.bonds:
            if is_heavy[i] and is_heavy[j]:
                sigmas[min(i, j), max(i, j)] = BOND_SIGMA
        for centre, around in enumerate(self.neighbours):
            ends = [i for i in around if is_heavy[i]]
            for k, i in enumerate(ends):
                for j in ends[k + 1 :]:
                    b1, b2, d = (
                        np.linalg.norm(coordinates[a] - coordinates[b])
                        for a, b in ((i, centre), (j, centre), (i, j))
                    )
                    cosine = (b1**2 + b2**2 - d**2) / (2 * b1 * b2)
                    along = (b1 + b2) / d * BOND_SIGMA / np.sqrt(2)
                    across = b1 * b2 / d * np.sqrt(max(1 - cosine**2, 0)) * np.radians(ANGLE_SIGMA)
                    sigmas.setdefault((min(i, j), max(i, j)), float(np.hypot(along, across)))
        for group in self.rigid_groups:
            for k, i in enumerate(group):
                for j in group[k + 1 :]:
                    sigmas.setdefault((min(i, j), max(i, j)), RIGID_SIGMA)
        pairs = np.array(sorted(sigmas), dtype=int).reshape(-1, 2)
        return DistanceTargets(
            pairs,
            np.linalg.norm(coordinates[pairs[:, 0]] - coordinates[pairs[:, 1]], axis=1),
            np.array([sigmas[tuple(pair)] for pair in pairs]),
        )

    def with_random_torsions(self, n: int, seed: int = 0) -> Molecule:
        """The molecule with `n` conformers whose rotatable bonds point anywhere.

        Conformers whose atoms collide are left out where enough others are found.
        """
        if not self.torsions:
            return self
        rng = np.random.default_rng(seed)
        bonded = np.zeros((len(self.elements),) * 2, dtype=bool)
        for i, around in enumerate(self.neighbours):
            bonded[i, [i, *around]] = True
            for j in around:
                bonded[i, list(self.neighbours[j])] = True
        found = []
        for _ in range(10 * n):
            sites = self.conformers[rng.integers(len(self.conformers))].copy()
            for torsion in self.torsions:
                turn(sites, torsion, rng.uniform(-np.pi, np.pi))
            distance = np.linalg.norm(sites[:, None] - sites[None], axis=-1)
            closest = np.where(bonded, np.inf, distance)[np.ix_(self.heavy, self.heavy)].min()
            found.append((min(closest, CLEAR_DISTANCE), sites - sites[self.heavy].mean(axis=0)))
            if sum(clear == CLEAR_DISTANCE for clear, _ in found) == n:
                break
        found.sort(key=lambda item: -item[0])
        return replace(self, conformers=np.array([sites for _, sites in found[:n]]))

    def laid_over(self, conformer: np.ndarray, sites: np.ndarray, turned: bool) -> np.ndarray:
        """A conformer moved onto the sites of a molecule that is placed.

        Parameters
        ----------
        conformer, sites : numpy.ndarray, shape (n, 3)
            A.
        turned : bool
            Whether rotatable bonds are turned to the torsions of `sites` first.
        """
        moved = conformer.copy()
        for torsion in self.torsions if turned else ():
            j, k = torsion.axis
            first = next(i for i in self.neighbours[j] if i != k)
            last = next(i for i in self.neighbours[k] if i != j)
            wanted, own = (torsion_angle(*(x[[first, j, k, last]])) for x in (sites, moved))
            turn(moved, torsion, wanted - own)
        heavy = self.heavy
        centre = sites[heavy].mean(axis=0)
        moved -= moved[heavy].mean(axis=0)
        rotation, _ = Rotation.align_vectors(sites[heavy] - centre, moved[heavy])
        return rotation.apply(moved) + centre

    def chiral_volumes(self, coordinates: np.ndarray) -> dict[int, float]:
        """Signed volume (A^3) at every stereocentre; a change of sign is a change of hand."""
        volumes = {}
        for atom, _ in self.stereocentres:
            a, b, c = (
                coordinates[i] - coordinates[atom] for i in sorted(self.neighbours[atom])[:3]
            )
            volumes[atom] = float(np.dot(a, np.cross(b, c)))
        return volumes


def turn(sites: np.ndarray, torsion: Torsion, angle: float) -> None:
    """Turn the moving atoms of a torsion in place, by an angle in radians."""
    j, k = torsion.axis
    axis = sites[k] - sites[j]
    rotation = rotation_matrix(angle / np.sqrt(axis @ axis) * axis)
    moving = list(torsion.moving)
    sites[moving] = (sites[moving] - sites[k]) @ rotation.T + sites[k]


def rotation_matrix(vector: np.ndarray) -> np.ndarray:
    """Matrix of a rotation vector (radians), by the formula of Rodrigues; shape (3, 3)."""
    angle = math.sqrt(vector @ vector)
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = (vector / angle).tolist()
    c, s = math.cos(angle), math.sin(angle)
    t = 1 - c
    return np.array(
        [
            [t * x * x + c, t * x * y - s * z, t * x * z + s * y],
            [t * x * y + s * z, t * y * y + c, t * y * z - s * x],
            [t * x * z - s * y, t * y * z + s * x, t * z * z + c],
        ]
    )


def read_molecules(source, seed: int = 0) -> list[Molecule]:
    """The molecules of a SMILES, an InChI or a file, one for each component.

    Parameters
    ----------
    source : str or path-like
        SMILES (components apart by a dot), InChI, or the name of a .mol, .sdf, .xyz or .cif file,
        or of a .smi or .txt file with a SMILES on its first line. A .cif counts with all its
        molecules, hydrogens included.
    seed : int
        Of the conformers.

    Raises
    ------
    libtbx.utils.Sorry
        If RDKit is not installed or `source` is not a molecule it can build.
    """
    text = str(source).strip()
    _chem()
    mols = _read_file(Path(text)) if _names_a_file(text) else [_from_text(text, text)]
    components = [part for mol in mols for part in _chem().GetMolFrags(mol, asMols=True)]
    if not components:
        raise Sorry(f"molecule={text}: no atoms.")
    return [_molecule(mol, text, seed) for mol in components]


def _chem():
    """RDKit's Chem; the package has loaded Boost of cctbx before."""
    try:
        from rdkit import Chem, RDLogger
    except ImportError as error:
        raise Sorry("molecule= needs RDKit: pip install 'phai_cctbx[molecule]'.") from error
    RDLogger.DisableLog("rdApp.*")
    return Chem


def _names_a_file(text):
    return Path(text).suffix.lower() in FILE_SUFFIXES or (len(text) < 255 and Path(text).is_file())


def _from_text(text, name):
    chem = _chem()
    if text.startswith("InChI="):
        mol, kind = chem.MolFromInchi(text), "InChI"
    else:
        mol, kind = chem.MolFromSmiles(text), "SMILES"
    if mol is None or mol.GetNumAtoms() == 0:
        raise Sorry(f"molecule={name}: not a {kind} that RDKit can read, nor the name of a file.")
    return chem.AddHs(mol)


def _read_file(path):
    """RDKit molecules of a file, hydrogens and coordinates included where it has them."""
    chem = _chem()
    suffix = path.suffix.lower()
    if not path.is_file():
        raise Sorry(f"molecule={path}: no such file.")
    if suffix == ".cif":
        return [_with_bonds(block, path) for block in _cif_blocks(path)]
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Sorry(f"molecule={path}: not a readable text file ({error}).") from error
    if suffix == ".xyz":
        return [_with_bonds(text, path)]
    if suffix in (".mol", ".sdf"):
        blocks = [block for block in text.split("$$$$") if block.strip()]
        if len(blocks) != 1:
            raise Sorry(f"molecule={path}: {len(blocks)} molecules in it, one is expected.")
        mol = chem.MolFromMolBlock(blocks[0], removeHs=False)
        if mol is None:
            raise Sorry(f"molecule={path}: not a MOL block that RDKit can read.")
        if mol.GetConformer().Is3D():
            chem.AssignStereochemistryFrom3D(mol)
            return [chem.AddHs(mol, addCoords=True)]
        return [chem.AddHs(mol)]
    words = text.split()
    if not words:
        raise Sorry(f"molecule={path}: empty, a SMILES was expected on its first line.")
    return [_from_text(words[0], f"{path}, line 1, {words[0]}")]


def _cif_blocks(path):
    """XYZ text of each different molecule in a CIF, put together over symmetry."""
    try:
        structures = iotbx.cif.reader(file_path=str(path)).build_crystal_structures()
    except Exception as error:  # any of many types, all of them the file's fault
        raise Sorry(f"molecule={path}: not a readable model CIF ({error}).") from error
    structure = next((s for s in structures.values() if s.scatterers().size()), None)
    if structure is None:
        raise Sorry(f"molecule={path}: no atoms with coordinates in this CIF.")
    major = structure.select(structure.scatterers().extract_occupancies() > OCCUPANCY_OF_MAJOR_PART)
    blocks = []
    near = crystal_bonds(major)
    for fragment in fragments(near):
        atoms = _grown(major, near, *fragment[0])
        lines = [f"{element} {x:.5f} {y:.5f} {z:.5f}" for element, (x, y, z) in atoms]
        blocks.append("\n".join([str(len(atoms)), "", *lines, ""]))
    return blocks


def _grown(structure, near, start, operator):
    """Elements and Cartesian sites of the whole molecule of one scatterer."""
    scatterers, unit_cell = structure.scatterers(), structure.unit_cell()
    waiting, found = [(start, operator)], {}
    while waiting:
        i, operator = waiting.pop()
        site = operator * scatterers[i].site
        key = (i, *(round(x, 2) for x in site))
        if key in found:
            continue
        if len(found) > 2 * len(near) * structure.space_group().order_z():
            raise Sorry("The structure in the CIF is a polymer, not a molecule.")
        found[key] = (element_of(scatterers[i]).replace("D", "H"), unit_cell.orthogonalize(site))
        waiting += [(n.index, operator.multiply(n.operator)) for n in near[i]]
    return list(found.values())


def _with_bonds(block, path):
    from rdkit.Chem import rdDetermineBonds

    chem = _chem()
    mol = chem.MolFromXYZBlock(block)
    if mol is None:
        raise Sorry(f"molecule={path}: not XYZ coordinates that RDKit can read.")
    for charge in (0, 1, -1, 2, -2):
        trial = chem.Mol(mol)
        try:
            rdDetermineBonds.DetermineBonds(trial, charge=charge)
        except ValueError:
            continue
        chem.AssignStereochemistryFrom3D(trial)
        return trial
    raise Sorry(
        f"molecule={path}: RDKit finds no bond orders for these atoms (are all hydrogens there?)."
        " Give a SMILES."
    )


def _molecule(mol, name, seed) -> Molecule:
    chem = _chem()
    smiles = chem.MolToSmiles(chem.RemoveHs(mol))
    elements = tuple(atom.GetSymbol() for atom in mol.GetAtoms())
    unknown = sorted({e for e in elements if chem.GetPeriodicTable().GetAtomicNumber(e) == 0})
    if unknown:
        raise Sorry(f"molecule={name}: {' '.join(unknown)} is no element.")
    if not any(element != "H" for element in elements):
        raise Sorry(f"molecule={name}: hydrogen alone cannot be placed.")
    torsions, hydrogen_torsions = _torsions(mol)
    conformers, foldings = _conformers(mol, len(torsions), name, seed)
    if mol.GetNumConformers() == 0:
        chem.AssignStereochemistry(mol, cleanIt=True, force=True)
    centres = chem.FindMolChiralCenters(mol, includeUnassigned=True, useLegacyImplementation=False)
    molecule = Molecule(
        name=smiles,
        elements=elements,
        bonds=np.array(
            [(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in mol.GetBonds()], dtype=int
        ).reshape(-1, 2),
        conformers=conformers,
        foldings=foldings,
        torsions=torsions,
        hydrogen_torsions=hydrogen_torsions,
        rigid_groups=_rigid_groups(mol),
        stereocentres=tuple((int(i), str(label)) for i, label in centres),
        charge=chem.GetFormalCharge(mol),
    )
    return molecule


def describe(molecule: Molecule) -> None:
    """Say in the log what a molecule is made of."""
    logger.info(
        "Molecule %s: %d non-hydrogen atoms, %d rotatable bonds, %d stereocentres, %d conformers,"
        " rings folded in %d ways",
        molecule.name,
        len(molecule.heavy),
        len(molecule.torsions),
        len(molecule.stereocentres),
        len(molecule.conformers),
        max(1, len(molecule.foldings)),
    )
    open_centres = sum(label == "?" for _, label in molecule.stereocentres)
    if open_centres:
        logger.info("%d stereocentres are left open: conformers of every hand.", open_centres)


def _torsions(mol):
    """Single bonds outside rings that turn something, those of hydrogens apart."""
    chem = _chem()
    linear = chem.MolFromSmarts("[$(*#*)]")
    amide = chem.MolFromSmarts("[CX3](=[O,S,N])-[NX3;H1,H2,H0]")
    linear_atoms = {i for (i,) in mol.GetSubstructMatches(linear)}
    stiff = {frozenset((c, n)) for c, _, n in mol.GetSubstructMatches(amide)}
    heavy_torsions, hydrogen_torsions = [], []
    for bond in mol.GetBonds():
        j, k = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        if bond.IsInRing() or bond.GetBondType() != chem.BondType.SINGLE:
            continue
        if min(bond.GetBeginAtom().GetDegree(), bond.GetEndAtom().GetDegree()) < 2:
            continue
        if {j, k} & linear_atoms:
            continue
        side = _side(mol, j, k)
        if 2 * len(side) > mol.GetNumAtoms():
            j, k = k, j
            side = _side(mol, j, k)
        turning = [i for i in side if i != k]
        torsion = Torsion((j, k), tuple(turning))
        symbols = [mol.GetAtomWithIdx(i).GetAtomicNum() for i in turning]
        if all(number == 1 for number in symbols):
            if frozenset((j, k)) not in stiff:
                hydrogen_torsions.append(torsion)
            continue
        heavy_torsions.append(torsion)
    return tuple(heavy_torsions), tuple(hydrogen_torsions)


def _side(mol, j, k):
    """Atoms on the side of k when the bond j-k is cut."""
    seen, waiting = {j, k}, [k]
    while waiting:
        for neighbour in mol.GetAtomWithIdx(waiting.pop()).GetNeighbors():
            if neighbour.GetIdx() not in seen:
                seen.add(neighbour.GetIdx())
                waiting.append(neighbour.GetIdx())
    return sorted(seen - {j})


def _rigid_groups(mol):
    """Planar groups: aromatic ring systems and double bonds, each with what is bonded to it."""
    chem = _chem()
    flat = {
        atom.GetIdx()
        for atom in mol.GetAtoms()
        if atom.GetHybridization() == chem.HybridizationType.SP2
    }
    joined = [
        (b.GetBeginAtomIdx(), b.GetEndAtomIdx())
        for b in mol.GetBonds()
        if b.GetIsAromatic() or b.GetBondType() == chem.BondType.DOUBLE
    ]
    groups: list[set[int]] = []
    for i, j in joined:
        if i not in flat or j not in flat:
            continue
        touching = [group for group in groups if group & {i, j}]
        merged = {i, j}.union(*touching)
        groups = [group for group in groups if group not in touching] + [merged]
    result = []
    for group in groups:
        around = {
            n.GetIdx()
            for i in group
            for n in mol.GetAtomWithIdx(i).GetNeighbors()
            if n.GetAtomicNum() > 1
        }
        whole = tuple(sorted(group | around))
        if len(whole) > 3:
            result.append(whole)
    return tuple(result)


def _conformers(mol, n_torsions, name, seed):
    """Different conformers of low energy, shape (k, n, 3), and one of each folding of the rings."""
    n_atoms = mol.GetNumAtoms()
    heavy = [atom.GetIdx() for atom in mol.GetAtoms() if atom.GetAtomicNum() > 1]
    given = []
    if mol.GetNumConformers() and mol.GetConformer().Is3D():
        given = [np.array(mol.GetConformer().GetPositions())]
    if n_atoms == 1:
        return np.zeros((1, 1, 3)), np.zeros((0, 1, 3))
    flexible = _chem().Mol(mol)
    rings = _saturated_rings(mol)
    n_wanted = min(N_EMBEDDED_MAX, N_EMBEDDED_PER_TORSION * max(1, n_torsions + len(rings)))
    ids = _embed(flexible, n_wanted, seed)
    if not ids and not given:
        raise Sorry(f"molecule={name}: RDKit finds no three-dimensional structure for it.")
    embedded = [np.array(flexible.GetConformer(i).GetPositions()) for i in ids]
    apart = {*_different(embedded, heavy), *_folded_differently(embedded, rings)}
    for i in set(ids) - {ids[k] for k in apart}:
        flexible.RemoveConformer(i)
    energies = _relax(flexible, _torsions(mol)[0]) if ids else []
    relaxed = [np.array(c.GetPositions()) for c in flexible.GetConformers()]
    ordered = given + [relaxed[i] for i in np.argsort(energies, kind="stable")]
    centred = [sites - sites[heavy].mean(axis=0) for sites in ordered]
    chosen = np.array([centred[k] for k in _different(centred, heavy)])
    folds = _folded_differently(centred, rings)
    return chosen, np.array([centred[k] for k in folds if len(folds) > 1]).reshape(-1, n_atoms, 3)


def _embed(mol, n_wanted, seed) -> list[int]:
    """Numbers of the conformers that are embedded; none where no way of it succeeds.

    Distance geometry begins anew from random coordinates, then without the torsions of small
    rings, where it finds nothing or RDKit gives up a minimisation.
    """
    from rdkit.Chem import rdDistGeom

    for random, small_rings in ((False, True), (True, True), (True, False)):
        parameters = rdDistGeom.ETKDGv3()
        parameters.randomSeed = seed + 1
        parameters.useSmallRingTorsions = small_rings
        parameters.useRandomCoords = random
        try:
            ids = list(rdDistGeom.EmbedMultipleConfs(mol, n_wanted, parameters))
        except RuntimeError as error:
            logger.info("RDKit gave up an embedding: %s", " ".join(str(error).split())[:80])
            continue
        if ids:
            return ids
    return []


def _different(conformers, heavy):
    """Numbers of the first conformers that differ from all before them."""
    chosen: list[int] = []
    for i, sites in enumerate(conformers):
        if all(
            superposition_rmsd(sites[heavy], conformers[k][heavy]) > MIN_CONFORMER_DISTANCE
            for k in chosen
        ):
            chosen.append(i)
        if len(chosen) == N_CONFORMERS_MAX:
            break
    return chosen


def _folded_differently(conformers, rings):
    """Numbers of the first conformers whose rings are folded unlike those of all before them."""
    chosen, seen = [], set()
    for i, sites in enumerate(conformers):
        folding = tuple(sign for ring in rings for sign in _folding(sites, ring))
        if folding not in seen:
            seen.add(folding)
            chosen.append(i)
        if len(chosen) == N_FOLDS_MAX:
            break
    return chosen


def _folding(sites, ring):
    """Signs of the torsions of a ring, 0 where one is small."""
    around = [sites[list(np.roll(ring, -shift))] for shift in range(4)]
    torsions = [torsion_angle(*quartet) for quartet in zip(*around, strict=True)]
    return [0 if abs(t) < np.radians(MIN_RING_TORSION) else int(np.sign(t)) for t in torsions]


def torsion_angle(a, b, c, d) -> float:
    """Torsion angle a-b-c-d, radians, clockwise positive.

    Parameters
    ----------
    a, b, c, d : numpy.ndarray, shape (3,)
        Cartesian sites, A.
    """
    axis = (c - b) / np.linalg.norm(c - b)
    first, last = a - b, d - c
    first = first - (first @ axis) * axis
    last = last - (last @ axis) * axis
    return float(np.arctan2(np.cross(axis, first) @ last, first @ last))


def _saturated_rings(mol):
    """Rings with at least three tetrahedral atoms: they can fold."""
    chem = _chem()
    return [
        ring
        for ring in mol.GetRingInfo().AtomRings()
        if sum(mol.GetAtomWithIdx(i).GetHybridization() == chem.HybridizationType.SP3 for i in ring)
        > 2
        and len(ring) > 3
    ]


def _relax(mol, torsions):
    """Relax all conformers in place, torsions near what they are; energies, kcal/mol."""
    from rdkit.Chem import rdForceFieldHelpers as fields

    properties = fields.MMFFGetMoleculeProperties(mol)
    if properties is not None:
        properties.SetMMFFDielectricConstant(SOLVENT_DIELECTRIC)
    elif not fields.UFFHasAllMoleculeParams(mol):
        logger.warning("No force field for this molecule: distances as embedded.")
        return [0.0] * mol.GetNumConformers()
    energies = []
    for conformer in mol.GetConformers():
        i = conformer.GetId()
        if properties is None:
            field = fields.UFFGetMoleculeForceField(mol, confId=i)
            constrain = field.UFFAddTorsionConstraint
        else:
            field = fields.MMFFGetMoleculeForceField(mol, properties, confId=i)
            constrain = field.MMFFAddTorsionConstraint
        for torsion in torsions:
            j, k = torsion.axis
            first = next(n for n in _neighbours(mol, j) if n != k)
            last = next(n for n in _neighbours(mol, k) if n != j)
            constrain(first, j, k, last, True, -TORSION_FREEDOM, TORSION_FREEDOM, TORSION_FORCE)
        field.Minimize(maxIts=RELAXATION_STEPS)
        energies.append(field.CalcEnergy())
    return energies


def _neighbours(mol, i):
    return [neighbour.GetIdx() for neighbour in mol.GetAtomWithIdx(i).GetNeighbors()]


def superposition_rmsd(sites: np.ndarray, reference: np.ndarray) -> float:
    """Root mean square distance (A) after the best rotation (Kabsch, Acta Cryst. A32, 922, 1976).

    Parameters
    ----------
    sites, reference : numpy.ndarray, shape (n, 3)
        Atom by atom, same order.
    """
    a = sites - sites.mean(axis=0)
    b = reference - reference.mean(axis=0)
    values = np.linalg.svd(a.T @ b, compute_uv=False)
    if np.linalg.det(a.T @ b) < 0:
        values[-1] *= -1
    squared = (a**2).sum() + (b**2).sum() - 2 * values.sum()
    return float(np.sqrt(max(squared, 0.0) / len(a)))
