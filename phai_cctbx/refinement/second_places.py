"""Second places of atoms: where a crystal may have them, by difference density and displacements.

A second place shows as a difference peak beside an atom, as a displacement as long as two places
make it, or as an atom of its own that is in the way of others.
"""

from __future__ import annotations

import numpy as np

# cctbx
from cctbx import adptbx, xray

from phai_cctbx.building.connectivity import (
    HYDROGENS,
    atomic_number,
    bonds,
    contacts,
    element_of,
    is_metal,
    principal_u,
)
from phai_cctbx.building.peaks import find_peaks, fourier_map
from phai_cctbx.refinement.maps import difference_coefficients
from phai_cctbx.refinement.trial_model import TrialModel

CLOSEST_PEAK, FARTHEST_PEAK = 0.45, 1.5
"""Distance (A) of the second place of an atom from the first, to begin with."""

LEAST_SHARE = 0.06
"""Difference density of a peak, over the density of the atom that it lies beside, which may be the
second place of that."""

LEAST_OVER_SIGMA = 4.5
"""The same over the root mean square of the difference density."""

FOLLOWING_SHARE = 0.4
"""Density of further peaks of a group over that of the first."""

MATCH = 0.4
"""Largest difference (A) of a distance between second places from that between the first ones."""

BENT = 0.25
"""Change (A) of a bond to a second place that makes the atom at its other end move as well."""

BETWEEN = 0.15
"""A peak whose distances from two bonded atoms add up to their bond and this (A) at most is
bonding density."""

SHOWN = 0.3
"""Density at a place where a bond calls for an atom, over that of the first peak, that shows it."""

CROWDED = 1.75
"""Atoms at the end of bonds to one atom, closer (A) to each other than this, cannot be there
together: tetrahedral angles keep F on C 2.1 A apart, angles of 70 degrees O on Cl 1.65 A."""

ELONGATED, ELONGATED_BESIDE, STRETCH = 2.0, 1.5, 1.5
"""Largest principal U over the median of the model of an atom that may have two places, of others
beside it, and over the second principal U."""

NEARLY_RESOLVED = 0.8
"""Distance of two places by the displacement, over the shortest that is clear, that is tried."""

LARGEST_GROUP, LARGEST_PART = 12, 0.5
"""Atoms other than hydrogen of a group, and their part of all."""

N_PEAKS = 40
"""Difference peaks looked at."""


class Surroundings:
    """The model a group is looked for in: bonds, and what the difference density shows beside them.

    Parameters
    ----------
    base : TrialModel
        Without the group.
    """

    def __init__(self, base: TrialModel):
        self.structure = base.structure
        self.unit_cell = base.f_sq.unit_cell()
        scatterers = self.structure.scatterers()
        self.elements = [element_of(scatterer) for scatterer in scatterers]
        self.number = {scatterer.label: i for i, scatterer in enumerate(scatterers)}
        parts = base.parts or [0] * len(self.elements)
        special = self.structure.site_symmetry_table().is_special_position
        self.sites = np.array(self.structure.sites_cart())
        self.bonded = [
            [
                n.index
                for n in near
                if self.elements[n.index] not in HYDROGENS and n.operator.is_unit_mx()
            ]
            for near in bonds(self.structure, base.parts)
        ]
        n_heavy = sum(element not in HYDROGENS for element in self.elements)
        self.largest_group = min(LARGEST_GROUP, int(LARGEST_PART * n_heavy))
        taken = {i for i, part in enumerate(parts) if part}
        self.may_move = [
            element not in HYDROGENS
            and not is_metal(element)
            and not special(i)
            and taken.isdisjoint({i, *self.within_two_bonds(i)})
            for i, element in enumerate(self.elements)
        ]

    def distance(self, i: int, j: int) -> float:
        """A."""
        return float(np.linalg.norm(self.sites[i] - self.sites[j]))

    def within_two_bonds(self, i: int) -> set[int]:
        """Atoms one or two bonds away."""
        near = set(self.bonded[i])
        return near.union(*(self.bonded[j] for j in near)) - {i}


