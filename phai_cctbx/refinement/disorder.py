"""Two-part disorder: seen in the difference density, modelled, and kept where it is clear.

A second place of an atom shows as a difference peak beside it. The peaks beside bonded atoms make
a group, which grows from one refinement to the next; the model with two parts stays where it fits
better than its parameters alone would make it (Hamilton, Acta Cryst. 18, 502, 1965), with an
occupancy far from 0 and 1 and sensible geometry.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import linear_sum_assignment

# cctbx
from cctbx import adptbx, xray
from cctbx.array_family import flex
from libtbx.utils import Sorry

from phai_cctbx.building.connectivity import (
    HYDROGENS,
    atomic_number,
    bonds,
    contacts,
    element_of,
    is_metal,
    u_equivalent,
)
from phai_cctbx.building.disorder import DisorderedGroup, kinds_of_hydrogens, split
from phai_cctbx.building.peaks import find_peaks, fourier_map
from phai_cctbx.refinement.least_squares import CONVERGED_SHIFT_OVER_ESD
from phai_cctbx.refinement.maps import difference_coefficients
from phai_cctbx.refinement.parts import same_distances
from phai_cctbx.refinement.trial_model import TrialModel

logger = logging.getLogger(__name__)

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

CROWDED = 1.75
"""Atoms at the end of bonds to one atom, closer (A) to each other than this, cannot be there
together: tetrahedral angles keep F on C 2.1 A apart, angles of 70 degrees O on Cl 1.65 A."""

TERMINAL_ELEMENTS = frozenset(("C", "N", "O", "F", "Cl"))
"""Elements of atoms at the end of bonds, several of them at one atom."""

RESOLVED = 0.715
"""Two places are clear where at least one atom has them this far apart, in units of the resolution
limit of the data: closer ones are not resolved in a map (James, Acta Cryst. 1, 132, 1948)."""

ELONGATED, ELONGATED_BESIDE, STRETCH = 2.0, 1.5, 1.5
"""Largest principal U over the median of the model of an atom that may have two places, of others
beside it, and over the second principal U."""

NEARLY_RESOLVED = 0.8
"""Distance of two places by the displacement, over the shortest that is clear, that is tried."""

LARGEST_GROUP, LARGEST_PART = 12, 0.5
"""Atoms other than hydrogen of a group, and their part of all."""

SHOWN = 0.3
"""Density at a place where a bond calls for an atom, over that of the first peak, that shows it."""

MIN_HAMILTON = 20.0
"""Gain of chi squared per parameter, in units of what noise would give, of a group that is kept.
Hamilton's test at any usual level asks for 3 at most; the errors of a model are not noise alone."""

MIN_WR2_GAIN = 0.02
"""Part of wR2 that the group takes away."""

MIN_OCCUPANCY, MIN_OCCUPANCY_ESDS = 0.07, 10.0
"""Occupancy of the second part: at least this, and this many of its standard uncertainties."""

HYDROGEN_REACH, HYDROGEN_ELECTRONS = (0.7, 1.15), 2.0
"""A single second place this far (A) from the first with less electrons may be a hydrogen."""

STRAINED, MAX_STRAIN = 4.0, 6.0
"""Difference of distances that are restrained to be the same, over its standard deviation, beyond
which an atom that both parts share is given a second place as well, and the largest of a group
that is kept."""

MAX_SHIFT = 0.3
"""Largest shift/esd after the last cycles; it is small where the parts do not depend on one
another."""

CLOSEST_CONTACT = 2.2
"""Distance (A) of second places from atoms that they are not bonded to, over two bonds or more."""

U_RANGE = (0.3, 4.0)
"""U(eq) of the atoms of a group over the median of the model."""

MOST_ROUNDS, MOST_GROUPS, MOST_TRIALS = 6, 4, 6
"""Refinements in which a group grows; groups that are modelled, and that are tried."""

N_PEAKS, N_CYCLES, N_FINAL_CYCLES = 40, 6, 15
"""Difference peaks looked at; cycles of least squares while a group grows, and at its end."""


