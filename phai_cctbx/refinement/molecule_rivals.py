"""How far a refined molecule is ahead of its other placements, refined in their turn.

Rigid conformers have errors that a refinement takes away: what lies close behind as placed may
become the same structure, or fall far behind.
"""

from __future__ import annotations

import logging
import math

# cctbx
from cctbx import miller
from libtbx.utils import Sorry

from phai_cctbx.building.molecule_placement import PlacementResult, same_amplitudes
from phai_cctbx.building.molecule_pose import Diffraction
from phai_cctbx.refinement.molecule_judgement import log_likelihood_gain
from phai_cctbx.refinement.molecule_refinement import (
    MoleculeRefinement,
    calculated_amplitudes,
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
    best = calculated_amplitudes(refined.refinement.xray_structure, f_obs)
    gaps = []
    for rival in placed.rivals:
        model = crystal_model(rival, diffraction, f_obs, radiation, wavelength)
        try:
            result = refine_by_plan(model, f_sq, refined.plan)
        except (Sorry, RuntimeError) as error:
            logger.info("A rival placement cannot be refined (%s): no rival.", error)
            continue
        amplitudes = calculated_amplitudes(result.xray_structure, f_obs)
        if not same_amplitudes(amplitudes, best):
            gaps.append(log_likelihood_gain(observed, best, amplitudes))
    return min(gaps, default=math.inf)
