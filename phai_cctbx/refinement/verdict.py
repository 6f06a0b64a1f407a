"""Whether a refined structure is a solution, and what its user should know of it.

A crystallographer goes on from a structure that fits, or whose misfit nothing else confirms.
The limits of R factors and of difference density are those at which checkCIF raises its alerts A
(serious) and B (potentially serious): procedures RFACG01, RFACR01, DIFMX02 and DIFMN02
(https://journals.iucr.org/services/cif/checking/autolist.html). Where the data end so early that
checkCIF alerts to it, more is asked (`few_reflections`).
"""

from __future__ import annotations

import logging

import numpy as np

# cctbx
from cctbx import xray

from phai_cctbx.building.connectivity import (
    HYDROGENS,
    atomic_number,
    bonded,
    closest_approach,
    contacts,
    element_of,
    is_metal,
    parts_meet,
    principal_u,
    u_equivalent,
)
from phai_cctbx.refinement.analysis import missed_symmetry
from phai_cctbx.refinement.difference_atoms import U_PRUNE
from phai_cctbx.refinement.disorder_judgement import disorder_line, with_occupancies
from phai_cctbx.refinement.few_reflections import contents_doubts, prediction_doubts
from phai_cctbx.refinement.least_squares import RefinementResult
from phai_cctbx.refinement.trial_model import TrialModel, cell_contents

logger = logging.getLogger(__name__)

R1_SOLVED, WR2_SOLVED = 0.20, 0.45
"""Alerts A: beyond, nothing else counts. Wrong structures seldom have an R1 below 0.35."""

R1_GOOD, WR2_GOOD = 0.15, 0.35
"""Alerts B: between these and the former, a second kind of evidence decides."""

R1_PLAIN, WR2_PLAIN = 0.10, 0.25
"""Alerts C: up to here a structure may lack atoms of the composition, which is taken for wrong."""

ELEMENTS_IN_DOUBT_D_MIN = 1.3
"""Data that end before (A) fit structures with exchanged elements well: alerts C forbid them.
Two exchanged elements at 1.5 A gave wR2 0.26 to 0.33, structures with all hydrogens right at most
0.20."""

KINEMATIC_ALLOWANCE = 1.5
"""All four limits are so many times higher for electrons and neutrons, where multiple scattering
and absorption add their share."""

DENSITY_PER_ELECTRON = 0.1
"""Alerts B: difference density (e/A^3) over the atomic number of the heaviest element."""

MOST_ATOMS_AMISS = 0.2
"""Part of the atoms of the composition that may lack, or be too many, in a structure that fits
badly: a molecule of solvent is as much, and often not in the formula that was given."""

MIN_BONDED_SHARE_OF_BAD_FIT = 0.9
"""Least share of atoms with sensible surroundings where the structure fits badly."""

MIN_BONDED_SHARE = 0.75
"""Least share of atoms with sensible surroundings in a solution; disorder costs some."""

LONGEST_CONTACT = 3.2
"""Distance (A) beyond which nothing is bonded."""

DISORDER_U, DISORDER_RATIO = 0.20, 3.5
"""Largest principal U (A^2), and over the median, beyond which an atom may be disordered."""


def bonded_share(structure: xray.structure, parts=None) -> float:
    """Share of the non-hydrogen atoms with a sensible surrounding.

    An atom counts that has a bond, or is a metal, halogen or oxygen (ions, water), and that no
    other atom is too close to.

    Parameters
    ----------
    structure : xray.structure
    parts : sequence of int, optional
        SHELX PART of each scatterer; parts other than 0 do not meet.

    Returns
    -------
    float
        0 to 1; 0 for a structure without such atoms.
    """
    elements = [element_of(s) for s in structure.scatterers()]
    parts = parts or [0] * len(elements)
    heavy = {i for i, element in enumerate(elements) if element not in HYDROGENS}
    near = contacts(structure, LONGEST_CONTACT)
    sensible = 0
    for i in heavy:
        distances = [
            (elements[n.index], n.distance)
            for n in near[i]
            if n.index in heavy and parts_meet(parts[i], parts[n.index])
        ]
        close = any(d < closest_approach(elements[i], e) for e, d in distances)
        alone = not any(bonded(elements[i], e, d) for e, d in distances)
        may_be_alone = is_metal(elements[i]) or elements[i] in ("O", "F", "Cl", "Br", "I")
        sensible += not close and (may_be_alone or not alone)
    return sensible / len(heavy) if heavy else 0.0