@dataclass(frozen=True)
class Evidence:
    """What speaks for a disordered group.

    Attributes
    ----------
    r1, wr2 : (float, float)
        Without and with it, the weights being the same.
    n_more : int
        Parameters it costs.
    hamilton : float
        Gain of chi squared per parameter, over the remaining chi squared per degree of freedom.
    occupancy, esd : float
        Of the first part.
    apart : float
        Largest distance (A) of an atom from its second place.
    electrons : float
        Scattering power of the second part, hydrogens left out.
    """

    r1: tuple[float, float]
    wr2: tuple[float, float]
    n_more: int
    hamilton: float
    occupancy: float
    esd: float
    apart: float
    electrons: float


class _Surroundings:
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


class _Peaks:
    """Difference peaks beside the atoms of a structure.

    Attributes
    ----------
    beside : list of list of (site, distance, share)
        For each atom of the base Cartesian sites of the peaks that lie beside it, nearest first,
        their distance (A), and their density over that of the atom.
    """

    def __init__(self, model: TrialModel, surroundings: _Surroundings):
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


def _is_bonding_density(around: _Surroundings, i: int, site) -> bool:
    """Whether a peak lies on a bond of an atom."""
    return any(
        np.linalg.norm(site - around.sites[i]) + np.linalg.norm(site - around.sites[j])
        < around.distance(i, j) + BETWEEN
        for j in around.bonded[i]
    )


def model_disorder(model: TrialModel) -> None:
    """Give two parts to the groups of atoms that clearly have them.

    X-ray data that reach far enough for the fit to decide are needed; with others nothing is tried.

    Parameters
    ----------
    model : TrialModel
        Refined with its hydrogens; atoms, hydrogens, disorder and result may change.
    """
    if model.radiation != "xray" or model.few_reflections:
        return
    for _ in range(MOST_GROUPS):
        if not _part_crowded(model):
            break
    tried: set[str] = set()
    for _ in range(MOST_TRIALS):
        if len(model.disorder) == MOST_GROUPS:
            return
        around = _Surroundings(model)
        seed = _seed(model, around, tried)
        if seed is None:
            break
        atom, site, height = seed
        tried.add(model.structure.scatterers()[atom].label)
        _try_group(model, around, {atom: np.array(site)}, height)
    tried = set()
    for _ in range(MOST_TRIALS):
        if len(model.disorder) == MOST_GROUPS:
            return
        around = _Surroundings(model)
        elongated = _elongated(around, tried, RESOLVED * model.f_sq.d_min())
        if not elongated:
            return
        tried |= {around.structure.scatterers()[i].label for i in elongated}
        first, second = _halves(around, elongated)
        peaks = _Peaks(model, around)
        power = np.mean([atomic_number(around.elements[i]) for i in elongated])
        _try_group(model, around, second, peaks.of_electron * power / 2, first)


def _elongated(around: _Surroundings, tried: set[str], resolved: float) -> list[int]:
    """Atoms, no more than two bonds apart, whose displacements look like two places each.

    That of the first atom has to be as large as of two places `resolved` (A) apart, nearly.
    """
    scatterers = around.structure.scatterers()
    ratio, stretch, apart = {}, {}, {}
    for i, scatterer in enumerate(scatterers):
        if scatterer.flags.use_u_aniso() and around.elements[i] not in HYDROGENS:
            u_cart = adptbx.u_star_as_u_cart(around.unit_cell, scatterer.u_star)
            values = sorted(adptbx.eigenvalues(u_cart))
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


def _halves(around: _Surroundings, atoms: list[int]) -> tuple[dict, dict]:
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


def _part_crowded(model: TrialModel) -> bool:
    """Take atoms at the end of bonds that are in each other's way for two parts; true where kept.

    Fluorine atoms of a turned CF3 group, say, that were found as six atoms. All of them are taken
    for one element, the one that fits best.
    """
    around = _Surroundings(model)
    for pivot in range(len(around.elements)):
        sets = _crowded(around, pivot)
        if sets is None:
            continue
        before, whole = _state(model), model.result
        trials = []
        for element in _terminal_elements(model, around, sets):
            base, second = _with_one_set(model, around, sets, element)
            model.structure, model.riding, model.disorder = base
            here = _Surroundings(model)
            peaks = _Peaks(model, here)
            group = _refine_split(model, here, peaks, {}, second, 0.5)
            if group is not None:
                trials.append((model.result.wr2, element))
            _restore(model, before)
        if not trials:
            continue
        base, second = _with_one_set(model, around, sets, min(trials)[1])
        model.structure, model.riding, model.disorder = base
        here = _Surroundings(model)
        height = model.density_of_carbon() / 2
        if _try_group(model, here, second, height, less=whole):
            return True
        _restore(model, before)
    return False


