"""The hand of an acentric crystal: told from Friedel mates, turned where it is wrong, refined.

From here on the model is refined against intensities with Friedel mates apart. x is the share of
the inverted structure: estimated from pairs (`analysis.absolute_structure`), and refined with
everything else as the fraction of a twin by inversion (Flack, Acta Cryst. A39, 876, 1983).
"""

from __future__ import annotations

import logging
from dataclasses import replace

# cctbx
from cctbx import miller, sgtbx
from libtbx.utils import Sorry

from phai_cctbx.building.connectivity import assemble
from phai_cctbx.refinement.analysis import AbsoluteStructure, absolute_structure
from phai_cctbx.refinement.full_refinement import update_weights
from phai_cctbx.refinement.trial_model import TrialModel
from phai_cctbx.refinement.twinning import INVERSION, Twin

logger = logging.getLogger(__name__)

FLACK_START, FLACK_CYCLES = 0.2, 5
"""Where the refinement of x begins, and its cycles."""

TWIN_ESDS, TWIN_FRACTION = 5.0, 0.05
"""x this many esds and this much away from 0 and 1 is a twin by inversion."""


def settle_hand(model: TrialModel, f_sq_anomalous: miller.array) -> None:
    """Turn the model to its hand and refine x; leave it with Friedel mates apart.

    Parameters
    ----------
    model : TrialModel
        Refined; its data, structure, result, twin, absolute structure and warnings may change.
    f_sq_anomalous : miller.array
        Its intensities with Friedel mates apart.
    """
    averaged = model.f_sq
    model.f_sq, model.imaginary = f_sq_anomalous, True
    model.prepare_scattering()
    estimate = _estimate(model)
    if estimate is None:
        model.f_sq, model.imaginary = averaged, False
        model.prepare_scattering()
        return
    if estimate.inverted:
        _invert(model)
    model.refine("Friedel mates apart", n_cycles=4)
    update_weights(model)
    model.absolute_structure = _with_flack(model, _estimate(model) or estimate)
    _report(model)


def change_hand(array: miller.array, space_group: sgtbx.space_group) -> miller.array:
    """A reflection array of the inverted crystal, where that has another space group.

    Parameters
    ----------
    array : miller.array
        Friedel mates together.
    space_group : sgtbx.space_group
        That of the array, or its enantiomorph.
    """
    if array.space_group() == space_group:
        return array
    inversion = array.space_group_info().type().change_of_hand_op()
    return array.change_basis(inversion).map_to_asu()


def _invert(model: TrialModel) -> None:
    """The inverted structure, in the enantiomorphic group where there is one."""
    model.structure = assemble(model.structure.change_hand())
    group = model.structure.space_group_info()
    if group.group() != model.f_sq.space_group():
        model.warnings.append(
            f"The hand of the crystal is that of {group}, not of"
            f" {model.f_sq.space_group_info()}: the structure is given there."
        )
        model.f_sq = model.f_sq.customized_copy(space_group_info=group)
    logger.info("The structure is inverted: its hand was wrong.")


def _estimate(model: TrialModel) -> AbsoluteStructure | None:
    """x of the model as it stands, from Friedel pairs; None where no atom has an f''."""
    if not any(scatterer.fdp for scatterer in model.structure.scatterers()):
        return None
    f_calc = model.f_sq.structure_factors_from_scatterers(
        model.structure, algorithm="direct"
    ).f_calc()
    return absolute_structure(f_calc, model.f_sq, model.result.scale_factor)


def _with_flack(model: TrialModel, estimate: AbsoluteStructure) -> AbsoluteStructure:
    """The estimate with the refined x beside it; a twin by inversion stays in the model."""
    if model.twin is not None:
        return estimate
    before = (model.structure, model.result)
    model.twin = Twin(INVERSION, FLACK_START)
    try:
        x = model.refine(
            "x as a twin by inversion", n_cycles=FLACK_CYCLES, with_covariance=True
        ).twin
    except Sorry as error:
        logger.warning("x could not be refined: %s", error)
        x = None
    if x is None or x.esd is None:
        model.structure, model.result, model.twin = *before, None
        return estimate
    apart = min(x.fraction, 1 - x.fraction)
    if apart < max(TWIN_FRACTION, TWIN_ESDS * x.esd):
        model.structure, model.result, model.twin = *before, None
        model.record("x no longer refined")
    return replace(estimate, flack=x.fraction, flack_esd=x.esd)


def _report(model: TrialModel) -> None:
    """A warning of a hand that is not known."""
    x = model.absolute_structure
    if not x.decisive:
        model.warnings.append(
            f"The hand is not determined: Hooft y {x.hooft:.2f}({x.hooft_esd:.2f})."
        )
