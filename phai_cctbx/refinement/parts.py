"""Disordered groups as smtbx constraints and restraints.

The occupancies of two parts add up to 1. Atoms of the second part have the displacement of those
they stand for, and distances within the two parts are restrained to be the same (SHELXL's SADI).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

# cctbx
from cctbx import geometry_restraints, sgtbx, xray
from smtbx.refinement.constraints import adp
from smtbx.refinement.constraints.occupancy import (
    dependent_occupancy,
    occupancy_pair_affine_constraint,
)

from phai_cctbx.building.connectivity import HYDROGENS, bonds, element_of
from phai_cctbx.building.disorder import DisorderedGroup, parts

BOND_SIGMA, ANGLE_SIGMA = 0.02, 0.04
"""Standard deviations (A) of the sameness of distances, 1,2 and 1,3 (SHELXL's SADI and SAME)."""

SAME_FACTOR = 1e-4
"""Difference of factors that are the same but for rounding."""


def occupancy_constraints(groups: Sequence[DisorderedGroup]) -> list:
    """The smtbx constraints that tie occupancies and displacements of two parts together."""
    result = []
    for group in groups:
        result.append(
            dependent_occupancy([(i, 1.0) for i in group.first], [(i, 1.0) for i in group.second])
        )
        result += [adp.u_iso_proportional_to_pivot_u_eq(j, i, 1.0) for i, j in group.pairs]
    return result


def disordered_atoms(groups: Sequence[DisorderedGroup]) -> list[int]:
    """All scatterers whose occupancy is that of a part."""
    return [i for group in groups for i in (*group.first, *group.second)]


def same_distances(
    structure: xray.structure, groups: Sequence[DisorderedGroup]
) -> list[tuple[int, int, int, int, float]]:
    """Distances of the first parts that those of the second parts are to equal.

    Returns
    -------
    list of (i, j, k, m, sigma)
        Distance i-j of the first part, k-m of the second, standard deviation (A).
    """
    near = bonds(structure, parts(structure.scatterers().size(), groups))
    scatterers = structure.scatterers()
    heavy = [element_of(scatterer) not in HYDROGENS for scatterer in scatterers]
    bonded = [
        [n.index for n in neighbours if heavy[n.index] and n.operator.is_unit_mx()]
        for neighbours in near
    ]
    result = []
    for group in groups:
        second = dict(group.pairs)
        hidden = set(second.values())

        def other(i, second=second):
            return second.get(i, i)

        seen = set()
        for i in second:
            at_one = [j for j in bonded[i] if j not in hidden]
            at_two = {k for j in at_one for k in bonded[j] if k not in hidden} - {i, *at_one}
            for neighbours, sigma in ((at_one, BOND_SIGMA), (sorted(at_two), ANGLE_SIGMA)):
                for j in neighbours:
                    if (j, i) not in seen and (i, j) not in seen:
                        seen.add((i, j))
                        result.append((i, j, other(i), other(j), sigma))
    return result


def strains(
    structure: xray.structure, group: DisorderedGroup
) -> Iterator[tuple[float, int, int]]:
    """How far those distances differ, in standard deviations, and the atoms i, j of the first."""
    sites = np.array(structure.sites_cart())
    for i, j, k, m, sigma in same_distances(structure, [group]):
        difference = np.linalg.norm(sites[i] - sites[j]) - np.linalg.norm(sites[k] - sites[m])
        yield abs(difference) / sigma, i, j


def distance_restraints(structure: xray.structure, groups: Sequence[DisorderedGroup]):
    """The same distances as smtbx proxies."""
    proxies = geometry_restraints.shared_bond_similarity_proxy()
    for i, j, k, m, sigma in same_distances(structure, groups):
        proxies.append(
            geometry_restraints.bond_similarity_proxy(
                i_seqs=((i, j), (k, m)),
                sym_ops=(sgtbx.rt_mx(), sgtbx.rt_mx()),
                weights=(1 / sigma**2, 1 / sigma**2),
            )
        )
    return proxies


def with_shared_occupancies(given: Sequence) -> list:
    """Constraints of a .res as iotbx reads it, a chain of pairs of occupancies joined to one.

    Of a chain smtbx takes the first occupancy for that of every atom in the middle, so that the
    second atom of a second part, and those after it, would have the occupancy of the first part.

    Parameters
    ----------
    given : sequence of smtbx constraints
        A pair (i, j) has a_i occupancy(i) + a_j occupancy(j) = b. Where the factors have the same
        sign, one occupancy is 1 minus the other. Pairs with other ratios stay as they are.
    """
    chains: dict[int, tuple[list, list]] = {}
    kept = []
    for constraint in given:
        if not isinstance(constraint, occupancy_pair_affine_constraint):
            kept.append(constraint)
            continue
        i, j = constraint.scatterer_indices
        (a, b), _ = constraint.linear_form
        if abs(abs(a) - abs(b)) > SAME_FACTOR:
            kept.append(constraint)
            continue
        of_last, other = chains.pop(i, ([(i, 1.0)], []))
        chains[j] = (other, of_last) if a * b > 0 else (of_last, other)
        chains[j][0].append((j, 1.0))
    return [*(dependent_occupancy(*chain) for chain in chains.values()), *kept]
