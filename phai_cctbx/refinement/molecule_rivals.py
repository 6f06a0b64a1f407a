"""How far a refined molecule is ahead of its other placements, refined in their turn.

Rigid conformers have errors that a refinement takes away: what lies close behind as placed may
become the same structure, or fall far behind.
"""

from __future__ import annotations

import logging
import math

import numpy as np

# cctbx
from cctbx import miller
from libtbx.utils import Sorry

from phai_cctbx.building.molecule_placement import PlacementResult, same_amplitudes
from phai_cctbx.building.molecule_pose import Diffraction, agreement
from phai_cctbx.refinement.molecule_refinement import (
    MoleculeRefinement,
    crystal_model,
    refine_by_plan,
)

logger = logging.getLogger(__name__)


def refined_gap(
    f_sq: miller.array,
    f_obs: miller.array,
    placed: PlacementResult,
    refined: MoleculeRefinement,
    radiation: str = "xray",
    wavelength: float | None = None,
) -> float:
    """log-likelihood of the best placement minus that of the nearest other; inf without one.

    n/2 ln of the ratio of residuals, as in `PlacementResult.log_likelihood_gap`.

    Parameters
    ----------
    f_sq, f_obs : cctbx.miller.array
        As for `refine_molecule`.
    placed : PlacementResult
    refined : MoleculeRefinement
        Of ``placed.best``.
    radiation : {"xray", "electron", "neutron"}
    wavelength : float, optional
        A.
    """
    f_sq, f_obs = f_sq.common_sets(f_obs)
    observed = f_obs.data().as_numpy_array()
    elements = {e for pose in placed.best.poses for e in pose.molecule.elements}
    diffraction = Diffraction(f_obs, elements, radiation)
    best = _amplitudes(f_obs, refined.refinement.xray_structure)
    best_residual = agreement(observed, best)["residual"]
    gaps = []
    for rival in placed.rivals:
        model = crystal_model(rival, diffraction, f_obs, radiation, wavelength)
        try:
            result = refine_by_plan(model, f_sq, refined.plan)
        except (Sorry, RuntimeError) as error:
            logger.info("A rival placement cannot be refined (%s): no rival.", error)
            continue
        amplitudes = _amplitudes(f_obs, result.xray_structure)
        if not same_amplitudes(amplitudes, best):
            residual = agreement(observed, amplitudes)["residual"]
            gaps.append(0.5 * len(observed) * math.log(residual / max(best_residual, 1e-9)))
    return min(gaps, default=math.inf)


def _amplitudes(f_obs, structure) -> np.ndarray:
    f_calc = f_obs.structure_factors_from_scatterers(structure, algorithm="direct").f_calc()
    return np.abs(f_calc.data().as_numpy_array())
