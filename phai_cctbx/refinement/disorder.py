"""Two-part disorder: modelled where second places of atoms show, and kept where it is clear.

Second places of bonded atoms make a group, which grows from one refinement to the next.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
from scipy.optimize import linear_sum_assignment

# cctbx
from cctbx.array_family import flex
from libtbx.utils import Sorry

from phai_cctbx.building.connectivity import (
    atomic_number,
    bonds,
    element_of,
    is_metal,
    u_equivalent,
)
from phai_cctbx.building.disorder import DisorderedGroup, kinds_of_hydrogens, split
from phai_cctbx.refinement.disorder_judgement import (
    MIN_WR2_GAIN,
    RESOLVED,
    disorder_line,
    doubts_about,
    refined_evidence,
)
from phai_cctbx.refinement.parts import strains
from phai_cctbx.refinement.second_places import (
    DifferencePeaks,
    Surroundings,
    clearest_place,
    crowded_sets,
    elongated_atoms,
    grow,
    halves,
    predicted_place,
)
from phai_cctbx.refinement.trial_model import TrialModel

logger = logging.getLogger(__name__)

MOST_ROUNDS, MOST_GROUPS, MOST_TRIALS = 6, 4, 4
"""Refinements in which a group grows; groups that are modelled; groups that are tried for each, by
peaks and by displacements."""

N_CYCLES = 6
"""Of least squares while a group grows."""

STRAINED = 4.0
"""Difference of distances that are restrained to be the same, over its standard deviation, beyond
which an atom that both parts share is given a second place as well."""

TERMINAL_ELEMENTS = frozenset(("C", "N", "O", "F", "Cl"))
"""Elements of atoms at the end of bonds, several of them at one atom."""


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
    while len(model.disorder) < MOST_GROUPS and _part_clearest(model):
        logger.info("%s", disorder_line(model.structure, model.disorder[-1]))


def _part_clearest(model: TrialModel) -> bool:
    """Keep the better of the first groups that may stay, by peaks and by displacements.

    True where there is one. A wrong group may be better than none: the right one is better still.
    """
    around, before = Surroundings(model), _state(model)
    peaks = DifferencePeaks(model, around)
    kept = []
    for proposed in (_by_peak, _by_displacements):
        tried: set[str] = set()
        for _ in range(MOST_TRIALS):
            candidate = proposed(model, around, peaks, tried)
            if candidate is None:
                break
            stays = _try_group(model, around, peaks, *candidate)
            if stays:
                kept.append((model.result.wr2, _state(model)))
            _restore(model, before)
            if stays:
                break
    if kept:
        _restore(model, min(kept, key=lambda each: each[0])[1])
    return bool(kept)


def _by_peak(model: TrialModel, around: Surroundings, peaks: DifferencePeaks, tried: set[str]):
    """Second place by the clearest difference peak and its density; None where there is none."""
    seed = clearest_place(around, peaks, tried)
    if seed is None:
        return None
    atom, site, height = seed
    tried.add(around.structure.scatterers()[atom].label)
    return {atom: np.array(site)}, height


def _by_displacements(
    model: TrialModel, around: Surroundings, peaks: DifferencePeaks, tried: set[str]
):
    """Second places, half the density of an atom, and first ones, by the largest displacements."""
    elongated = elongated_atoms(around, tried, RESOLVED * model.f_sq.d_min())
    if not elongated:
        return None
    tried |= {around.structure.scatterers()[i].label for i in elongated}
    first, second = halves(around, elongated)
    power = np.mean([atomic_number(around.elements[i]) for i in elongated])
    return second, peaks.of_electron * power / 2, first


def _part_crowded(model: TrialModel) -> bool:
    """Take atoms at the end of bonds that are in each other's way for two parts; true where kept.

    Fluorine atoms of a turned CF3 group, say, that were found as six atoms. All of them are taken
    for one element, the one that fits best.
    """
    around = Surroundings(model)
    for pivot, centre in enumerate(around.elements):
        sets = None if is_metal(centre) else crowded_sets(around, pivot)
        if sets is None:
            continue
        before, whole = _state(model), model.result
        trials = []
        for element in _terminal_elements(model, around, sets):
            base, second = _with_one_set(model, around, sets, element)
            model.structure, model.riding, model.disorder = base
            here = Surroundings(model)
            peaks = DifferencePeaks(model, here)
            group = _refine_split(model, here, peaks, {}, second, 0.5)
            if group is not None:
                trials.append((model.result.wr2, element))
            _restore(model, before)
        if not trials:
            continue
        base, second = _with_one_set(model, around, sets, min(trials)[1])
        model.structure, model.riding, model.disorder = base
        here = Surroundings(model)
        height = model.density_of_carbon() / 2
        if _try_group(model, here, DifferencePeaks(model, here), second, height, less=whole):
            logger.info("%s", disorder_line(model.structure, model.disorder[-1]))
            return True
        _restore(model, before)
    return False


def _terminal_elements(model: TrialModel, around: Surroundings, sets) -> list[str]:
    """Elements that atoms at the end of bonds may have here."""
    given = set(model.composition or ()) | {around.elements[i] for each in sets for i in each}
    return sorted(given & TERMINAL_ELEMENTS)


def _with_one_set(model: TrialModel, around: Surroundings, sets, element: str):
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


def _try_group(
    model: TrialModel,
    around: Surroundings,
    peaks: DifferencePeaks,
    second: dict,
    height: float,
    first: dict | None = None,
    less=None,
) -> bool:
    """Model a group with these second places, and what belongs to it; true where it stays.

    Parameters
    ----------
    model : TrialModel
    around : Surroundings
        Of the model without the group.
    peaks : DifferencePeaks
        Of the same.
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
    power = np.mean([atomic_number(around.elements[i]) for i in second])
    occupancy = 1 - min(max(height / (peaks.of_electron * power), 0.1), 0.5)
    first = dict(first or {})
    group = None
    for _ in range(MOST_ROUNDS):
        n_before = len(second)
        grow(around, peaks, second, height)
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
        peaks = DifferencePeaks(model, around)
    if group is not None and len(second) <= around.largest_group:
        stale = _stale_hydrogens(model, around, group, peaks)
        if stale:
            _restore(model, before)
            group = _refine_split(model, around, peaks, first, second, occupancy, stale)
    names = ", ".join(around.structure.scatterers()[i].label for i in second)
    doubts = ["they do not end"]
    if group is not None and len(second) <= around.largest_group:
        evidence = refined_evidence(model, base, group)
        logger.debug("%s: %s", names, evidence)
        doubts = doubts_about(model, evidence)
    if doubts:
        logger.info("Second places of %s are not kept: %s", names, ", ".join(doubts))
        _restore(model, before)
        model.record("taken back")
        return False
    return True


