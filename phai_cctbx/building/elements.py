"""Elements of atoms from their scattering power, their bonds and the composition.

The scattering power of an atom (its occupancy refined together with U, times the
atomic number it was refined as) has a standard uncertainty; bonds speak for or
against an element; the composition, which may be wrong or missing, is a soft
constraint: leaving it costs, and strong evidence pays for that.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

# cctbx
from cctbx.eltbx.e_scattering import ito_vol_c_2011_table_4_3_2_2_entry_as_gaussian
from cctbx.eltbx.neutron import neutron_news_1992_table

from phai_cctbx.building.connectivity import (
    HYDROGENS,
    atomic_number,
    bonded,
    closest_approach,
    covalent_radius,
    is_metal,
)

_RARITY = {
    **dict.fromkeys(("C", "N", "O"), 0.0),
    **dict.fromkeys(("F", "S", "Cl", "P"), 1.5),
    **dict.fromkeys(("B", "Si", "Br", "I"), 3.0),
    **dict.fromkeys("Ti V Cr Mn Fe Co Ni Cu Zn Mo Ru Rh Pd Ag W Re Ir Pt Au Hg Sn Se".split(), 4.0),
    **dict.fromkeys("Na Mg Al K Ca Ga Ge As Zr Cd In Sb Te Cs Ba Pb Bi La U Os".split(), 5.0),
}
"""Cost (nats) of an element as such: how seldom it is in molecular crystals.