def _crowded(around: _Surroundings, pivot: int) -> tuple[list[int], list[int]] | None:
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


def _terminal_elements(model: TrialModel, around: _Surroundings, sets) -> list[str]:
    """Elements that atoms at the end of bonds may have here."""
    given = set(model.composition or ()) | {around.elements[i] for each in sets for i in each}
    return sorted(given & TERMINAL_ELEMENTS)


def _with_one_set(model: TrialModel, around: _Surroundings, sets, element: str):
    """The model without the weaker of two sets (structure, hydrogens, disorder), and its places.

    The stronger one has the smaller displacements for its scattering power.
    """
    scatterers = around.structure.scatterers()

    def strength(atoms):
        return sum(
            atomic_number(around.elements[i])
            / (u_equivalent(scatterers[i], around.unit_cell) + 0.04)
            for i in atoms
        )

    first, second = sorted(sets, key=strength, reverse=True)
    gone = set(second)
    riding = [g for g in model.riding if g.pivot not in {*first, *second}]
    gone |= {j for g in model.riding for j in g.hydrogens if g not in riding}
    kept = [i for i in range(scatterers.size()) if i not in gone]
    number = {i: k for k, i in enumerate(kept)}
    structure = model.structure.select(flex.size_t(kept))
    used = {scatterer.label for scatterer in structure.scatterers()}
    for i in first:
        scatterer = structure.scatterers()[number[i]]
        if element_of(scatterer) != element:
            names = (f"{element}{k}" for k in range(1, 1000))
            scatterer.label = next(name for name in names if name not in used)
            used.add(scatterer.label)
            scatterer.scattering_type = element
    riding = [
        replace(g, pivot=number[g.pivot], hydrogens=tuple(number[j] for j in g.hydrogens))
        for g in riding
    ]
    disorder = [renumbered(group, number) for group in model.disorder]
    rows, columns = linear_sum_assignment([[around.distance(i, j) for j in second] for i in first])
    places = {
        number[first[row]]: around.sites[second[column]]
        for row, column in zip(rows, columns, strict=True)
    }
    return (structure, riding, disorder), places


def _seed(model: TrialModel, around: _Surroundings, tried: set[str]):
    """The atom with the clearest second place, that place and its density; None without one."""
    peaks = _Peaks(model, around)
    found = []
    for i, beside in enumerate(peaks.beside):
        if not around.may_move[i] or model.structure.scatterers()[i].label in tried:
            continue
        found += [
            (share, i, site, height)
            for site, height, share in beside
            if share > LEAST_SHARE and height > LEAST_OVER_SIGMA * peaks.sigma
        ]
    if not found:
        return None
    # of atoms that share a peak the one whose bonds bend least
    highest = max(height for _, _, _, height in found)
    same = [each for each in found if each[3] == highest]
    _, i, site, height = min(same, key=lambda each: _strain(around, each[1], each[2]))
    return i, site, height


def _strain(around: _Surroundings, i: int, site) -> float:
    """Mean change (A) of the bonds of an atom at another place."""
    changes = [
        abs(np.linalg.norm(site - around.sites[j]) - around.distance(i, j))
        for j in around.bonded[i]
    ]
    return float(np.mean(changes)) if changes else 0.0


