"""What a structure must show besides its fit where the data are few.

A refinement of few reflections fits wrong atoms too. There a solution also has to predict
reflections that it never saw (cross-validation, Brunger, Nature 355, 472, 1992) better than a
model whose atoms are all off their places (Luzzati, Acta Cryst. 5, 802, 1952), and to consist of
the atoms that the crystal is said to contain.
"""

from __future__ import annotations

import numpy as np

# cctbx
from cctbx import miller
from cctbx.array_family import flex
from libtbx.utils import Sorry

from phai_cctbx.refinement.least_squares import RefinementResult, refine
from phai_cctbx.refinement.molecule_judgement import WRONG_ERROR, r_of_coordinate_errors
from phai_cctbx.refinement.trial_model import ROUGH_CONVERGENCE, TrialModel
from phai_cctbx.refinement.twinning import second_domain

N_FOLDS = 5
"""Each reflection is predicted by a refinement without this part of the data (as in PeakModel)."""

SHAKE = 0.1
"""Root mean square shift (A) that makes the sites forget the reflections that are left out; half
of the error that counts as wrong."""

N_CYCLES = 8
"""Of least squares in each fold; they converge in fewer where the model is right."""


def held_out_r(model: TrialModel, seed: int = 0) -> float:
    """R of amplitudes that had no part in the refinement that predicts them.

    The weights and extinction are those of the whole data; extinction is left out of the
    prediction.

    Parameters
    ----------
    model : TrialModel
        With the result of its last refinement.
    seed : int
        Of the folds and of the shifts of the sites.

    Returns
    -------
    float
        sum ||Fo| - |Fc|| / sum |Fo| over all reflections.

    Raises
    ------
    Sorry
        If four fifths of the reflections do not determine the parameters.
    """
    rng = np.random.default_rng(seed)
    fold = rng.permutation(model.f_sq.size()) % N_FOLDS
    misfit = total = 0.0
    for k in range(N_FOLDS):
        used = model.f_sq.select(flex.bool((fold != k).tolist()))
        held_out = model.f_sq.select(flex.bool((fold == k).tolist()))
        shaken = model.structure.deep_copy_scatterers()
        shifts = rng.normal(scale=SHAKE / np.sqrt(3), size=(shaken.scatterers().size(), 3))
        _shift_free_sites(shaken, shifts)
        refined = refine(
            shaken,
            used,
            weighting=model.weighting,
            n_cycles=N_CYCLES,
            convergence=ROUGH_CONVERGENCE,
            wavelength=model.wavelength,
            extinction=model.extinction,
            twin=model.twin,
            temperature=model.temperature,
            **model.dependent_arguments(),
        )
        f_obs = np.sqrt(np.maximum(np.array(held_out.data()) / refined.scale_factor, 0))
        misfit += np.abs(f_obs - _amplitudes(refined, held_out)).sum()
        total += f_obs.sum()
    return float(misfit / total)


def _shift_free_sites(structure, shifts) -> None:
    """Move the sites (A), those on special positions as their symmetry allows."""
    table = structure.site_symmetry_table()
    to_fractional = structure.unit_cell().fractionalize
    for i, scatterer in enumerate(structure.scatterers()):
        site = np.array(scatterer.site) + np.array(to_fractional(tuple(shifts[i])))
        scatterer.site = table.get(i).special_op() * tuple(site)


def _amplitudes(refined: RefinementResult, f_sq: miller.array) -> np.ndarray:
    """Calculated amplitudes of a refined model, both domains of a twin."""
    structure = refined.xray_structure
    f_calc = f_sq.structure_factors_from_scatterers(structure, algorithm="direct").f_calc()
    intensities = np.abs(np.array(f_calc.data())) ** 2
    if refined.twin is not None:
        second = second_domain(structure, f_sq, refined.twin.law)
        intensities += refined.twin.fraction * (second - intensities)
    return np.sqrt(intensities)


def prediction_doubts(model: TrialModel, result: RefinementResult, limit: float) -> list[str]:
    """What speaks against a model whose predictions are poor.

    Parameters
    ----------
    model : TrialModel
    result : RefinementResult
    limit : float
        R that no solution exceeds.
    """
    try:
        r = held_out_r(model)
    except Sorry as error:
        return [f"too few reflections to predict others: {error}"]
    error_r = r_of_coordinate_errors(
        result.f_calc, result.f_calc.data().as_numpy_array(), model.structure, WRONG_ERROR
    )
    if r <= min(limit, error_r):
        return []
    return [
        f"R of reflections left out {r:.3f} (allowed {limit:.3f}; {error_r:.3f} is that of errors"
        f" of {WRONG_ERROR:.2f} A in all coordinates)"
    ]


def contents_doubts(model: TrialModel) -> list[str]:
    """How the atoms differ from a composition that fits the volume."""
    differences = model.differences_from_composition()
    if not differences:
        return []
    words = ", ".join(
        f"{element} {found:.3g} for {given:.3g}" for element, (found, given) in differences.items()
    )
    return [f"atoms other than the contents in the asymmetric unit: {words}"]
