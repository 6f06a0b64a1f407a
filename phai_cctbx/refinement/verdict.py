"""Whether a refined structure is a solution, and what its user should know of it.

R1, the surroundings of the atoms and their displacements decide; missed symmetry, disorder and
the composition found are reported.
"""

from __future__ import annotations

import logging

import numpy as np

# cctbx
from cctbx import adptbx, xray

from phai_cctbx.building.connectivity import (
    HYDROGENS,
    bonded,
    closest_approach,
    contacts,
    element_of,
    is_metal,
    u_equivalent,
)
from phai_cctbx.refinement.analysis import missed_symmetry
from phai_cctbx.refinement.difference_atoms import U_PRUNE
from phai_cctbx.refinement.least_squares import RefinementResult
from phai_cctbx.refinement.trial_model import TrialModel, cell_contents

logger = logging.getLogger(__name__)

R1_SOLVED = 0.20
"""A complete small-molecule structure has a lower R1; wrong ones seldom come below 0.35."""

R1_SOLVED_KINEMATIC = 0.30
"""The same for electrons and neutrons, where multiple scattering and absorption add their share."""

MIN_BONDED_SHARE = 0.75
"""Least share of atoms with sensible surroundings in a solution; disorder costs some."""

LONGEST_CONTACT = 3.2
"""Distance (A) beyond which nothing is bonded."""

DISORDER_U, DISORDER_RATIO = 0.20, 3.5
"""Largest principal U (A^2), and over the median, beyond which an atom may be disordered."""


def bonded_share(structure: xray.structure) -> float:
    """Share of the non-hydrogen atoms with a sensible surrounding.

    An atom counts that has a bond, or is a metal, halogen or oxygen (ions, water), and that no
    other atom is too close to.

    Returns
    -------
    float
        0 to 1; 0 for a structure without such atoms.
    """
    elements = [element_of(s) for s in structure.scatterers()]
    heavy = [i for i, element in enumerate(elements) if element not in HYDROGENS]
    near = contacts(structure, LONGEST_CONTACT)
    sensible = 0
    for i in heavy:
        distances = [(elements[n.index], n.distance) for n in near[i] if n.index in set(heavy)]
        close = any(d < closest_approach(elements[i], e) for e, d in distances)
        alone = not any(bonded(elements[i], e, d) for e, d in distances)
        may_be_alone = is_metal(elements[i]) or elements[i] in ("O", "F", "Cl", "Br", "I")
        sensible += not close and (may_be_alone or not alone)
    return sensible / len(heavy) if heavy else 0.0


def judge(model: TrialModel, result: RefinementResult, peak: float) -> tuple[bool, list[str]]:
    """Whether the structure is a solution, and what speaks against it."""
    doubts = []
    freedom = result.n_observed / max(result.n_observed - result.n_parameters, 1)
    r1 = result.r1 * np.sqrt(freedom)
    limit = R1_SOLVED if model.radiation == "xray" else R1_SOLVED_KINEMATIC
    if r1 > limit:
        doubts.append(f"R1 {result.r1:.3f}, {r1:.3f} for the degrees of freedom")
    share = bonded_share(model.structure)
    if share < MIN_BONDED_SHARE:
        doubts.append(f"only {share:.0%} of the atoms have sensible surroundings")
    unit_cell = model.structure.unit_cell()
    u_values = [u_equivalent(s, unit_cell) for s in model.structure.scatterers()]
    if np.median(u_values) > U_PRUNE:
        doubts.append(f"median displacement {np.median(u_values):.2f} A^2")
    return not doubts, doubts


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
    """Name the atoms whose displacements are too large for one site."""
    unit_cell = model.structure.unit_cell()
    largest = {}
    for i in model.heavy_atoms():
        scatterer = model.structure.scatterers()[i]
        largest[scatterer.label] = scatterer.u_iso
        if scatterer.flags.use_u_aniso():
            u_cart = adptbx.u_star_as_u_cart(unit_cell, scatterer.u_star)
            largest[scatterer.label] = max(adptbx.eigenvalues(u_cart))
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
