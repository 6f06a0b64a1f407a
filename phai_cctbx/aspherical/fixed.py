"""Aspherical form factors fixed to the frame of a molecule, for data that do not show its shape.

Where restraints hold the geometry, the density of the molecule hardly changes as it is refined:
it is calculated once in its surroundings, and only the transform is run again when the molecule
turns.
"""

from __future__ import annotations

import logging
from dataclasses import replace

# cctbx
from cctbx import miller, xray

from phai_cctbx.aspherical.hirshfeld import FormFactors, HirshfeldResult, HirshfeldSettings, Turns
from phai_cctbx.aspherical.quantum import Quantum
from phai_cctbx.refinement.molecule_refinement import MoleculeRefinement, refine_with_table

logger = logging.getLogger(__name__)

MAX_CYCLES = 8
"""Turns of transform and refinement; two see the density calculated, the others turn it."""

CONVERGED_SHIFT = 0.003
"""Largest shift of an atom (A) in the last turn."""


def refine_with_fixed_form_factors(
    refined: MoleculeRefinement,
    f_sq: miller.array,
    f_obs: miller.array,
    quantum: Quantum,
    settings: HirshfeldSettings,
    table_path,
    seed: int = 0,
) -> tuple[MoleculeRefinement, HirshfeldResult]:
    """Refine a known molecule with the form factors of its own density, restraints and all.

    Parameters
    ----------
    refined : MoleculeRefinement
        With spherical atoms.
    f_sq, f_obs : miller.array
        Merged intensities with sigmas, and the amplitudes made of them.
    quantum : Quantum
    settings : HirshfeldSettings
    table_path : path-like
        Where the form-factor table of the last turn is kept.
    seed : int
        Of the parts of the reflections that are held out.

    Returns
    -------
    MoleculeRefinement
    HirshfeldResult

    Raises
    ------
    Sorry
        Where a calculation fails.
    """
    f_sq, f_obs = f_sq.common_sets(f_obs)
    form_factors = FormFactors(quantum, replace(settings, rigid=True))
    turns = Turns(form_factors, f_sq.indices(), table_path)
    spherical, converged = refined.refinement, False
    for number in range(1, MAX_CYCLES + 1):
        structure = refined.refinement.xray_structure
        refined = refine_with_table(refined, f_sq, f_obs, turns.renew_table(structure), seed)
        result = refined.refinement
        turns.record(result)
        shift = largest_shift(structure, result.xray_structure)
        logger.info(
            "Fixed form factors, turn %d: R1 %.4f, held-out R %.4f, largest shift %.4f A",
            number,
            result.r1,
            refined.level.held_out_r,
            shift,
        )
        if number > 2 and shift < CONVERGED_SHIFT:
            converged = True
            break
    if not converged:
        turns.warnings.append(f"Fixed form factors: atoms still move by {shift:.4f} A")
    return refined, turns.result(result, spherical, converged)


def largest_shift(before: xray.structure, after: xray.structure) -> float:
    """Largest distance (A) that an atom has moved."""
    unit_cell = before.unit_cell()
    return max(
        unit_cell.length([a - b for a, b in zip(new.site, old.site, strict=True)])
        for old, new in zip(before.scatterers(), after.scatterers(), strict=True)
    )
