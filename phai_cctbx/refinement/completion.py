"""Phases to a finished structure, with no hand on it.

Peaks become an isotropic model, which is refined fully, turned to its hand and judged: the
result says itself whether it is a solution.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

# cctbx
from cctbx import miller, xray
from cctbx.array_family import flex

from phai_cctbx.building.connectivity import assemble
from phai_cctbx.building.naming import rename
from phai_cctbx.building.peaks import fourier_map
from phai_cctbx.refinement.analysis import AbsoluteStructure
from phai_cctbx.refinement.disorder_judgement import with_occupancies
from phai_cctbx.refinement.full_refinement import refine_fully
from phai_cctbx.refinement.hand import settle_hand
from phai_cctbx.refinement.least_squares import (
    CONVERGED_SHIFT_OVER_ESD,
    RefinementResult,
    at_lower_bound,
)
from phai_cctbx.refinement.maps import difference_coefficients
from phai_cctbx.refinement.starting_model import best_start, is_hopeless, refine_isotropic
from phai_cctbx.refinement.trial_model import Step, TrialModel, cell_contents, expected_atoms
from phai_cctbx.refinement.twin_trials import report_twin, try_twins
from phai_cctbx.refinement.twinning import Twin
from phai_cctbx.refinement.verdict import (
    judge,
    report_composition,
    report_disorder,
    report_symmetry,
)

__all__ = ["Solution", "Step", "cell_contents", "complete_structure", "expected_atoms"]

CONVERGED = 0.05
"""Largest shift/esd of a refinement that has converged (IUCr)."""

REFINEMENT_FIGURES = (
    "r1", "r1_all", "wr2", "goof", "n_reflections", "n_observed", "n_parameters", "n_restraints",
    "covariance", "scale_factor", "extinction", "extinction_esd",
)  # fmt: skip
"""Fields of a `Solution` that a `RefinementResult` has by the same names."""


@dataclass(frozen=True)
class Solution:
    """A finished structure (or the best that could be made) and the evidence for it.

    Attributes
    ----------
    xray_structure : xray.structure
        Molecules put together, atoms named, hydrogens after their parents.
    solved : bool
        Its own judgement; `warnings` say why not.
    r1, r1_all, wr2, goof : float
        R1 on F for I > 2 sigma(I) and for all, wR2 on F^2 and goodness of fit.
    weighting : (float, float)
        a and b of the SHELXL weights.
    n_reflections, n_observed, n_parameters, n_restraints : int
    difference_peak, difference_hole, difference_rms : float
        e/A^3 (scattering length for neutrons).
    max_shift_over_esd : float
    covariance : smtbx covariance_matrix_and_annotations or None
    scale_factor : float
        Fo^2 = scale_factor * Fc^2.
    extinction, extinction_esd : float or None
        SHELXL's EXTI.
    composition : dict
        Atoms of each element per unit cell, as found.
    history : tuple of Step
    warnings : tuple of str
    refinement : RefinementResult
        The last one.
    r1_without_hydrogens : float
        Before they were placed; nan where none were.
    riding : tuple of HydrogenGroup
        Hydrogen groups with scatterer numbers of `xray_structure`.
    disorder : tuple of DisorderedGroup
        Groups of atoms in two parts, with scatterer numbers of `xray_structure`.
    absolute_structure : AbsoluteStructure or None
        Of acentric crystals whose Friedel mates were given apart.
    twin : Twin or None
        The second domain of a twin.
    twin_fractions : dict
        Law -> (fraction, esd) of the second domain, of each that the lattice allows.
    scatterers : str
        What scatters: spherical atoms, or how the form factors were calculated.
    """

    xray_structure: xray.structure
    solved: bool
    r1: float
    r1_all: float
    wr2: float
    goof: float
    weighting: tuple[float, float]
    n_reflections: int
    n_observed: int
    n_parameters: int
    n_restraints: int
    difference_peak: float
    difference_hole: float
    difference_rms: float
    max_shift_over_esd: float
    covariance: object | None
    scale_factor: float
    extinction: float | None
    extinction_esd: float | None
    composition: dict[str, float]
    history: tuple[Step, ...] = ()
    warnings: tuple[str, ...] = ()
    refinement: RefinementResult | None = None
    r1_without_hydrogens: float = float("nan")
    riding: tuple = ()
    disorder: tuple = ()
    absolute_structure: AbsoluteStructure | None = None
    twin: Twin | None = None
    twin_fractions: dict[str, tuple[float, float]] = field(default_factory=dict)
    scatterers: str = "spherical atoms"


def complete_structure(
    f_sq: miller.array,
    phasing_result,
    composition: dict[str, float] | None = None,
    radiation: str = "xray",
    wavelength: float | None = None,
    hydrogens: bool = True,
    temperature: float = 20.0,
    anisotropic: bool = True,
    f_sq_anomalous: miller.array | None = None,
) -> Solution:
    """Complete and refine a structure from phases.

    Parameters
    ----------
    f_sq : miller.array
        Merged intensities with sigmas, all resolution.
    phasing_result : PhasingResult
        Phases of some or all of these reflections.
    composition : dict, optional
        Atoms per unit cell; a hint, not a law.
    radiation : {"xray", "electron", "neutron"}
    wavelength : float, optional
        A.
    hydrogens : bool
        Place hydrogens.
    temperature : float
        Of the measurement, degrees Celsius.
    f_sq_anomalous : miller.array, optional
        The intensities with Friedel mates apart; they decide on the hand of acentric crystals.
    anisotropic : bool
        Refine anisotropic displacements where the data carry them.

    Returns
    -------
    Solution
        `solved` tells whether it is one.
    """
    f_sq = f_sq.map_to_asu()
    model = TrialModel(f_sq, composition, radiation, wavelength, temperature)
    f_obs = f_sq.customized_copy(
        data=flex.sqrt(flex.double(np.maximum(np.array(f_sq.data()), 0))), sigmas=None
    ).set_observation_type_xray_amplitude()
    model.imaginary = f_sq.space_group().is_centric() or f_sq_anomalous is None
    best_start(model, f_obs, phasing_result)
    model.structure = rename(assemble(model.structure))
    if not is_hopeless(model):
        if try_twins(model):
            refine_isotropic(model)
        refine_fully(model, hydrogens, anisotropic)
        if not model.imaginary:
            settle_hand(model, f_sq_anomalous.map_to_asu())
    return _finish(model)


def refinement_figures(result: RefinementResult) -> dict:
    """The fields of a `Solution` that its last refinement gives, by name."""
    return {
        **{name: getattr(result, name) for name in REFINEMENT_FIGURES},
        "weighting": (result.weighting.a, result.weighting.b),
        "refinement": result,
    }


def _finish(model: TrialModel) -> Solution:
    """Last refinement with esds, and the verdict."""
    result = model.refine(
        "final",
        n_cycles=2 if is_hopeless(model) else 15,
        with_covariance=True,
        convergence=CONVERGED_SHIFT_OVER_ESD,
    )
    fft_map = fourier_map(difference_coefficients(result, model.f_sq))
    statistics = fft_map.statistics()
    solved, doubts = judge(model, result, statistics.max(), statistics.min())
    if doubts:
        model.warnings.append("Not a solution: " + ", ".join(doubts) + ".")
    if solved:
        report_symmetry(model, result)
        report_twin(model)
        report_composition(model)
        report_disorder(model)
    if solved and not result.max_shift_over_esd < CONVERGED:
        model.warnings.append(
            f"The refinement has not converged: largest shift/esd {result.max_shift_over_esd:.2f}."
        )
    if solved and (bound := at_lower_bound(model.structure)):
        model.warnings.append(
            f"U at its lower bound: {', '.join(bound)}. Perhaps of a heavier element."
        )
    return Solution(
        xray_structure=model.structure,
        solved=solved,
        difference_peak=statistics.max(),
        difference_hole=statistics.min(),
        difference_rms=statistics.sigma(),
        max_shift_over_esd=result.max_shift_over_esd,
        composition=cell_contents(model.structure),
        history=tuple(model.history),
        warnings=tuple(model.warnings),
        **refinement_figures(result),
        r1_without_hydrogens=model.r1_without_hydrogens,
        riding=tuple(model.riding),
        disorder=tuple(with_occupancies(model)),
        absolute_structure=model.absolute_structure,
        twin=result.twin,
        twin_fractions=dict(model.twin_fractions),
    )
