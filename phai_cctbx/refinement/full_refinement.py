"""An isotropic model to its full refinement.

Anisotropic displacements, elements once more, hydrogens, SHELXL weights, extinction and disorder.
"""

from __future__ import annotations

import numpy as np

# cctbx
from cctbx.array_family import flex

from phai_cctbx.building.connectivity import assemble, atomic_number, element_of
from phai_cctbx.building.naming import rename
from phai_cctbx.refinement.difference_atoms import add_atoms, place_hydrogens, prune
from phai_cctbx.refinement.disorder import model_disorder
from phai_cctbx.refinement.element_trials import exchange, relabel
from phai_cctbx.refinement.trial_model import TrialModel
from phai_cctbx.refinement.twin_trials import try_twins
from phai_cctbx.refinement.weighting import optimise_weighting

R1_OF_DISORDER = 0.01
"""Rise of R1 without an atom that shows it to be there, however spread out."""

MIN_DENSITY_NOW = 0.3
"""Difference density, over that of carbon, of an atom: a peak of one that lacks is lowered by the
phases, but stands out from an anisotropic model."""

R1_GAIN_OF_ATOM = 0.05
"""Part of R1 that new atoms have to take away."""

EXTINCTION_TRIAL = 0.005
"""Start of the extinction coefficient."""

EXTINCTION_SIGNIFICANCE, EXTINCTION_WR2_GAIN = 3.0, 0.0005
"""Extinction is kept where it exceeds so many esds and lowers wR2 by this."""

MIN_REFLECTIONS_PER_PARAMETER = 3.5
"""Fewest reflections per parameter for anisotropic displacements."""

ANISOTROPIC_LIGHT = 10
"""Elements up to this atomic number stay isotropic first where reflections are few."""


def refine_fully(model: TrialModel, hydrogens: bool, anisotropic: bool) -> None:
    """Anisotropic displacements, elements once more, then hydrogens."""
    if anisotropic:
        _convert_to_anisotropic(model)
        model.refine("anisotropic", n_cycles=6)
        before = (model.structure, model.result)
        if prune(model):
            model.refine("without atoms of no density", n_cycles=4)
            if model.result.r1 > before[1].r1 + R1_OF_DISORDER:
                model.structure, model.result = before
                model.record("taken back")
        relabel(model, "anisotropic, other elements")
        _add_what_shows_now(model)
    if model.few_reflections:
        exchange(model, "elements exchanged")
    try_twins(model)
    update_weights(model)
    model.structure = rename(assemble(model.structure))
    model.refine("weights", n_cycles=5)
    if hydrogens and model.radiation != "neutron":
        model.r1_without_hydrogens = model.result.r1
        place_hydrogens(model)
        model.refine("hydrogens", n_cycles=6)
        for _ in range(2):
            if not relabel(model, "other elements"):
                break
        if model.few_reflections:
            exchange(model, "elements exchanged")
    update_weights(model)
    model.refine("weights", n_cycles=6)
    _try_extinction(model)
    update_weights(model)
    model_disorder(model)
    if model.disorder:
        update_weights(model)


def _add_what_shows_now(model: TrialModel) -> None:
    """Atoms that the anisotropy of heavier ones had hidden; kept where R1 falls."""
    before = (model.structure, model.result)
    if not add_atoms(model, MIN_DENSITY_NOW):
        return
    model.refine("atoms that show now", n_cycles=4)
    prune(model)
    _convert_to_anisotropic(model)
    model.refine("anisotropic", n_cycles=6)
    if model.result.r1 > (1 - R1_GAIN_OF_ATOM) * before[1].r1:
        model.structure, model.result = before
        model.record("taken back")
        return
    relabel(model, "other elements")


def _try_extinction(model: TrialModel) -> None:
    """Refine an extinction coefficient and keep it where the data call for it."""
    if model.wavelength is None or model.radiation == "electron":
        return
    before = (model.structure, model.result)
    model.extinction = EXTINCTION_TRIAL
    result = model.refine("extinction", n_cycles=6, with_covariance=True)
    esd = result.extinction_esd
    if (
        esd
        and result.extinction > EXTINCTION_SIGNIFICANCE * esd
        and result.wr2 < before[1].wr2 - EXTINCTION_WR2_GAIN
    ):
        return
    model.structure, model.result = before
    model.extinction = None
    model.record("no extinction")


def _convert_to_anisotropic(model: TrialModel) -> None:
    """Anisotropic U for all atoms, or for the heavier ones where reflections are few."""
    structure = model.structure
    n_reflections = model.f_sq.size()
    elements = [element_of(s) for s in structure.scatterers()]
    for z_least in (1, ANISOTROPIC_LIGHT + 1):
        chosen = [atomic_number(element) >= z_least for element in elements]
        n_parameters = 4 * len(elements) + 5 * sum(chosen)
        if n_reflections > MIN_REFLECTIONS_PER_PARAMETER * n_parameters:
            break
    else:
        chosen = [False] * len(elements)
    if not all(chosen):
        model.warnings.append(
            f"{len(elements) - sum(chosen)} non-hydrogen atoms are refined isotropically: "
            f"{n_reflections} reflections do not carry more parameters."
        )
    structure.convert_to_anisotropic(selection=flex.bool(chosen))


def update_weights(model: TrialModel) -> None:
    """Choose SHELXL weights from the last refinement."""
    result = model.result
    scale = result.scale_factor
    model.weighting = optimise_weighting(
        np.array(model.f_sq.data()) / scale,
        np.array(model.f_sq.sigmas()) / scale,
        np.array(result.fc_sq.data()),
        result.n_parameters,
    )
