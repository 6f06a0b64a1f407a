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

# cctbx
from cctbx import xray
from libtbx.utils import Sorry

from phai_cctbx.building.connectivity import (
    HYDROGENS,
    atomic_number,
    bonds,
    contacts,
    element_of,
    is_metal,
)
from phai_cctbx.building.disorder import DisorderedGroup, split
from phai_cctbx.building.peaks import find_peaks, fourier_map
from phai_cctbx.refinement.maps import difference_coefficients
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

APART = 0.35
"""Second places that come closer (A) are none: the atom is common to both parts."""

LARGEST_GROUP = 16
"""Atoms other than hydrogen of a group."""

MOST_ROUNDS, MOST_GROUPS, MOST_TRIALS = 6, 4, 6
"""Refinements in which a group grows; groups that are modelled, and that are tried."""

N_PEAKS, N_CYCLES, N_FINAL_CYCLES = 40, 6, 10
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
        self.may_move = [
            element not in HYDROGENS and not is_metal(element) and not parts[i] and not special(i)
            for i, element in enumerate(self.elements)
        ]
        self.bonded = [
            [
                n.index
                for n in near
                if self.elements[n.index] not in HYDROGENS and n.operator.is_unit_mx()
            ]
            for near in bonds(self.structure, base.parts)
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

    Parameters
    ----------
    model : TrialModel
        Refined with its hydrogens; atoms, hydrogens, disorder and result may change.
    """
    tried: set[str] = set()
    for _ in range(MOST_TRIALS):
        if len(model.disorder) == MOST_GROUPS:
            return
        around = _Surroundings(model)
        seed = _seed(model, around, tried)
        if seed is None:
            return
        label = model.structure.scatterers()[seed[0]].label
        tried.add(label)
        _try_group(model, around, *seed)


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


def _try_group(model: TrialModel, around: _Surroundings, atom: int, site, height: float) -> bool:
    """Model the group that one second place belongs to; true where it stays."""
    before = _state(model)
    base_result = model.result
    peaks = _Peaks(model, around)
    second = {atom: np.array(site)}
    share = height / (peaks.of_electron * atomic_number(around.elements[atom]))
    occupancy = 1 - min(max(share, 0.1), 0.5)
    group = None
    for _ in range(MOST_ROUNDS):
        n_before = len(second)
        _grow(around, peaks, second, FOLLOWING_SHARE * height)
        if len(second) > LARGEST_GROUP or (group is not None and len(second) == n_before):
            break
        _restore(model, before)
        group = _refine_split(model, around, peaks, second, occupancy)
        if group is None:
            _restore(model, before)
            return False
        occupancy = min(max(group.occupancy, 0.5), 0.95)
        second = _second_places(model, around, group)
        peaks = _Peaks(model, around)
    names = ", ".join(around.structure.scatterers()[i].label for i in second)
    if len(second) > LARGEST_GROUP:
        logger.info("Second places of %s do not end", names)
        _restore(model, before)
        return False
    evidence = _evidence(model, base_result, group)
    print(names, evidence)
    return True


def _state(model: TrialModel):
    return (
        model.structure, model.result, list(model.riding), list(model.disorder), model.extinction,
        model.twin,
    )  # fmt: skip


def _restore(model: TrialModel, state) -> None:
    model.structure, model.result, riding, disorder, model.extinction, model.twin = state
    model.riding, model.disorder = list(riding), list(disorder)


def _grow(around: _Surroundings, peaks: _Peaks, second: dict, least: float) -> None:
    """Add the second places of neighbours: peaks, and places where bonds would bend otherwise."""
    changed = True
    while changed and len(second) <= LARGEST_GROUP:
        changed = False
        near = set().union(*(around.within_two_bonds(i) for i in second)) - set(second)
        options = []
        for i in near:
            if not around.may_move[i]:
                continue
            for site, height, _ in peaks.beside[i]:
                misfit = _misfit(around, second, i, site)
                taken = any(np.linalg.norm(site - other) < 0.5 for other in second.values())
                if height > least and misfit < MATCH and not taken:
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
                if bent > BENT:
                    second[j] = _predicted(around, second, j)
                    changed = True


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


def _refine_split(model, around, peaks, second, occupancy) -> DisorderedGroup | None:
    """Refine with second places; None where least squares fail."""
    fractionalize = around.unit_cell.fractionalize
    sites = {i: fractionalize(tuple(site)) for i, site in second.items()}
    old = list(model.disorder)
    model.structure, model.riding, group, number = split(
        model.structure, model.riding, sites, occupancy, peaks.at
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
    )


def _second_places(model: TrialModel, around: _Surroundings, group: DisorderedGroup) -> dict:
    """Second places as refined, by the number of the atom in the base."""
    scatterers = model.structure.scatterers()
    sites = model.structure.sites_cart()
    numbers = {s.label: i for i, s in enumerate(around.structure.scatterers())}
    return {numbers[scatterers[i].label]: np.array(sites[j]) for i, j in group.pairs}


def _evidence(model: TrialModel, base, group: DisorderedGroup) -> Evidence:
    """Refine to the end, and say what speaks for the group."""
    result = model.refine("disordered", n_cycles=N_FINAL_CYCLES, with_covariance=True)
    n_more = result.n_parameters - base.n_parameters
    freedom = result.n_reflections - result.n_parameters
    gain = base.wr2**2 / result.wr2**2 - 1
    scatterers = model.structure.scatterers()
    sites = np.array(model.structure.sites_cart())
    i = group.first[0]
    esd = float("nan")
    if result.covariance is not None:
        parameter = result.xray_structure.parameter_map()[i].occupancy
        diagonal = result.covariance.matrix.matrix_packed_u_diagonal()
        esd = float(np.sqrt(max(diagonal[parameter], 0)))
    occupancy = scatterers[i].occupancy
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
