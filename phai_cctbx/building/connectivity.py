"""Bonds of a crystal structure, and its molecules put together in one asymmetric unit.

Two atoms are bonded when they are closer than the sum of their covalent radii
(Cordero et al., Dalton Trans. 2008, 2832, as tabulated in cctbx) and a tolerance.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

# cctbx
from cctbx import adptbx, crystal, sgtbx, xray
from cctbx.eltbx import covalent_radii, tiny_pse
from scitbx import matrix

BOND_TOLERANCE = 0.40
"""Longest stretch (A) of a bond over the sum of covalent radii."""

BOND_TOLERANCE_HYDROGEN = 0.25
"""The same for bonds of hydrogen, which are stiff; hydrogen bonds stay out."""

CLOSEST_BOND, CLOSEST_BOND_METAL = 0.45, 0.9
"""No bond is shorter (A) than the sum of covalent radii by more than this; of metals (M=O)."""

NONMETALS = frozenset("H D He B C N O F Ne Si P S Cl Ar Ge As Se Br Kr Te I Xe At".split())

MULTIPLE_BOND_METALS = frozenset("Ti V Cr Mn Fe Nb Mo Tc Ru Ta W Re Os Np U".split())
"""Metals with short multiple bonds to O or N."""

HYDROGENS = frozenset(("H", "D"))


@dataclass(frozen=True)
class Neighbour:
    """One bonded neighbour: scatterer index, operator that brings it here, distance in A."""

    index: int
    operator: sgtbx.rt_mx
    distance: float


def element_of(scatterer: xray.scatterer) -> str:
    """Element symbol of a scatterer, without charge."""
    return scatterer.element_symbol().capitalize()


@cache
def atomic_number(element: str) -> int:
    """Atomic number of an element symbol (D counts as H)."""
    return tiny_pse.table("H" if element == "D" else element).atomic_number()


@cache
def covalent_radius(element: str) -> float:
    """Covalent radius in A."""
    return covalent_radii.table("H" if element == "D" else element).radius()


@cache
def is_metal(element: str) -> bool:
    """True for elements that bind by coordination rather than by covalent bonds."""
    return element not in NONMETALS


@cache
def longest_bond(element_1: str, element_2: str) -> float:
    """Distance (A) below which two elements are bonded; 0 for two hydrogens."""
    hydrogens = (element_1 in HYDROGENS) + (element_2 in HYDROGENS)
    if hydrogens == 2:
        return 0.0
    tolerance = BOND_TOLERANCE_HYDROGEN if hydrogens else BOND_TOLERANCE
    return covalent_radius(element_1) + covalent_radius(element_2) + tolerance


def bonded(element_1: str, element_2: str, distance: float) -> bool:
    """True where two elements at this distance (A) form a bond."""
    return distance < longest_bond(element_1, element_2)


@cache
def closest_approach(element_1: str, element_2: str) -> float:
    """Distance (A) below which two atoms that are both there cannot be."""
    multiple = element_1 in MULTIPLE_BOND_METALS or element_2 in MULTIPLE_BOND_METALS
    shortening = CLOSEST_BOND_METAL if multiple else CLOSEST_BOND
    return covalent_radius(element_1) + covalent_radius(element_2) - shortening


def contacts(structure: xray.structure, cutoff: float) -> list[list[Neighbour]]:
    """All neighbours of every scatterer within a distance (A), symmetry equivalents included."""
    result: list[list[Neighbour]] = [[] for _ in range(structure.scatterers().size())]
    if not result:
        return result
    asu_mappings = structure.asu_mappings(buffer_thickness=cutoff)
    pair_table = crystal.pair_asu_table(asu_mappings=asu_mappings)
    pair_table.add_all_pairs(distance_cutoff=cutoff)
    sym_table = pair_table.extract_pair_sym_table(
        skip_j_seq_less_than_i_seq=False, all_interactions_from_inside_asu=True
    )
    sites = structure.sites_frac()
    unit_cell = structure.unit_cell()
    for i, pairs in enumerate(sym_table):
        for j, operators in pairs.items():
            for operator in operators:
                distance = unit_cell.distance(sites[i], operator * sites[j])
                result[i].append(Neighbour(j, operator, distance))
        result[i].sort(key=lambda neighbour: neighbour.distance)
    return result


def parts_meet(part: int, other: int) -> bool:
    """Whether atoms of two SHELX PARTs are ever there together: those of part 0 are always."""
    return part == other or not part or not other


def bonds(structure: xray.structure, parts=None) -> list[list[Neighbour]]:
    """Bonded neighbours of every scatterer, nearest first.

    Parameters
    ----------
    structure : xray.structure
    parts : sequence of int, optional
        SHELX PART of each scatterer: there are no bonds between parts other than 0.
    """
    elements = [element_of(scatterer) for scatterer in structure.scatterers()]
    if not elements:
        return []
    reach = 2 * max(covalent_radius(element) for element in set(elements)) + BOND_TOLERANCE
    parts = parts or [0] * len(elements)
    return [
        [
            n
            for n in near
            if bonded(elements[i], elements[n.index], n.distance)
            and parts_meet(parts[i], parts[n.index])
        ]
        for i, near in enumerate(contacts(structure, reach))
    ]


def fragments(neighbours: list[list[Neighbour]]) -> list[list[tuple[int, sgtbx.rt_mx]]]:
    """Connected sets of scatterers, each with the operators that bring it together.

    Each scatterer occurs once, so a polymer is cut where it meets its own image.
    """
    seen: set[int] = set()
    result = []
    for start in range(len(neighbours)):
        if start in seen:
            continue
        seen.add(start)
        fragment = [(start, sgtbx.rt_mx())]
        for i, operator in fragment:
            for neighbour in neighbours[i]:
                if neighbour.index not in seen:
                    seen.add(neighbour.index)
                    fragment.append((neighbour.index, operator.multiply(neighbour.operator)))
        result.append(fragment)
    return sorted(result, key=len, reverse=True)


def transform_scatterer(
    scatterer: xray.scatterer, operator: sgtbx.rt_mx, unit_cell
) -> xray.scatterer:
    """Copy of a scatterer at a symmetry-equivalent place, its U tensor turned with it."""
    result = scatterer.customized_copy(site=operator * scatterer.site)
    if scatterer.flags.use_u_aniso():
        rotation = matrix.sqr(operator.r().as_double())
        u_star = matrix.sym(sym_mat3=scatterer.u_star)
        result.u_star = (rotation * u_star * rotation.transpose()).as_sym_mat3()
    return result


def _closest_image(centre, target, space_group, unit_cell) -> sgtbx.rt_mx:
    """The symmetry operator that brings ``centre`` closest to ``target`` (fractional)."""
    best = None
    for operator in space_group:
        image = np.array(operator * tuple(centre))
        shift = np.round(np.array(target) - image).astype(int)
        for extra in np.ndindex(3, 3, 3):
            lattice = shift + np.array(extra) - 1
            distance = unit_cell.distance(tuple(image + lattice), tuple(target))
            if best is None or distance < best[0] - 1e-6:
                best = (distance, operator, lattice)
    _, operator, lattice = best
    return sgtbx.rt_mx(
        operator.r(),
        operator.t().plus(
            sgtbx.tr_vec(tuple(int(x) * operator.t().den() for x in lattice), operator.t().den())
        ),
    )


def assemble(structure: xray.structure) -> xray.structure:
    """Put connected molecules together in one asymmetric unit, centred in the cell.

    The largest fragment is placed closest to the centre of the cell, each
    following one where its atoms come closest to those already placed. The
    order of the scatterers is kept.
    """
    scatterers = structure.scatterers()
    if scatterers.size() == 0:
        return structure.deep_copy_scatterers()
    unit_cell = structure.unit_cell()
    space_group = structure.space_group()
    sites = structure.sites_frac()
    operators: dict[int, sgtbx.rt_mx] = {}
    target = (0.5, 0.5, 0.5)
    for fragment in fragments(bonds(structure)):
        centre = np.mean([op * sites[i] for i, op in fragment], axis=0)
        move = _closest_image(centre, target, space_group, unit_cell)
        if not operators:
            target = tuple(np.mean([move.multiply(op) * sites[i] for i, op in fragment], axis=0))
        for i, operator in fragment:
            operators[i] = move.multiply(operator)
    return _apply_operators(structure, operators)


def _apply_operators(structure: xray.structure, operators) -> xray.structure:
    """New structure whose scatterers are replaced by their symmetry equivalents."""
    result = xray.structure(special_position_settings=structure)
    for i, scatterer in enumerate(structure.scatterers()):
        result.add_scatterer(transform_scatterer(scatterer, operators[i], structure.unit_cell()))
    return result


def u_equivalent(scatterer: xray.scatterer, unit_cell) -> float:
    """Equivalent isotropic displacement (A^2)."""
    if scatterer.flags.use_u_aniso():
        return adptbx.u_star_as_u_iso(unit_cell, scatterer.u_star)
    return scatterer.u_iso


def principal_u(scatterer: xray.scatterer, unit_cell) -> list[float]:
    """Principal displacements (A^2), the smallest first; of an isotropic atom its U alone."""
    if scatterer.flags.use_u_aniso():
        u_cart = adptbx.u_star_as_u_cart(unit_cell, scatterer.u_star)
        return sorted(adptbx.eigenvalues(u_cart))
    return [scatterer.u_iso]
