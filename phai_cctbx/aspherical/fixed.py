"""Aspherical form factors fixed to the frame of a molecule, for data that do not show its shape.

Where restraints hold the geometry, the density of the molecule hardly changes as it is refined:
it is calculated once in its surroundings, and only the transform is run again when the molecule
turns.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace

import numpy as np

# cctbx
from cctbx import miller, xray

from phai_cctbx.aspherical import tables
from phai_cctbx.aspherical.hirshfeld import Cycle, FormFactors, HirshfeldResult, HirshfeldSettings
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
    started = time.time()
    f_sq, f_obs = f_sq.common_sets(f_obs)
    form_factors = FormFactors(quantum, replace(settings, rigid=True))
    spherical = refined.refinement
    cycles, table, converged = [], None, False
    for number in range(1, MAX_CYCLES + 1):
        clock = time.time()
        structure, previous = refined.refinement.xray_structure, table
        table, charge_change = form_factors(
            structure, f_sq.indices(), f"Hirshfeld atoms, {quantum.method.description()}, fixed"
        )
        warnings = tables.validate(table, structure, f_sq.indices(), "Hirshfeld form factors")
        tables.write_tsc(table_path, table)
        middle = time.time()
        refined = refine_with_table(refined, f_sq, f_obs, str(table_path), seed)
        result = refined.refinement
        shift = largest_shift(structure, result.xray_structure)
        change = np.inf if previous is None else float(np.abs(table.values - previous.values).max())
        cycles.append(
            Cycle(
                number,
                result.r1,
                result.wr2,
                float("nan"),
                change,
                charge_change,
                middle - clock,
                time.time() - middle,
            )
        )
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
        warnings.append(f"Fixed form factors: atoms still move by {shift:.4f} A")
    return refined, HirshfeldResult(
        refinement=result,
        independent_atoms=spherical,
        table=table,
        cycles=tuple(cycles),
        converged=converged,
        charges=form_factors.charges,
        cluster_radius=settings.cluster_radius,
        molecules=form_factors.molecules,
        warnings=tuple(warnings),
        seconds={
            "form_factors": sum(c.seconds_form_factors for c in cycles),
            "least_squares": sum(c.seconds_refinement for c in cycles),
            "total": time.time() - started,
        },
        fixed=True,
    )


def largest_shift(before: xray.structure, after: xray.structure) -> float:
    """Largest distance (A) that an atom has moved."""
    unit_cell = before.unit_cell()
    return max(
        unit_cell.length([a - b for a, b in zip(new.site, old.site, strict=True)])
        for old, new in zip(before.scatterers(), after.scatterers(), strict=True)
    )