Rounded from the share of structures that contain it in the Crystallography Open Database.
Elements that are not listed are assigned only where the composition names them.
"""

FOREIGN_COST = 3.0
"""Further cost (nats) of an element that the composition does not name, per atom."""

COUNT_COST = 2.5
"""Cost (nats) per atom (general position) more or fewer than the composition has."""

CERTAIN_CONTENTS = 4.0
"""The two costs before are so many times higher where few reflections say less about an element
than the composition does: 10 nats per atom, an error in 20 000."""

RELATIVE_ERROR = 0.06
"""Error of a scattering power besides its esd: bonding density, hydrogens, U."""

MAX_COST = 60.0
"""A single measurement never costs more (nats): atoms may be disordered."""

MAX_NEIGHBOURS = {"H": 1, "D": 1, "F": 1, "Cl": 1, "Br": 1, "I": 1, "O": 2, "N": 4, "C": 4, "B": 5}
"""Bonds to non-metals that an element commonly forms."""

EXCESS_NEIGHBOUR_COST = 5.0
"""Cost (nats) of each bond beyond those."""


ELECTRON_STOL = 0.3
"""sin(theta)/lambda (A^-1) at which electron scattering factors are compared: mid-range."""


@cache
def scattering_power(element: str, radiation: str = "xray") -> float:
    """How strongly an element shows in a map: electrons, electron factor (A) or length (fm).

    Parameters
    ----------
    element : str
    radiation : {"xray", "electron", "neutron"}

    Returns
    -------
    float
        Negative for neutrons on H, Li, Ti, Mn.
    """
    if radiation == "neutron":
        return neutron_news_1992_table(element).bound_coh_scatt_length().real
    if radiation == "electron":
        return ito_vol_c_2011_table_4_3_2_2_entry_as_gaussian(element).at_stol(ELECTRON_STOL)
    return float(atomic_number(element))


@dataclass(frozen=True)
class Site:
    """What speaks about the element of one atom.

    Attributes
    ----------
    z : float
        Scattering power, in the units of `scattering_power`.
    z_esd : float
        Its standard uncertainty.
    weight : float
        Multiplicity of the site over that of a general position.
    neighbours : tuple of (int, float)
        Index and distance (A) of atoms within bonding reach.
    """

    z: float
    z_esd: float
    weight: float
    neighbours: tuple[tuple[int, float], ...] = ()


_TERMINAL_TO_SP_CARBON = {
    "N": ((1.12, 1.18),),
    "C": ((1.16, 1.21),),
    "O": ((1.12, 1.20),),
    "S": ((1.55, 1.66),),
}
"""The same where the carbon atom has but one other neighbour, in line."""

_TERMINAL_TO_CARBON = {
    # Allen et al., J. Chem. Soc. Perkin Trans. 2, S1 (1987): range (A) of a bond from C
    # to an atom that has no other neighbour but hydrogen
    "O": ((1.18, 1.44),),
    "N": ((1.30, 1.51),),
    "F": ((1.31, 1.42),),
    "C": ((1.30, 1.36), (1.44, 1.56)),
    "Cl": ((1.70, 1.82),),
    "Br": ((1.86, 2.00),),
    "S": ((1.60, 1.83),),
}

LONGEST_STRETCH = 0.08
"""Bonds of non-metals are seldom longer (A) than the sum of covalent radii by more than this."""

PLAUSIBLE_COST = 20.0
"""Elements that cost more (nats) than this over the best one of a site are not tried there."""

N_SCALES = 3
"""Scales of the scattering powers, of all tried, that are searched with geometry."""

RANGE_SOFTNESS = 0.025
"""Standard deviation (A) of a distance outside its range."""


def _bonded_nonmetals(i: int, elements, sites) -> list[tuple[int, float]]:
    """Non-metals that an atom is bonded to: index and distance (A)."""
    return [
        (j, distance)
        for j, distance in sites[i].neighbours
        if not is_metal(elements[j]) and bonded(elements[i], elements[j], distance)
    ]


def geometry_cost(i: int, elements, sites) -> float:
    """Cost (nats) of the element on a site, given the elements around it."""
    element = elements[i]
    cost = 0.0
    for j, distance in sites[i].neighbours:
        short = closest_approach(element, elements[j]) + 0.1 - distance
        if short > 0:
            cost += min(0.5 * (short / RANGE_SOFTNESS) ** 2, EXCESS_NEIGHBOUR_COST)
    if is_metal(element):
        return cost
    near = _bonded_nonmetals(i, elements, sites)
    for j, distance in near:
        sum_of_radii = covalent_radius(element) + covalent_radius(elements[j])
        long = distance - sum_of_radii - LONGEST_STRETCH
        if long > 0:
            cost += min(0.5 * (long / RANGE_SOFTNESS) ** 2, EXCESS_NEIGHBOUR_COST)
    cost += EXCESS_NEIGHBOUR_COST * max(0, len(near) - MAX_NEIGHBOURS.get(element, 6))
    if len(near) == 1 and elements[near[0][0]] == "C":
        j, distance = near[0]
        linear = len(_bonded_nonmetals(j, elements, sites)) <= 2
        ranges = _TERMINAL_TO_CARBON.get(element, ())
        if linear:
            ranges = (*ranges, *_TERMINAL_TO_SP_CARBON.get(element, ()))
        if ranges:
            outside = min(max(low - distance, distance - high, 0.0) for low, high in ranges)
            cost += min(0.5 * (outside / RANGE_SOFTNESS) ** 2, EXCESS_NEIGHBOUR_COST)
    return cost


def assign_elements(
    sites: list[Site],
    composition: dict[str, float] | None = None,
    order: int = 1,
    fit_scale: bool = False,
    relative_error: float = RELATIVE_ERROR,
    radiation: str = "xray",
    certainty: float = 1.0,
) -> list[str]:
    """Choose the elements of atoms.

    Minimises the sum of the costs of scattering powers, of geometry and of leaving the
    composition, by changes of one atom and exchanges of two.

    Parameters
    ----------
    sites : list of Site
    composition : dict, optional
        Atoms per unit cell; hydrogen is left out here.
    order : int
        Order of the space group with lattice translations: general positions per cell.
    fit_scale : bool
        Scattering powers share an unknown scale, within 25 %.
    relative_error : float
        Error of scattering powers besides their esds.
    radiation : {"xray", "electron", "neutron"}
        Sets the scattering powers of elements; with neutrons hydrogen is one among them.
    certainty : float
        Factor of the costs of leaving the composition.

    Returns
    -------
    list of str
    """
    if not sites:
        return []
    wanted = {
        element: count / order
        for element, count in (composition or {}).items()
        if count > 0 and (element not in HYDROGENS or radiation == "neutron")
    }
    palette = sorted(_palette(wanted, radiation), key=atomic_number)
    if wanted:
        surcharge = [
            0.0 if e in wanted else certainty * FOREIGN_COST + _RARITY.get(e, 0.0) for e in palette
        ]
    else:
        surcharge = [_RARITY.get(e, 0.0) for e in palette]
    powers = np.array([scattering_power(element, radiation) for element in palette])
    z = np.array([site.z for site in sites])
    esd = np.array([site.z_esd for site in sites])
    weights = np.array([site.weight for site in sites])
    trials = []
    for scale in np.linspace(0.8, 1.25, 19) if fit_scale else (1.0,):
        sigma_sq = (scale * esd[:, None]) ** 2 + (relative_error * powers[None, :]) ** 2
        cost = 0.5 * (scale * z[:, None] - powers[None, :]) ** 2 / sigma_sq
        cost += 0.5 * np.log(sigma_sq)
        cost = np.minimum(cost, cost.min(axis=1, keepdims=True) + MAX_COST)
        cost = cost + np.array(surcharge)
        prior = 0.5 * ((scale - 1) / 0.1) ** 2
        counts = np.bincount(np.argmin(cost, axis=1), weights, len(palette))
        unary = cost.min(axis=1).sum() + prior + _counts_cost(counts, palette, wanted, certainty)
        trials.append((unary, prior, cost))
    trials.sort(key=lambda trial: trial[0])
    found = []
    for _, prior, cost in trials[:N_SCALES]:
        total, choice = _search(cost, sites, palette, wanted, certainty)
        found.append((total + prior, choice))
    return [palette[k] for k in min(found, key=lambda pair: pair[0])[1]]


def _palette(wanted: dict[str, float], radiation: str) -> set[str]:
    """Elements that are tried.

    Scattering lengths of neutrons do not grow with the atomic number and many elements share
    one: there only the elements of the composition are, and hydrogen.
    """
    if radiation != "neutron":
        return set(wanted) | set(_RARITY)
    known = set(wanted) or {"C", "N", "O"}
    return known if known & HYDROGENS else {"H", *known}


def _counts_cost(counts, palette, wanted, certainty) -> float:
    """Cost (nats) of element counts that are not those of the composition."""
    if not wanted:
        return 0.0
    return (
        certainty
        * COUNT_COST
        * sum(
            abs(count - wanted[element])
            for count, element in zip(counts, palette, strict=True)
            if element in wanted
        )
    )


def _search(cost, sites, palette, wanted, certainty) -> tuple[float, list[int]]:
    """Local search for the cheapest assignment; its cost and palette indices."""
    used = np.flatnonzero((cost < cost.min(axis=1, keepdims=True) + PLAUSIBLE_COST).any(axis=0))
    all_elements, palette = palette, [palette[k] for k in used]
    cost = cost[:, used]
    missing = {e: n for e, n in wanted.items() if e not in palette}
    wanted = {e: n for e, n in wanted.items() if e in palette}
    weights = np.array([site.weight for site in sites])
    choice = [int(k) for k in np.argmin(cost, axis=1)]
    around = [{j for j, _ in site.neighbours} for site in sites]

    def counts_cost(counts):
        return _counts_cost(counts, palette, wanted, certainty)

    elements = [palette[k] for k in choice]
    counts = np.array([weights[[c == k for c in choice]].sum() for k in range(len(palette))])
    plausible = [np.flatnonzero(row < row.min() + PLAUSIBLE_COST) for row in cost]

    def local(indices):
        affected = set(indices).union(*(around[i] for i in indices))
        return sum(geometry_cost(i, elements, sites) for i in affected)

    for _ in range(20):
        changed = False
        for i in range(len(sites)):
            current = choice[i]
            before = cost[i, current] + local([i]) + counts_cost(counts)
            best_gain, best_k = 1e-6, current
            for k in plausible[i]:
                if k == current:
                    continue
                elements[i] = palette[k]
                trial = counts.copy()
                trial[current] -= weights[i]
                trial[k] += weights[i]
                gain = before - (cost[i, k] + local([i]) + counts_cost(trial))
                if gain > best_gain:
                    best_gain, best_k = gain, int(k)
            elements[i] = palette[best_k]
            if best_k != current:
                counts[current] -= weights[i]
                counts[best_k] += weights[i]
                choice[i] = best_k
                changed = True
        for i in range(len(sites)):
            for j in range(i):
                a, b = choice[i], choice[j]
                if a == b or weights[i] != weights[j]:
                    continue
                gain = cost[i, a] + cost[j, b] - cost[i, b] - cost[j, a]
                if gain < -10:
                    continue
                before = local([i, j])
                elements[i], elements[j] = palette[b], palette[a]
                if gain + before - local([i, j]) > 1e-6:
                    choice[i], choice[j] = b, a
                    changed = True
                else:
                    elements[i], elements[j] = palette[a], palette[b]
        if not changed:
            break
    total = sum(cost[i, k] for i, k in enumerate(choice)) + counts_cost(counts)
    total += sum(geometry_cost(i, elements, sites) for i in range(len(sites)))
    total += certainty * COUNT_COST * sum(missing.values())
    return total, [all_elements.index(palette[k]) for k in choice]