def _try_group(
    model: TrialModel,
    around: _Surroundings,
    second: dict,
    height: float,
    first: dict | None = None,
    less=None,
) -> bool:
    """Model a group with these second places, and what belongs to it; true where it stays.

    Parameters
    ----------
    model : TrialModel
    around : _Surroundings
        Of the model without the group.
    second : dict
        Atom -> its second place, Cartesian.
    height : float
        Difference density there, e/A^3.
    first : dict, optional
        Atom -> scatterer that it is to begin with; as it stands otherwise.
    less : RefinementResult, optional
        Refinement of the model that has to be worse; the last one otherwise.
    """
    before, base = _state(model), less or model.result
    peaks = _Peaks(model, around)
    power = np.mean([atomic_number(around.elements[i]) for i in second])
    occupancy = 1 - min(max(height / (peaks.of_electron * power), 0.1), 0.5)
    first = dict(first or {})
    group = None
    for _ in range(MOST_ROUNDS):
        n_before = len(second)
        _grow(around, peaks, second, height)
        if group is not None and len(second) == n_before:
            _add_strained(model, around, group, second)
        if len(second) > around.largest_group:
            break
        if group is not None and len(second) == n_before:
            break
        _restore(model, before)
        group = _refine_split(model, around, peaks, first, second, occupancy)
        if group is None or model.result.wr2 > (1 - MIN_WR2_GAIN / 2) * base.wr2:
            break
        occupancy = min(max(group.occupancy, 0.1), 0.95)
        first, second = _places(model, around, group)
        peaks = _Peaks(model, around)
    if group is not None and len(second) <= around.largest_group:
        stale = _stale_hydrogens(model, around, group, peaks)
        if stale:
            _restore(model, before)
            group = _refine_split(model, around, peaks, first, second, occupancy, stale)
    names = ", ".join(around.structure.scatterers()[i].label for i in second)
    doubts = ["they do not end"]
    if group is not None and len(second) <= around.largest_group:
        evidence = _evidence(model, base, group)
        logger.debug("%s: %s", names, evidence)
        doubts = _doubts(model, evidence)
    if doubts:
        logger.info("Second places of %s are not kept: %s", names, ", ".join(doubts))
        _restore(model, before)
        model.record("taken back")
        return False
    logger.info("%s", disorder_line(model.structure, model.disorder[-1]))
    return True


def disorder_line(structure: xray.structure, group: DisorderedGroup) -> str:
    """What is said of a disordered group: its atoms and occupancies."""
    scatterers = structure.scatterers()
    first, second = (", ".join(scatterers[pair[k]].label for pair in group.pairs) for k in (0, 1))
    return (
        f"Disordered over two parts: {first} (occupancy {group.occupancy:.3f}, standard"
        f" uncertainty {group.esd:.3f}) and {second} ({1 - group.occupancy:.3f})."
    )


def with_occupancies(model: TrialModel) -> list[DisorderedGroup]:
    """The disordered groups of a model with their occupancies as refined last, and the esds."""
    result = model.result
    groups = []
    for group in model.disorder:
        i, esd = group.first[0], float("nan")
        if result.covariance is not None:
            parameter = result.xray_structure.parameter_map()[i].occupancy
            variance = result.covariance.matrix.matrix_packed_u_diagonal()[parameter]
            esd = float(np.sqrt(max(variance, 0.0)))
        occupancy = result.xray_structure.scatterers()[i].occupancy
        groups.append(replace(group, occupancy=occupancy, esd=esd))
    return groups


def _doubts(model: TrialModel, evidence: Evidence) -> list[str]:
    """Why the last group of a model is not kept."""
    doubts = []
    if not model.result.max_shift_over_esd < MAX_SHIFT:
        doubts.append(f"no convergence, shift/esd {model.result.max_shift_over_esd:.2f}")
    if evidence.hamilton < MIN_HAMILTON or evidence.wr2[1] > (1 - MIN_WR2_GAIN) * evidence.wr2[0]:
        doubts.append(
            f"wR2 {evidence.wr2[0]:.4f} -> {evidence.wr2[1]:.4f}"
            f" for {evidence.n_more} parameters (F {evidence.hamilton:.1f})"
        )
    minor = min(evidence.occupancy, 1 - evidence.occupancy)
    if not minor > max(MIN_OCCUPANCY, MIN_OCCUPANCY_ESDS * evidence.esd):
        doubts.append(f"occupancy {evidence.occupancy:.3f}, esd {evidence.esd:.3f}")
    if evidence.apart < RESOLVED * model.f_sq.d_min():
        doubts.append(f"places {evidence.apart:.2f} A apart")
    group = model.disorder[-1]
    low, high = HYDROGEN_REACH
    if len(group.pairs) == 1 and low < evidence.apart < high:
        if evidence.electrons < HYDROGEN_ELECTRONS:
            doubts.append("it may be a hydrogen atom")
    return doubts + _geometry_doubts(model, group)