def judge(
    model: TrialModel, result: RefinementResult, peak: float, hole: float
) -> tuple[bool, list[str]]:
    """Whether the structure is a solution, and what speaks against it.

    R factors beyond checkCIF's alerts A, atoms without sensible surroundings or huge
    displacements each forbid it. R factors beyond alerts B forbid it together with one of:
    difference density beyond alert B, too few or too many atoms for the composition, and some
    atoms without sensible surroundings. Beyond alerts C too few atoms forbid it. Where the data end
    early, alerts B forbid it by themselves, or alerts C where they end very early, and the doubts
    of `few_reflections` are added.

    Parameters
    ----------
    model : TrialModel
    result : RefinementResult
        Of its last refinement.
    peak, hole : float
        Of the last difference density, e/A^3; judged with X-rays only.

    Returns
    -------
    solved : bool
    doubts : list of str
        All that speaks against it; empty for a solution.
    """
    share = bonded_share(model.structure, model.parts)
    few = model.few_reflections
    least_share = MIN_BONDED_SHARE_OF_BAD_FIT if few else MIN_BONDED_SHARE
    doubts = _misfit(model, result, R1_SOLVED, WR2_SOLVED)
    elements_hide = few and model.f_sq.d_min() > ELEMENTS_IN_DOUBT_D_MIN
    limits = (R1_PLAIN, WR2_PLAIN) if elements_hide else (R1_GOOD, WR2_GOOD)
    bad_fit = _misfit(model, result, *limits)
    if few:
        doubts = bad_fit + _unexplained_density(model, peak, hole) + contents_doubts(model)
        if not doubts:
            doubts = prediction_doubts(model, result, R1_SOLVED * _allowance(model))
    elif bad_fit:
        least_share = MIN_BONDED_SHARE_OF_BAD_FIT
        confirmed = _unexplained_density(model, peak, hole) + _atoms_amiss(model)
        if doubts or confirmed or share < least_share:
            doubts = bad_fit + confirmed
    elif _misfit(model, result, R1_PLAIN, WR2_PLAIN):
        doubts = _atoms_amiss(model, too_many=False)
    if share < least_share:
        doubts.append(f"only {share:.0%} of the atoms have sensible surroundings")
    unit_cell = model.structure.unit_cell()
    u_values = [u_equivalent(s, unit_cell) for s in model.structure.scatterers()]
    if np.median(u_values) > U_PRUNE:
        doubts.append(f"median displacement {np.median(u_values):.2f} A^2")
    return not doubts, doubts


def _misfit(model: TrialModel, result: RefinementResult, r1_limit, wr2_limit) -> list[str]:
    """R factors beyond their limits; R1 is raised to what the degrees of freedom leave of it."""
    allowance = _allowance(model)
    freedom = result.n_observed / max(result.n_observed - result.n_parameters, 1)
    r1 = result.r1 * np.sqrt(freedom)
    misfit = []
    if r1 > allowance * r1_limit:
        misfit.append(f"R1 {result.r1:.3f}, {r1:.3f} for the degrees of freedom")
    if result.wr2 > allowance * wr2_limit:
        misfit.append(f"wR2 {result.wr2:.3f}")
    return misfit


def _allowance(model: TrialModel) -> float:
    """How many times the limits of R factors are higher than for X-rays."""
    return 1.0 if model.radiation == "xray" else KINEMATIC_ALLOWANCE


def _unexplained_density(model: TrialModel, peak: float, hole: float) -> list[str]:
    """Difference density that is high for the heaviest element."""
    if model.radiation != "xray":
        return []
    heaviest = max(atomic_number(element_of(s)) for s in model.structure.scatterers())
    if max(peak, -hole) <= DENSITY_PER_ELECTRON * heaviest:
        return []
    return [f"difference density from {hole:.2f} to {peak:.2f} e/A^3 is not explained"]


def _atoms_amiss(model: TrialModel, too_many: bool = True) -> list[str]:
    """Far fewer (or more) atoms than the composition, where there is one that fits the volume."""
    unseen = frozenset() if model.radiation == "neutron" else HYDROGENS
    contents = model.contents_that_fit()
    if not contents:
        return []
    given = sum(n for element, n in contents.items() if element not in unseen)
    scatterers = model.structure.scatterers()
    found = sum(scatterers[i].weight() for i in model.heavy_atoms())
    surplus = found - given
    if (surplus if too_many and surplus > 0 else -surplus) <= MOST_ATOMS_AMISS * given:
        return []
    return [f"{found:.3g} atoms in the asymmetric unit where {given:.3g} are expected"]


def report_symmetry(model: TrialModel, result: RefinementResult) -> None:
    """Warn of symmetry that the structure has beyond its space group."""
    try:
        missed = missed_symmetry(result.f_calc, model.f_sq)
    except (AssertionError, RuntimeError) as error:
        logger.warning("Missed symmetry was not looked for: %r", error)
        return
    if missed is not None:
        model.warnings.append(
            f"The structure has the symmetry of {missed.space_group} (in the axes of its P1 cell, "
            f"intensities agree to R {missed.r_merge:.3f}): solve it in that group."
        )


def report_disorder(model: TrialModel) -> None:
    """Name the groups that have two parts, and atoms whose displacements are too large for one."""
    for group in with_occupancies(model):
        model.warnings.append(disorder_line(model.structure, group))
    unit_cell = model.structure.unit_cell()
    heavy = [model.structure.scatterers()[i] for i in model.heavy_atoms()]
    largest = {s.label: max(principal_u(s, unit_cell)) for s in heavy}
    limit = max(DISORDER_U, DISORDER_RATIO * float(np.median(list(largest.values()))))
    spread = [label for label, u in largest.items() if u > limit]
    if spread:
        model.warnings.append(f"Large displacements, perhaps disorder: {', '.join(spread)}.")


def report_composition(model: TrialModel) -> None:
    """Say what was found where no composition was given or its heavy atoms are others."""
    found = cell_contents(model.structure)
    formula = " ".join(
        f"{element}{count / model.order:.3g}" for element, count in sorted(found.items())
    )
    if not model.composition:
        model.warnings.append(f"No composition was given; found, per asymmetric unit: {formula}.")