class DifferencePeaks:
    """Difference peaks beside the atoms of a structure.

    Attributes
    ----------
    beside : list of list of (site, density, share)
        For each atom Cartesian sites of the peaks that lie beside it, nearest first, their density
        (e/A^3), and this over that of the atom.
    sigma : float
        Root mean square of the difference density.
    of_electron : float
        Density at an atom of the model, per electron.
    """

    def __init__(self, model: TrialModel, surroundings: Surroundings):
        coefficients = difference_coefficients(model.result, model.f_sq)
        peaks = find_peaks(coefficients, N_PEAKS)
        self.sigma = peaks.sigma
        self.map = fourier_map(coefficients).real_map_unpadded()
        self.unit_cell = surroundings.unit_cell
        self.of_electron = model.density_of_carbon() / model.power("C")
        structure = surroundings.structure.deep_copy_scatterers()
        n = structure.scatterers().size()
        for k, site in enumerate(peaks.sites):
            structure.add_scatterer(xray.scatterer(f"Q{k}", site=site, scattering_type="C"))
        sites = structure.sites_frac()
        self.beside = []
        for i, near in enumerate(contacts(structure, FARTHEST_PEAK)[:n]):
            full = self.of_electron * atomic_number(surroundings.elements[i])
            found = []
            for m in near:
                if m.index < n or m.distance < CLOSEST_PEAK:
                    continue
                site = np.array(self.unit_cell.orthogonalize(m.operator * sites[m.index]))
                height = float(peaks.heights[m.index - n])
                if not _is_bonding_density(surroundings, i, site):
                    found.append((site, height, height / full))
            self.beside.append(found)

    def at(self, site) -> float:
        """Density at a Cartesian site."""
        return self.map.eight_point_interpolation(self.unit_cell.fractionalize(tuple(site)))


def _is_bonding_density(around: Surroundings, i: int, site) -> bool:
    """Whether a peak lies on a bond of an atom."""
    return any(
        np.linalg.norm(site - around.sites[i]) + np.linalg.norm(site - around.sites[j])
        < around.distance(i, j) + BETWEEN
        for j in around.bonded[i]
    )


def clearest_place(around: Surroundings, peaks: DifferencePeaks, tried: set[str]):
    """The atom with the clearest second place, that place and its density; None without one.

    Of several atoms that a peak lies beside it is the one whose bonds would bend least.
    """
    found = []
    for i, beside in enumerate(peaks.beside):
        if not around.may_move[i] or around.structure.scatterers()[i].label in tried:
            continue
        found += [
            (share, i, site, height)
            for site, height, share in beside
            if share > LEAST_SHARE and height > LEAST_OVER_SIGMA * peaks.sigma
        ]
    if not found:
        return None
    highest = max(height for _, _, _, height in found)
    same = [each for each in found if each[3] == highest]
    _, i, site, height = min(same, key=lambda each: _strain(around, each[1], each[2]))
    return i, site, height


def _strain(around: Surroundings, i: int, site) -> float:
    """Mean change (A) of the bonds of an atom at another place."""
    changes = [
        abs(np.linalg.norm(site - around.sites[j]) - around.distance(i, j))
        for j in around.bonded[i]
    ]
    return float(np.mean(changes)) if changes else 0.0


def grow(around: Surroundings, peaks: DifferencePeaks, second: dict, height: float) -> None:
    """Add the second places of neighbours: peaks, and places that bonds call for and that show."""
    changed = True
    while changed and len(second) <= around.largest_group:
        changed = False
        near = set().union(*(around.within_two_bonds(i) for i in second)) - set(second)
        options = []
        for i in near:
            if not around.may_move[i]:
                continue
            for site, density, _ in peaks.beside[i]:
                misfit = _misfit(around, second, i, site)
                if density > FOLLOWING_SHARE * height and misfit < MATCH and _free(second, site):
                    options.append((misfit, i, site))
        if options:
            _, i, site = min(options, key=lambda option: option[0])
            second[i] = site
            changed = True
            continue
        for i in list(second):
            for j in around.bonded[i]:
                if j in second or not around.may_move[j]:
                    continue
                bent = abs(np.linalg.norm(second[i] - around.sites[j]) - around.distance(i, j))
                site = predicted_place(around, second, j)
                if bent > BENT and peaks.at(site) > SHOWN * height and _free(second, site):
                    second[j] = site
                    changed = True


def _free(second: dict, site) -> bool:
    """Whether no second place is at a site yet."""
    return all(np.linalg.norm(site - other) > CLOSEST_PEAK for other in second.values())


def _misfit(around: Surroundings, second: dict, i: int, site) -> float:
    """Largest change (A) of distances to second places of atoms one or two bonds away."""
    changes = [
        abs(np.linalg.norm(site - second[j]) - around.distance(i, j))
        for j in around.within_two_bonds(i)
        if j in second
    ]
    return max(changes, default=0.0)


