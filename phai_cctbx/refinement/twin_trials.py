"""Twin laws of the lattice tried on a model, and kept where the data call for one."""

from __future__ import annotations

import logging

import numpy as np

# cctbx
from libtbx.utils import Sorry

from phai_cctbx.refinement.trial_model import TrialModel
from phai_cctbx.refinement.twinning import Twin, fraction_of, second_domain, twin_laws

logger = logging.getLogger(__name__)

MIN_FRACTION, SIGNIFICANCE = 0.03, 1.0
"""Least share of a second domain, itself and over its esd, that is worth a refinement: the esd is
that of a model without it, in which everything else is off too."""

R1_GAIN = 0.05
"""Part of R1 that a second domain has to take away: one parameter more does not."""


def try_twins(model: TrialModel) -> bool:
    """Refine with the second domain that explains the data best; true where it is kept.

    What each law of the lattice would do is noted in the log and in `model.twin_fractions`.
    """
    if model.twin is not None:
        return False
    scale = model.result.scale_factor
    f_sq = np.array(model.f_sq.data()) / scale
    first = np.abs(np.array(model.result.f_calc.data())) ** 2
    weights = model.weighting.weights(f_sq, np.array(model.f_sq.sigmas()) / scale, first)
    candidates = []
    for law in twin_laws(model.f_sq):
        second = second_domain(model.structure, model.f_sq, law)
        fraction, esd = fraction_of(first, second, f_sq, weights)
        twin = Twin(law, fraction, esd)
        model.twin_fractions[twin.as_hkl] = (fraction, esd)
        logger.info("Twin law %s: fraction %.3f, esd %.3f", twin.as_hkl, fraction, esd)
        if max(MIN_FRACTION, SIGNIFICANCE * esd) < fraction < 1:
            candidates.append(twin)
    candidates.sort(key=lambda twin: twin.esd / twin.fraction)
    return any(_keeps(model, twin) for twin in candidates)


def _keeps(model: TrialModel, twin: Twin) -> bool:
    """Refine with a second domain; true where R1 falls, else everything is as before."""
    before = (model.structure, model.result, model.extinction)
    model.twin = twin
    try:
        model.refine(f"twin by {twin.as_hkl}", n_cycles=6)
    except Sorry as error:
        logger.warning("The twin by %s could not be refined: %s", twin.as_hkl, error)
    else:
        lower = model.result.r1 < (1 - R1_GAIN) * before[1].r1
        if lower and MIN_FRACTION < model.twin.fraction < 1:
            return True
    model.structure, model.result, model.extinction = before
    model.twin = None
    model.record("no twin")
    return False


def report_twin(model: TrialModel) -> None:
    """A warning of the second domain that was refined."""
    twin = model.result.twin
    if twin is not None and twin.esd is not None:
        model.warnings.append(
            f"Twin: the second domain ({twin.as_hkl}) has a share of"
            f" {twin.fraction:.3f}({twin.esd:.3f}); TWIN and BASF are in the .res."
        )