def _geometry_doubts(model: TrialModel, group: DisorderedGroup) -> list[str]:
    """What is not sensible in the places and displacements of a group."""
    structure, scatterers = model.structure, model.structure.scatterers()
    sites = np.array(structure.sites_cart())
    doubts = []
    strains = [
        abs(np.linalg.norm(sites[i] - sites[j]) - np.linalg.norm(sites[k] - sites[m])) / sigma
        for i, j, k, m, sigma in same_distances(structure, [group])
    ]
    if max(strains, default=0.0) > MAX_STRAIN:
        doubts.append(f"distances differ by {max(strains):.0f} standard deviations")
    u_values = [u_equivalent(s, structure.unit_cell()) for s in scatterers]
    typical = np.median([u_values[i] for i in model.heavy_atoms()])
    ratios = [u_values[i] / typical for i, _ in group.pairs]
    if min(ratios) < U_RANGE[0] or max(ratios) > U_RANGE[1]:
        doubts.append(f"U(eq) {min(ratios):.2f} to {max(ratios):.2f} of the median")
    on_pivot: dict[int, int] = {}
    for riding in model.riding:
        if riding.kind != "free":
            on_pivot[riding.pivot] = len(riding.hydrogens)
    if any(on_pivot.get(i, 0) != on_pivot.get(j, 0) for i, j in group.pairs):
        doubts.append("hydrogens do not fit")
    parts = model.parts
    near_bonds = bonds(structure, parts)
    for _, j in group.pairs:
        bonded = {(n.index, str(n.operator)) for n in near_bonds[j]}
        beyond = {m.index for n in near_bonds[j] for m in near_bonds[n.index]}
        for n in contacts(structure, CLOSEST_CONTACT)[j]:
            other = element_of(scatterers[n.index]) not in HYDROGENS and parts[n.index] != 1
            if other and n.index not in beyond and (n.index, str(n.operator)) not in bonded:
                doubts.append(
                    f"{scatterers[j].label} {n.distance:.2f} A from {scatterers[n.index].label}"
                )
    return doubts


def _state(model: TrialModel):
    return (
        model.structure, model.result, list(model.riding), list(model.disorder), model.extinction,
        model.twin,
    )  # fmt: skip


def _restore(model: TrialModel, state) -> None:
    model.structure, model.result, riding, disorder, model.extinction, model.twin = state
    model.riding, model.disorder = list(riding), list(disorder)


def _grow(around: _Surroundings, peaks: _Peaks, second: dict, height: float) -> None:
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
                site = _predicted(around, second, j)
                if bent > BENT and peaks.at(site) > SHOWN * height and _free(second, site):
                    second[j] = site
                    changed = True


def _free(second: dict, site) -> bool:
    """Whether no second place is at a site yet."""
    return all(np.linalg.norm(site - other) > CLOSEST_PEAK for other in second.values())


def _misfit(around: _Surroundings, second: dict, i: int, site) -> float:
    """Largest change (A) of distances to second places of atoms one or two bonds away."""
    changes = [
        abs(np.linalg.norm(site - second[j]) - around.distance(i, j))
        for j in around.within_two_bonds(i)
        if j in second
    ]
    return max(changes, default=0.0)


def _predicted(around: _Surroundings, second: dict, j: int) -> np.ndarray:
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


def _stale_hydrogens(model, around: _Surroundings, group: DisorderedGroup, peaks) -> set[int]:
    """Carbon atoms of a group or beside it, by number in the base, that have other hydrogens now.

    The mean of two places has not their geometry.
    """
    kinds = {riding.pivot: riding.kind for riding in model.riding}
    structure = model.structure.deep_copy_scatterers()
    first = [i for i in range(structure.scatterers().size()) if i not in set(group.second)]
    numbers = {s.label: i for i, s in enumerate(around.structure.scatterers())}
    near = bonds(structure, model.parts)
    atoms = {i for i, _ in group.pairs}
    atoms |= {n.index for i in atoms for n in near[i]}
    carbons = [
        first.index(i)
        for i in sorted(atoms.difference(group.second))
        if element_of(structure.scatterers()[i]) == "C" and kinds.get(i) != "free"
    ]
    alone = structure.select(flex.size_t(first))
    found = kinds_of_hydrogens(alone, carbons, peaks.at)
    return {
        numbers[alone.scatterers()[k].label]
        for k, kind in found.items()
        if kind != kinds.get(first[k])
    }


