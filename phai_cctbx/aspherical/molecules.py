"""Whole molecules of a crystal structure, grown by symmetry, and the charges around them.

A molecule may contain a scatterer more than once (Z' = 1/2, atoms on special positions):
each member is a scatterer index with the operator that brings it there.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass

import numpy as np

# cctbx
from cctbx import sgtbx, xray
from cctbx.eltbx import tiny_pse
from libtbx.utils import Sorry

from phai_cctbx.aspherical.tables import site_rotations
from phai_cctbx.building.connectivity import atomic_number, bonds, element_of

logger = logging.getLogger(__name__)

SAME_PLACE = 0.05
"""Two members closer than this (A) are one atom."""

CLASH, CLASH_HYDROGEN = 0.95, 0.6
"""Atoms closer than this (A) exclude each other: without, and with hydrogen among them."""

MAX_ATOMS = 2000
"""Growth stops here: larger molecules are beyond a small-molecule refinement."""

MONATOMIC_CHARGES = {
    **dict.fromkeys("Li Na K Rb Cs Ag".split(), 1),
    **dict.fromkeys("Be Mg Ca Sr Ba Zn Cd".split(), 2),
    **dict.fromkeys("Al Sc Y La Ga In".split(), 3),
    **dict.fromkeys("F Cl Br I".split(), -1),
    **dict.fromkeys("O S Se".split(), -2),
}
"""Charges of atoms that stand alone: the only common oxidation state of the element."""

CHARGES_TRIED = (0, -1, 1, -2, 2, -3, 3)
"""Charges of a polyatomic molecule, tried in this order until the valences fit."""


@dataclass(frozen=True)
class Molecule:
    """One molecule of the crystal.

    Attributes
    ----------
    members : tuple of (int, cctbx.sgtbx.rt_mx)
        Scatterer and operator of every atom.
    numbers : numpy.ndarray, (n,)
        Atomic numbers.
    coordinates : numpy.ndarray, (n, 3), A
        Cartesian, in the convention of the unit cell's orthogonalization matrix.
    n_per_cell : int
    charge, multiplicity : int
    """

    members: tuple
    numbers: np.ndarray
    coordinates: np.ndarray
    n_per_cell: int
    charge: int = 0
    multiplicity: int = 1

    @property
    def formula(self) -> str:
        """Formula in the order C, H, then alphabetical."""
        return hill_formula(symbols_of(self.numbers))

    def name(self) -> str:
        """Formula and charge, for logs."""
        return f"{self.formula}{self.charge:+d}" if self.charge else self.formula


def symbols_of(numbers) -> list[str]:
    """Element symbols of atomic numbers."""
    return [tiny_pse.table(int(z)).symbol() for z in numbers]


def hill_formula(symbols) -> str:
    """Hill formula of a sequence of element symbols, without spaces."""
    counts = Counter(symbols)
    first = [e for e in ("C", "H") if e in counts and "C" in counts]
    order = first + sorted(set(counts) - set(first))
    return "".join(e + (str(counts[e]) if counts[e] > 1 else "") for e in order)


def operator_arrays(operator: sgtbx.rt_mx) -> tuple[np.ndarray, np.ndarray]:
    """Rotation (3, 3) and translation (3,) of an operator, acting on fractional columns."""
    return (
        np.array(operator.r().as_double()).reshape(3, 3),
        np.array(operator.t().as_double()),
    )


def orthogonalization(structure: xray.structure) -> np.ndarray:
    """Matrix (3, 3) from fractional coordinates to Cartesian A."""
    return np.array(structure.unit_cell().orthogonalization_matrix()).reshape(3, 3)


def grow_molecules(structure: xray.structure) -> list[Molecule]:
    """The molecules of a structure, complete, each kind once, largest first.

    Raises
    ------
    Sorry
        If bonds run through the whole crystal, or the molecule is too large.
    """
    neighbours = bonds(structure)
    sites = np.array(structure.sites_frac())
    matrix = orthogonalization(structure)
    seen: set[int] = set()
    molecules = []
    for start in range(len(sites)):
        if start in seen:
            continue
        members = grow(start, neighbours, structure)
        seen.update(i for i, _ in members)
        molecules.append(as_molecule(structure, members, sites, matrix))
    return sorted(molecules, key=lambda m: (-len(m.numbers), m.members[0][0]))


def grow(start: int, neighbours, structure: xray.structure) -> list:
    """Members of the molecule that contains a scatterer at its own place."""
    sites = structure.sites_frac()
    unit_cell = structure.unit_cell()
    members = [(start, sgtbx.rt_mx())]
    places = [np.array(sites[start])]
    for i, operator in members:
        for neighbour in neighbours[i]:
            image = operator.multiply(neighbour.operator)
            place = np.array(image * sites[neighbour.index])
            known = False
            for (j, _), other in zip(members, places, strict=True):
                if j != neighbour.index:
                    continue
                if unit_cell.distance(tuple(place), tuple(other)) < SAME_PLACE:
                    known = True
                    break
                shift = place - other
                if np.abs(shift - np.round(shift)).max() < 1e-4 and np.abs(shift).max() > 0.5:
                    label = structure.scatterers()[j].label
                    raise Sorry(
                        f"The bonds through {label} run through the whole crystal (a polymer): "
                        "there is no molecule to calculate. Refine it with scattering=iam or a "
                        "table of another program."
                    )
            if not known:
                members.append((neighbour.index, image))
                places.append(place)
                if len(members) > MAX_ATOMS:
                    raise Sorry(
                        f"A molecule of more than {MAX_ATOMS} atoms is too large to be "
                        "calculated. Refine it with scattering=iam."
                    )
    return members


def check_clashes(labels, numbers, coordinates) -> None:
    """Refuse atoms that cannot both be there: disorder that no PART describes."""
    distances = np.linalg.norm(coordinates[:, None] - coordinates[None], axis=2)
    hydrogen = numbers == 1
    limit = np.where(hydrogen[:, None] | hydrogen[None], CLASH_HYDROGEN, CLASH)
    clashing = np.argwhere(np.triu(distances < limit, 1))
    if len(clashing):
        i, j = clashing[0]
        raise Sorry(
            f"{labels[i]} and {labels[j]} are {distances[i, j]:.2f} A apart and cannot be in one "
            "molecule: disorder that is not marked. Give a model with PART numbers (.res) or "
            "_atom_site_disorder_group (.cif)."
        )


def as_molecule(structure, members, sites, matrix) -> Molecule:
    """Coordinates, elements and number per cell of a list of members."""
    scatterers = structure.scatterers()
    coordinates = np.array([matrix @ np.array(op * tuple(sites[i])) for i, op in members])
    numbers = np.array([atomic_number(element_of(scatterers[i])) for i, _ in members])
    check_clashes([scatterers[i].label for i, _ in members], numbers, coordinates)
    first = members[0][0]
    n_images = sum(i == first for i, _ in members)
    per_cell = scatterers[first].multiplicity() / n_images
    return Molecule(tuple(members), numbers, coordinates, round(per_cell))


def assign_charges(molecules: list[Molecule], given=None) -> list[Molecule]:
    """Molecules with charge and multiplicity, given or worked out, the cell neutral.

    Parameters
    ----------
    molecules : list of Molecule
    given : dict[str, tuple[int, int or None]], optional
        Formula (Hill order) -> charge and multiplicity.

    Raises
    ------
    Sorry
        If a formula given is not there, or the charges do not sum to zero.
    """
    given = dict(given or {})
    formulas = [m.formula for m in molecules]
    if unknown := sorted(set(given) - set(formulas)):
        raise Sorry(
            f"charge given for {', '.join(unknown)}; the molecules are {', '.join(formulas)}."
        )
    charges: list[int | None] = []
    for molecule, formula in zip(molecules, formulas, strict=True):
        if formula in given:
            charges.append(int(given[formula][0]))
        elif len(set(formulas)) == 1:
            charges.append(0)
        else:
            charges.append(likely_charge(molecule))
    unresolved = [i for i, charge in enumerate(charges) if charge is None]
    total = sum(m.n_per_cell * q for m, q in zip(molecules, charges, strict=True) if q is not None)
    if len(unresolved) == 1:
        i = unresolved[0]
        if total % molecules[i].n_per_cell == 0:
            charges[i] = -total // molecules[i].n_per_cell
            total = 0
            unresolved = []
    if unresolved or total:
        listing = ", ".join(
            f"{f} {'?' if q is None else format(q, '+d')} ({m.n_per_cell} per cell)"
            for f, q, m in zip(formulas, charges, molecules, strict=True)
        )
        raise Sorry(
            f"The charges of the molecules do not make a neutral cell: {listing}. "
            "Give them, such as charges='C2H6NO2:+1 Cl:-1'. A missing hydrogen atom is the "
            "commonest cause."
        )
    result = []
    for molecule, formula, charge in zip(molecules, formulas, charges, strict=True):
        n_electrons = int(molecule.numbers.sum()) - charge
        multiplicity = (given.get(formula) or (0, None))[1] or 1 + n_electrons % 2
        if multiplicity == 2 and formula not in given:
            logger.warning(
                "%s has an odd number of electrons and is calculated as a doublet: check its "
                "hydrogen atoms and charge.",
                formula,
            )
        result.append(
            Molecule(
                molecule.members,
                molecule.numbers,
                molecule.coordinates,
                molecule.n_per_cell,
                charge,
                multiplicity,
            )
        )
    return result


def likely_charge(molecule: Molecule) -> int | None:
    """Charge for which the valences of the atoms fit, or None where that cannot be told.

    Single atoms by `MONATOMIC_CHARGES`; others by the bond perception of RDKit (Kim & Kim,
    Bull. Korean Chem. Soc. 36, 1769, 2015).
    """
    symbols = symbols_of(molecule.numbers)
    if len(symbols) == 1:
        return MONATOMIC_CHARGES.get(symbols[0])
    try:
        from rdkit import Chem, RDLogger
        from rdkit.Chem import rdDetermineBonds
    except ImportError:
        logger.warning(
            "RDKit is not installed: the charge of %s is not worked out.", molecule.formula
        )
        return None
    RDLogger.DisableLog("rdApp.*")
    rows = "\n".join(
        f"{s} {x:.5f} {y:.5f} {z:.5f}"
        for s, (x, y, z) in zip(symbols, molecule.coordinates, strict=True)
    )
    n_electrons = int(molecule.numbers.sum())
    for charge in CHARGES_TRIED:
        if (n_electrons - charge) % 2:
            continue
        try:
            trial = Chem.MolFromXYZBlock(f"{len(symbols)}\n\n{rows}\n")
            rdDetermineBonds.DetermineBonds(trial, charge=charge)
            if not any(atom.GetNumRadicalElectrons() for atom in trial.GetAtoms()):
                return charge
        except (ValueError, RuntimeError):
            continue
    return None


def scatterer_moments(structure, molecules, densities):
    """Hirshfeld charge (e) and dipole (e A) of each scatterer, made to obey the symmetry.

    Averaged over the images of a scatterer in its molecule and over its site symmetry; each
    molecule keeps its exact charge.

    Returns
    -------
    charges : numpy.ndarray, (n_scatterers,)
    dipoles : numpy.ndarray, (n_scatterers, 3)
        Cartesian, for the scatterer at its own place.
    """
    n = structure.scatterers().size()
    matrix = orthogonalization(structure)
    inverse = np.linalg.inv(matrix)
    charges, dipoles, counts = np.zeros(n), np.zeros((n, 3)), np.zeros(n)
    for molecule, density in zip(molecules, densities, strict=True):
        excess = (density.charges.sum() - molecule.charge) / len(molecule.numbers)
        for atom, (i, operator) in enumerate(molecule.members):
            rotation, _ = operator_arrays(operator)
            back = matrix @ np.linalg.inv(rotation) @ inverse
            charges[i] += density.charges[atom] - excess
            dipoles[i] += back @ density.dipoles[atom]
            counts[i] += 1
    charges /= np.maximum(counts, 1)
    dipoles /= np.maximum(counts, 1)[:, None]
    for i in structure.special_position_indices():
        rotations = [matrix @ r @ inverse for r in site_rotations(structure, i)]
        dipoles[i] = np.mean([r @ dipoles[i] for r in rotations], axis=0)
    return charges, dipoles


def surroundings(structure, molecules, centre: Molecule, charges, dipoles, radius):
    """Point charges and dipoles of all whole molecules within a radius of one molecule.

    Parameters
    ----------
    structure : xray.structure
    molecules : list of Molecule
        All kinds in the crystal.
    centre : Molecule
    charges, dipoles : numpy.ndarray
        From `scatterer_moments`.
    radius : float
        A; a molecule belongs to the surroundings when one of its atoms is closer than this
        to one of the central molecule.

    Returns
    -------
    positions : numpy.ndarray, (n, 3), A
    charges : numpy.ndarray, (n,), e
    dipoles : numpy.ndarray, (n, 3), e A
    """
    matrix = orthogonalization(structure)
    inverse = np.linalg.inv(matrix)
    middle = centre.coordinates.mean(axis=0)
    reach = radius + np.linalg.norm(centre.coordinates - middle, axis=1).max()
    spacings = 1 / np.linalg.norm(inverse, axis=1)
    places = [moments_of_place(centre.coordinates)]
    found = []
    for molecule in molecules:
        fractions = molecule.coordinates @ inverse.T
        own_charges = np.array([charges[i] for i, _ in molecule.members])
        rotations = [operator_arrays(op)[0] for _, op in molecule.members]
        size = np.linalg.norm(
            molecule.coordinates - molecule.coordinates.mean(axis=0), axis=1
        ).max()
        for operator in structure.space_group():
            rotation, translation = operator_arrays(operator)
            image = fractions @ rotation.T + translation
            start = np.round(inverse @ middle - image.mean(axis=0))
            n = np.ceil((reach + size) / spacings).astype(int) + 1
            steps = np.stack(np.meshgrid(*[np.arange(-k, k + 1) for k in n], indexing="ij"), -1)
            steps = steps.reshape(-1, 3) + start
            centres = (image.mean(axis=0) + steps) @ matrix.T
            for step in steps[np.linalg.norm(centres - middle, axis=1) < reach + size]:
                coordinates = (image + step) @ matrix.T
                distances = np.linalg.norm(coordinates[:, None] - centre.coordinates[None], axis=2)
                if distances.min() > radius:
                    continue
                place = moments_of_place(coordinates)
                if np.abs(np.array(places) - place).max(axis=1).min() < SAME_PLACE:
                    continue
                turned = np.array(
                    [
                        matrix @ rotation @ r @ inverse @ dipoles[i]
                        for r, (i, _) in zip(rotations, molecule.members, strict=True)
                    ]
                )
                places.append(place)
                found.append((coordinates, own_charges, turned))
    if not found:
        return np.zeros((0, 3)), np.zeros(0), np.zeros((0, 3))
    return tuple(np.concatenate([part[k] for part in found]) for k in range(3))


def moments_of_place(coordinates: np.ndarray) -> np.ndarray:
    """First and second moments: equal for the same molecule in the same place in any order."""
    return np.concatenate([coordinates.mean(axis=0), (coordinates**2).mean(axis=0)])
