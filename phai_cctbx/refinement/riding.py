"""Hydrogen groups as smtbx constraints and restraints.

Sites ride on their parents, torsion angles of methyl and hydroxyl groups are refined, U_iso is
1.2 or 1.5 times that of the parent. Hydrogens without a geometry of their own are refined
with restrained distances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

# cctbx
import smtbx.utils
from cctbx import crystal, geometry_restraints, xray
from cctbx.array_family import flex
from smtbx.refinement import restraints
from smtbx.refinement.constraints import adp
from smtbx.refinement.constraints.geometrical import hydrogens as geometrical

from phai_cctbx.building.connectivity import (
    HYDROGENS,
    bonds,
    element_of,
    is_metal,
    parts_meet,
)
from phai_cctbx.building.hydrogens import HydrogenGroup

_CLASSES = {
    "tertiary": (geometrical.tertiary_xh_site, False),
    "secondary": (geometrical.secondary_xh2_sites, False),
    "planar": (geometrical.secondary_planar_xh_site, False),
    "terminal_planar": (geometrical.terminal_planar_xh2_sites, False),
    "linear": (geometrical.terminal_linear_ch_site, False),
    "methyl": (geometrical.terminal_tetrahedral_xh3_sites, True),
    "ammonium": (geometrical.terminal_tetrahedral_xh3_sites, True),
    "hydroxyl": (geometrical.terminal_tetrahedral_xh_site, True),
}

N_NEIGHBOURS = {
    "tertiary": 3,
    "secondary": 2,
    "planar": 2,
    "terminal_planar": 1,
    "linear": 1,
    "methyl": 1,
    "ammonium": 1,
    "hydroxyl": 1,
}
"""Covalent neighbours, without hydrogen, that the parent of each group has."""

COUNTED_FROM_SUBSTITUENT = ("methyl", "ammonium", "hydroxyl", "terminal_planar")
"""Groups whose torsion angle is counted from a neighbour of the parent's neighbour."""

NEUTRON_BOND_LENGTHS = {"C": 1.083, "N": 1.015, "O": 0.983}
"""Internuclear X-H distances, A (Allen & Bruno, Acta Cryst. B66, 380, 2010)."""

FREE_BOND_LENGTHS = {"C": 0.96, "N": 0.88, "O": 0.84, "B": 1.10}
"""Targets (A) for X-rays of hydrogens that are refined freely."""

OTHER_BOND_LENGTH = 0.95
"""The same from elements that are not listed."""

BOND_SIGMA = 0.02
"""Standard deviation of restrained X-H distances, A."""

WATER_H_H, WATER_SIGMA = 1.36, 0.04
"""H...H distance of water and its standard deviation, A."""


def riding_constraints(
    structure: xray.structure,
    groups: Sequence[HydrogenGroup],
    internuclear: bool = False,
    turning: bool = True,
) -> list:
    """Constraints on sites and U of the hydrogens of a structure.

    Parameters
    ----------
    structure : xray.structure
    groups : sequence of HydrogenGroup
        With scatterer numbers of that structure.
    internuclear : bool
        Internuclear distances (neutrons, electrons) instead of those X-rays see.
    turning : bool
        Refine the torsion angles of methyl and hydroxyl groups.

    Returns
    -------
    list of smtbx constraints
    """
    result = []
    for group in groups:
        if group.kind in _CLASSES:
            kind, rotating = _CLASSES[group.kind]
            length = None
            if internuclear:
                element = element_of(structure.scatterers()[group.pivot])
                length = NEUTRON_BOND_LENGTHS.get(element)
            result.append(
                kind(
                    pivot=group.pivot,
                    constrained_site_indices=group.hydrogens,
                    rotating=rotating and turning,
                    bond_length=length,
                )
            )
        result += [
            adp.u_iso_proportional_to_pivot_u_eq(i, group.pivot, group.u_factor)
            for i in group.hydrogens
        ]
    return result


