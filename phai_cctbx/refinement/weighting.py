"""The SHELXL weighting scheme and the choice of its two parameters.

w = 1 / (sigma^2(Fo^2) + (a P)^2 + b P), P = (max(Fo^2, 0) + 2 Fc^2) / 3
(Sheldrick, Acta Cryst. C71, 3, 2015).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

# cctbx
from smtbx.refinement import least_squares

N_BINS = 10
"""Bins of Fc over which the goodness of fit is made flat."""

A_MAX = 0.2
"""Largest sensible a; beyond it the model, not the weights, is wrong."""


@dataclass(frozen=True)
class Weighting:
    """Parameters a and b of the SHELXL weights."""

    a: float = 0.1
    b: float = 0.0

    def scheme(self):
        """The weighting as smtbx takes it."""
        return least_squares.mainstream_shelx_weighting(a=self.a, b=self.b)

    def weights(self, fo_sq, sigmas, fc_sq):
        """Weights of reflections; all arguments on the absolute scale."""
        p = (np.maximum(fo_sq, 0) + 2 * fc_sq) / 3
        return 1 / (sigmas**2 + (self.a * p) ** 2 + self.b * p)


def optimise_weighting(fo_sq, sigmas, fc_sq, n_parameters: int) -> Weighting:
    """Find the weights that make the goodness of fit flat over Fc and close to 1.

    Parameters
    ----------
    fo_sq, sigmas, fc_sq : numpy.ndarray, shape (n,)
        Observed intensities, their sigmas and calculated intensities on the absolute scale.
    n_parameters : int
        Refined parameters; they take their share of the degrees of freedom.

    Returns
    -------
    Weighting
    """
    bins = np.array_split(np.argsort(fc_sq), N_BINS)
    freedom = max(len(fo_sq) - n_parameters, 1) / len(fo_sq)
    residual = (fo_sq - fc_sq) ** 2

    def unevenness(parameters):
        a, b = np.abs(parameters)
        terms = Weighting(a, b).weights(fo_sq, sigmas, fc_sq) * residual
        goof_sq = np.array([terms[rows].mean() for rows in bins]) / freedom
        return float(np.sum((np.sqrt(goof_sq) - 1) ** 2))

    mean_p = float(np.mean(fc_sq))
    starts = [(a, b * mean_p) for a in (0.02, 0.06) for b in (0.001, 0.03)]
    trials = [
        minimize(unevenness, start, method="Nelder-Mead", options={"maxiter": 150, "xatol": 1e-4})
        for start in starts
    ]
    a, b = np.abs(min(trials, key=lambda trial: trial.fun).x)
    if a > A_MAX:
        return Weighting(A_MAX, 0.0)
    return Weighting(round(float(a), 4), round(float(b), 4))
