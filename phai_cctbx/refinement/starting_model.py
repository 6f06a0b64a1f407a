"""Phases to an isotropic model.

Peaks of recycled phases become trial atoms; cycles of least squares, element assignment,
pruning and difference maps go on until nothing changes.
"""

from __future__ import annotations

import numpy as np

# cctbx
from cctbx import miller
from cctbx.array_family import flex

from phai_cctbx.building.connectivity import HYDROGENS, contacts, element_of
from phai_cctbx.building.elements import assign_elements
from phai_cctbx.refinement.difference_atoms import add_atoms, prune
from phai_cctbx.refinement.element_trials import element_sites, exchange, relabel
from phai_cctbx.refinement.recycling import n_sites_filling, recycle
from phai_cctbx.refinement.trial_model import (
    U_START,
    Step,
    TrialModel,
    build_structure,
    expected_atoms,
    with_elements,
)

RECYCLING_TURNS = 20
"""Most turns of peaks and phases."""

ROUNDS, ROUNDS_OF_FEW = 8, 20
"""Rounds of refinement and difference maps at most: blurred maps show fewer atoms at a time."""

MOST_STALLED = 4
"""Rounds without a better R1 that end it: atoms come and go."""

R1_GOOD_START = 0.30
"""Isotropic R1 of a start that needs no other beside it."""

R1_HOPELESS = 0.45
"""Isotropic R1 above which a model that no longer improves is given up."""

MIN_TRIAL_HEIGHT = 0.45
"""Lowest peak, over the median of expected atoms, that becomes a trial atom."""

RIPPLE_DISTANCE, RIPPLE_RATIO = 1.35, 3.0
"""A peak this close (A) to one so many times higher is a ripple of the series."""

MEAN_POWER_OVER_CARBON = 1.08
"""Median scattering power of the atoms of most molecular crystals over that of carbon."""


def best_start(model: TrialModel, f_obs: miller.array, phasing_result) -> None:
    """Isotropic model from recycled phases or, where that fails, from the phases as they are.

    Parameters
    ----------
    model : TrialModel
        Empty; receives structure, refinement and history.
    f_obs : miller.array
        Amplitudes of all reflections.
    phasing_result : PhasingResult
    """
    n_atoms = expected_atoms(model.f_sq, model.composition, model.radiation)
    starts = []
    for n_turns in (RECYCLING_TURNS, 1):
        trial = recycle(
            f_obs,
            phasing_result.f_phased,
            phasing_result.confidence,
            n_atoms,
            n_turns=n_turns,
            both_signs=model.radiation == "neutron",
        )
        model.history.append(
            Step(
                f"peaks after {trial.n_turns} turns, correlation of E {trial.cc:.3f}",
                float("nan"),
                len(trial.peaks),
            )
        )
        for elements_by in _ways_to_elements(model):
            _first_model(model, trial, elements_by)
            refine_isotropic(model)
            if model.few_reflections and not is_hopeless(model):
                if exchange(model, "isotropic, elements exchanged"):
                    refine_isotropic(model)
            starts.append((model.badness(), model.structure, model.result))
        if model.result.r1 < R1_GOOD_START:
            break
    _, model.structure, model.result = min(starts, key=lambda start: start[0])


def _ways_to_elements(model: TrialModel):
    """Functions (structure, scattering powers) -> elements.

    With few reflections heights are so uncertain that their order, with the composition taken as it
    is, is another start (as in Sheldrick, Acta Cryst. A71, 3, 2015).
    """

    def by_power(structure, z):
        return assign_elements(
            element_sites(structure, z),
            model.composition,
            model.order,
            fit_scale=True,
            relative_error=0.18,
            radiation=model.radiation,
            certainty=model.certainty_of_contents,
        )

    def by_order(structure, z):
        return elements_in_order(
            z,
            [scatterer.weight() for scatterer in structure.scatterers()],
            _given(model),
            model.power,
        )

    known = set(model.composition or ()) - HYDROGENS
    if model.few_reflections and known and model.radiation != "neutron":
        return by_power, by_order
    return (by_power,)


def elements_in_order(z, shares, contents: dict[str, float], power) -> list[str]:
    """Elements of the contents, the strongest scatterers for the highest peaks.

    Parameters
    ----------
    z : array, shape (n,)
        Scattering powers.
    shares : sequence of float, shape (n,)
        Atoms per asymmetric unit that each site stands for.
    contents : dict
        Atoms per asymmetric unit.
    power : callable
        Element -> scattering power.

    Returns
    -------
    list of str
        Sites beyond the contents are of the weakest element.
    """
    left = dict(sorted(contents.items(), key=lambda item: -power(item[0])))
    elements = [""] * len(z)
    for i in np.argsort(-np.asarray(z), kind="stable"):
        enough = [element for element, n in left.items() if n >= shares[i] / 2]
        elements[i] = enough[0] if enough else list(left)[-1]
        left[elements[i]] -= shares[i]
    return elements