def free_distances(
    structure: xray.structure, groups: Sequence[HydrogenGroup], internuclear: bool = False
) -> list[tuple[int, int, float, float]]:
    """Distances that freely refined hydrogens are restrained to.

    Returns
    -------
    list of (i, j, ideal, sigma)
        Two scatterers, their distance (A) and its standard deviation (A).
    """
    lengths = NEUTRON_BOND_LENGTHS if internuclear else FREE_BOND_LENGTHS
    distances = []
    for group in groups:
        if group.kind != "free":
            continue
        element = element_of(structure.scatterers()[group.pivot])
        ideal = lengths.get(element, OTHER_BOND_LENGTH)
        distances += [(group.pivot, i, ideal, BOND_SIGMA) for i in group.hydrogens]
        if element == "O" and len(group.hydrogens) == 2:
            distances.append((*group.hydrogens, WATER_H_H, WATER_SIGMA))
    return distances


def hydrogen_restraints(
    structure: xray.structure, groups: Sequence[HydrogenGroup], internuclear: bool = False
):
    """Distance restraints of freely refined hydrogens; None where there are none."""
    proxies = geometry_restraints.shared_bond_simple_proxy()
    for i, j, ideal, sigma in free_distances(structure, groups, internuclear):
        proxies.append(
            geometry_restraints.bond_simple_proxy(
                i_seqs=(i, j), distance_ideal=ideal, weight=1 / sigma**2
            )
        )
    return restraints.manager(bond_proxies=proxies) if proxies.size() else None


class CovalentBonds:
    """The bonds that riding hydrogens take their geometry from, metals and hydrogens left out.

    They stay those of the structure they were found in while the atoms move.

    Parameters
    ----------
    structure : xray.structure
    parts : sequence of int, optional
        SHELX PART of each scatterer.
    """

    def __init__(self, structure: xray.structure, parts=None):
        elements = [element_of(scatterer) for scatterer in structure.scatterers()]
        self.parts = parts
        self.pairs = [
            (i, n.index, n.operator)
            for i, neighbours in enumerate(bonds(structure, parts))
            for n in neighbours
            if not any(elements[k] in HYDROGENS or is_metal(elements[k]) for k in (i, n.index))
        ]

    def n_neighbours(self, i: int) -> int:
        """Number of bonds of a scatterer."""
        return sum(pair[0] == i for pair in self.pairs)

    def __call__(self, structure: xray.structure):
        """Connectivity table for smtbx."""
        conformers = None if self.parts is None else flex.size_t(self.parts)
        table = smtbx.utils.connectivity_table(structure, conformer_indices=conformers)
        pairs = crystal.pair_asu_table(table.pair_asu_table.asu_mappings())
        for i, j, operator in self.pairs:
            pairs.add_pair(i, j, operator)
        table._pair_asu_table = pairs
        table.pair_sym_table = pairs.extract_pair_sym_table()
        return table


def checked_groups(
    structure: xray.structure, groups: Sequence[HydrogenGroup], parts=None
) -> list[HydrogenGroup]:
    """Groups whose parents have the neighbours their geometry needs; others become free.

    The bonds may have changed since the hydrogens were placed. A group at the end of a chain needs
    a further atom that its torsion angle is counted from. Hydrogens of a SHELX PART have the
    neighbours of that part alone.
    """
    covalent = CovalentBonds(structure, parts)
    parts = parts or [0] * structure.scatterers().size()
    table = covalent(structure).pair_asu_table.extract_pair_sym_table(
        skip_j_seq_less_than_i_seq=False, all_interactions_from_inside_asu=True
    )
    result = []
    for group in groups:
        part = parts[group.hydrogens[0]]
        around = {
            j: len(operators)
            for j, operators in table[group.pivot].items()
            if parts_meet(part, parts[j])
        }
        n_found = sum(around.values())
        needed = N_NEIGHBOURS.get(group.kind)
        fits = needed is None or n_found == needed
        if fits and group.kind in COUNTED_FROM_SUBSTITUENT:
            ((neighbour, _),) = around.items()
            fits = any(k != group.pivot for k in table[neighbour])
        result.append(group if fits else replace(group, kind="free"))
    return result