def predicted_place(around: Surroundings, second: dict, j: int) -> np.ndarray:
    """Second place of an atom by the motion of those of the group, as a rigid body where known."""
    moved = [i for i in second if i in around.within_two_bonds(j)] or list(second)
    if len(moved) < 3:
        return around.sites[j] + np.mean([second[i] - around.sites[i] for i in moved], axis=0)
    old = np.array([around.sites[i] for i in moved])
    new = np.array([second[i] for i in moved])
    u, _, vt = np.linalg.svd((old - old.mean(axis=0)).T @ (new - new.mean(axis=0)))
    turn = np.diag([1, 1, np.sign(np.linalg.det(u @ vt))])
    rotation = (u @ turn @ vt).T
    return new.mean(axis=0) + rotation @ (around.sites[j] - old.mean(axis=0))


def elongated_atoms(around: Surroundings, tried: set[str], resolved: float) -> list[int]:
    """Atoms, no more than two bonds apart, whose displacements look like two places each.

    That of the first atom has to be as large as of two places `resolved` (A) apart, nearly.
    """
    scatterers = around.structure.scatterers()
    ratio, stretch, apart = {}, {}, {}
    for i, scatterer in enumerate(scatterers):
        if scatterer.flags.use_u_aniso() and around.elements[i] not in HYDROGENS:
            values = principal_u(scatterer, around.unit_cell)
            ratio[i], stretch[i] = values[2], values[2] / max(values[1], 1e-4)
            apart[i] = 2 * np.sqrt(values[2] - values[1])
    if not ratio:
        return []
    typical = float(np.median(list(ratio.values())))
    able = [
        i
        for i in ratio
        if around.may_move[i] and scatterers[i].label not in tried and stretch[i] > STRETCH
    ]
    least = NEARLY_RESOLVED * resolved
    seeds = [i for i in able if ratio[i] > ELONGATED * typical and apart[i] > least]
    if not seeds:
        return []
    group = [max(seeds, key=lambda i: ratio[i])]
    for i in group:
        for j in sorted(around.within_two_bonds(i)):
            if j in able and j not in group and ratio[j] > ELONGATED_BESIDE * typical:
                group.append(j)
    return group


def halves(around: Surroundings, atoms: list[int]) -> tuple[dict, dict]:
    """Each atom on two places along its largest displacement, the distances kept in both parts.

    Two places of the same occupancy, s away from their mean, add s^2 to the mean square
    displacement.
    """
    unit_cell = around.unit_cell
    shifts: dict[int, np.ndarray] = {}
    first, second = {}, {}
    for i in atoms:
        scatterer = around.structure.scatterers()[i].customized_copy()
        u_cart = np.array(adptbx.u_star_as_u_cart(unit_cell, scatterer.u_star))
        tensor = u_cart[[0, 3, 4, 3, 1, 5, 4, 5, 2]].reshape(3, 3)
        values, vectors = np.linalg.eigh(tensor)
        shift = np.sqrt(values[2] - values[1]) * vectors[:, 2]
        cost = {}
        for sign in (1, -1):
            cost[sign] = sum(
                abs(
                    np.linalg.norm(
                        around.sites[i] + side * sign * shift - around.sites[j] - side * other
                    )
                    - around.distance(i, j)
                )
                for side in (1, -1)
                for j, other in shifts.items()
                if j in around.within_two_bonds(i)
            )
        shifts[i] = min(cost, key=cost.get) * shift
        values[2] = values[1]
        tensor = vectors @ np.diag(values) @ vectors.T
        scatterer.u_star = adptbx.u_cart_as_u_star(
            unit_cell, tuple(tensor[[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]])
        )
        scatterer.site = unit_cell.fractionalize(tuple(around.sites[i] - shifts[i]))
        first[i], second[i] = scatterer, around.sites[i] + shifts[i]
    return first, second


def crowded_sets(around: Surroundings, pivot: int) -> tuple[list[int], list[int]] | None:
    """Two sets of as many atoms that end at one atom; those of one set keep their distance."""
    ends = [
        i
        for i in around.bonded[pivot]
        if around.may_move[i]
        and all(j == pivot or pivot in around.bonded[j] for j in around.bonded[i])
    ]
    near = {i: [j for j in ends if j != i and around.distance(i, j) < CROWDED] for i in ends}
    crowded = [i for i in ends if near[i]]
    side: dict[int, int] = {}
    for start in crowded:
        queue = [] if start in side else [start]
        side.setdefault(start, 0)
        for i in queue:
            for j in near[i]:
                if j not in side:
                    side[j] = 1 - side[i]
                    queue.append(j)
    if len(crowded) < 4 or any(side[i] == side[j] for i in crowded for j in near[i]):
        return None
    sets = tuple([i for i in crowded if side[i] == k] for k in (0, 1))
    return sets if len(sets[0]) == len(sets[1]) else None