def _state(model: TrialModel):
    return (
        model.structure, model.result, list(model.riding), list(model.disorder), model.extinction,
        model.twin,
    )  # fmt: skip


def _restore(model: TrialModel, state) -> None:
    model.structure, model.result, riding, disorder, model.extinction, model.twin = state
    model.riding, model.disorder = list(riding), list(disorder)


def _stale_hydrogens(model, around: Surroundings, group: DisorderedGroup, peaks) -> set[int]:
    """Carbon atoms of a group or beside it, by number in the base, that have other hydrogens now.

    The mean of two places has not their geometry.
    """
    kinds = {riding.pivot: riding.kind for riding in model.riding}
    structure = model.structure.deep_copy_scatterers()
    first = [i for i in range(structure.scatterers().size()) if i not in set(group.second)]
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
        around.number[alone.scatterers()[k].label]
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


def _places(model: TrialModel, around: Surroundings, group: DisorderedGroup):
    """Atoms of a group as refined, by their number in the base: scatterers and second places."""
    scatterers = model.structure.scatterers()
    sites = model.structure.sites_cart()
    number = [(around.number[scatterers[i].label], i, j) for i, j in group.pairs]
    first = {n: scatterers[i].customized_copy() for n, i, _ in number}
    second = {n: np.array(sites[j]) for n, _, j in number}
    return first, second


def _add_strained(model, around: Surroundings, group: DisorderedGroup, second: dict) -> None:
    """Add the atom whose distances to the two parts differ most, where they differ too much."""
    scatterers = model.structure.scatterers()
    strained = []
    for strain, *pair in strains(model.structure, group):
        for atom in pair:
            number = around.number[scatterers[atom].label]
            if number not in second and around.may_move[number]:
                strained.append((strain, number))
    if strained and max(strained)[0] > STRAINED:
        second[max(strained)[1]] = predicted_place(around, second, max(strained)[1])