def _first_model(model: TrialModel, trial, elements_by) -> None:
    """Elements of trial atoms by their heights; low peaks and ripples are left out."""
    sites, heights = trial.peaks.sites, trial.peaks.heights
    strength = np.abs(heights)
    structure = build_structure(model.f_sq.crystal_symmetry(), sites, ["C"] * len(heights), U_START)
    n_most = int(1.2 * expected_atoms(model.f_sq, model.composition, model.radiation)) + 2
    ripples = {
        i
        for i, near in enumerate(contacts(structure, RIPPLE_DISTANCE))
        for n in near
        if strength[n.index] > RIPPLE_RATIO * strength[i]
    }
    keep = [i for i in range(len(heights)) if strength[i] > MIN_TRIAL_HEIGHT and i not in ripples]
    structure = structure.select(flex.size_t(keep))
    shares = np.array([scatterer.weight() for scatterer in structure.scatterers()])
    keep = keep[: n_sites_filling(shares, n_most)]
    structure = structure.select(flex.size_t_range(len(keep)))
    z = MEAN_POWER_OVER_CARBON * model.power("C") * heights[keep]
    model.structure = with_elements(structure, elements_by(structure, z))


def is_hopeless(model: TrialModel) -> bool:
    """Whether the last refinement fits no better than a wrong model with as many parameters.

    n parameters take their share of the misfit of N reflections: sqrt(1 - n/N) of it is left.
    """
    result = model.result
    freedom = 1 - result.n_parameters / result.n_reflections
    return result.r1 > R1_HOPELESS * np.sqrt(max(freedom, 0.0))


def refine_isotropic(model: TrialModel) -> None:
    """Least squares, pruning, elements and difference maps in turns until nothing changes."""
    previous = best = float("inf")
    n_stalled = 0
    n_rounds = ROUNDS_OF_FEW if model.few_reflections else ROUNDS
    for round_number in range(1, n_rounds + 1):
        model.refine(f"isotropic, round {round_number}", n_cycles=6)
        changes = prune(model)
        if changes:
            model.refine("without atoms of no density", n_cycles=4)
        r1 = model.result.r1
        hopeless = is_hopeless(model)
        if hopeless and round_number > 2 and r1 > previous - 0.02:
            break
        if not hopeless:
            changes += relabel(model, "isotropic, other elements")
        added = add_atoms(model) or (not hopeless and _add_what_lacks(model))
        if not (changes or added) or (not added and r1 > previous - 0.001):
            break
        n_stalled = 0 if r1 < best - 0.001 else n_stalled + 1
        if n_stalled == MOST_STALLED:
            break
        best = min(best, r1)
        previous = r1
    if model.changed:
        model.refine("isotropic, last", n_cycles=6)


def _add_what_lacks(model: TrialModel) -> int:
    """Add the highest difference peaks, as many as atoms lack, where the composition counts more.

    They are kept where they make the model likelier.
    """
    if not (model.few_reflections and model.composition) or model.radiation == "neutron":
        return 0
    lacking = [
        element
        for element, (found, given) in model.differences_from_composition().items()
        for _ in range(round(given - found))
    ]
    n_heavy = sum(model.structure.scatterers()[i].weight() for i in model.heavy_atoms())
    n_lacking = round(sum(_given(model).values()) - n_heavy)
    if min(n_lacking, len(lacking)) < 1:
        return 0
    before = (model.structure, model.result, model.badness())
    n_before = model.structure.scatterers().size()
    n_new = add_atoms(model, 0.0, min(n_lacking, len(lacking)))
    if n_new:
        elements = [element_of(scatterer) for scatterer in model.structure.scatterers()]
        elements[n_before:] = sorted(lacking, key=model.power, reverse=True)[:n_new]
        model.structure = with_elements(model.structure, elements)
        model.refine("atoms that lack", n_cycles=6)
        if model.badness() < before[2]:
            return n_new
        model.structure, model.result = before[:2]
        model.record("taken back")
    return 0


def _given(model: TrialModel) -> dict[str, float]:
    """Non-hydrogen atoms per asymmetric unit that the composition names."""
    return {e: n / model.order for e, n in model.composition.items() if e not in HYDROGENS}