def _refine_split(
    model, around, peaks, first, second, occupancy, fresh=frozenset()
) -> DisorderedGroup | None:
    """Refine with second places; None where least squares fail."""
    fractionalize = around.unit_cell.fractionalize
    model.structure = model.structure.deep_copy_scatterers()
    for i, scatterer in first.items():
        model.structure.scatterers()[i].site = scatterer.site
        model.structure.scatterers()[i].u_star = scatterer.u_star
    sites = {i: fractionalize(tuple(site)) for i, site in second.items()}
    old = list(model.disorder)
    model.structure, model.riding, group, number = split(
        model.structure, model.riding, sites, occupancy, peaks.at, fresh
    )
    model.disorder = [renumbered(each, number) for each in old] + [group]
    try:
        model.refine(f"{len(second)} atoms in two places", n_cycles=N_CYCLES)
    except (Sorry, RuntimeError) as error:
        logger.info("No disorder: %s", error)
        return None
    occupancy = model.structure.scatterers()[group.first[0]].occupancy
    model.disorder[-1] = replace(group, occupancy=occupancy)
    return model.disorder[-1]


def renumbered(group: DisorderedGroup, number: dict[int, int]) -> DisorderedGroup:
    """The group in a structure whose scatterers have other numbers."""
    return replace(
        group,
        pairs=tuple((number[i], number[j]) for i, j in group.pairs),
        first=tuple(number[i] for i in group.first),
        second=tuple(number[i] for i in group.second),
        beside=tuple(number[i] for i in group.beside),
    )


def _places(model: TrialModel, around: _Surroundings, group: DisorderedGroup):
    """Atoms of a group as refined, by their number in the base: scatterers and second places."""
    scatterers = model.structure.scatterers()
    sites = model.structure.sites_cart()
    numbers = {s.label: i for i, s in enumerate(around.structure.scatterers())}
    first = {numbers[scatterers[i].label]: scatterers[i].customized_copy() for i, _ in group.pairs}
    second = {numbers[scatterers[i].label]: np.array(sites[j]) for i, j in group.pairs}
    return first, second


def _add_strained(model, around: _Surroundings, group: DisorderedGroup, second: dict) -> None:
    """Add the atom whose distances to the two parts differ most, where they differ too much."""
    scatterers = model.structure.scatterers()
    sites = np.array(model.structure.sites_cart())
    numbers = {s.label: i for i, s in enumerate(around.structure.scatterers())}
    strained = []
    for i, j, k, m, sigma in same_distances(model.structure, [group]):
        difference = abs(np.linalg.norm(sites[i] - sites[j]) - np.linalg.norm(sites[k] - sites[m]))
        for atom in (i, j):
            number = numbers[scatterers[atom].label]
            if number not in second and around.may_move[number]:
                strained.append((difference / sigma, number))
    if strained and max(strained)[0] > STRAINED:
        second[max(strained)[1]] = _predicted(around, second, max(strained)[1])


def _evidence(model: TrialModel, base, group: DisorderedGroup) -> Evidence:
    """Refine to the end, and say what speaks for the group."""
    result = model.refine(
        "disordered",
        n_cycles=N_FINAL_CYCLES,
        with_covariance=True,
        convergence=CONVERGED_SHIFT_OVER_ESD,
    )
    n_more = result.n_parameters - base.n_parameters
    freedom = result.n_reflections - result.n_parameters
    gain = base.wr2**2 / result.wr2**2 - 1
    scatterers = model.structure.scatterers()
    sites = np.array(model.structure.sites_cart())
    model.disorder = with_occupancies(model)
    occupancy, esd = model.disorder[-1].occupancy, model.disorder[-1].esd
    return Evidence(
        r1=(base.r1, result.r1),
        wr2=(base.wr2, result.wr2),
        n_more=n_more,
        hamilton=gain * freedom / max(n_more, 1),
        occupancy=occupancy,
        esd=esd,
        apart=max(float(np.linalg.norm(sites[j] - sites[k])) for j, k in group.pairs),
        electrons=(1 - occupancy)
        * sum(atomic_number(element_of(scatterers[j])) for j, _ in group.pairs),
    )
