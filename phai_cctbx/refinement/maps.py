"""Fourier coefficients of observed, difference and weighted maps from a refined model.

Weights are those of Sim (Acta Cryst. 12, 813, 1959), the scattering power that the
model lacks being estimated from the disagreement of amplitudes in resolution shells.
"""

from __future__ import annotations

import numpy as np

# cctbx
from cctbx import miller
from cctbx.array_family import flex

from phai_cctbx.phasing.peak_model import expected_cosine

SHELL_SIZE = 100
"""Reflections per resolution shell, about."""

MIN_SHELLS = 3


def shells(f_obs: miller.array, size: int = SHELL_SIZE) -> list[np.ndarray]:
    """Reflection numbers in shells of resolution with equal counts."""
    order = np.argsort(np.array(f_obs.d_star_sq().data()))
    return np.array_split(order, max(MIN_SHELLS, len(order) // size))


def sim_weights(f_obs, f_calc, epsilons, centric, rows) -> np.ndarray:
    """Expected cosine of the phase error of each reflection.

    Parameters
    ----------
    f_obs, f_calc : numpy.ndarray
        Amplitudes on one scale.
    epsilons, centric : numpy.ndarray
    rows : list of numpy.ndarray
        Resolution shells.

    Returns
    -------
    numpy.ndarray
    """
    x = np.empty_like(f_obs)
    for shell in rows:
        missing = np.mean((f_obs[shell] - f_calc[shell]) ** 2 / epsilons[shell])
        # |Fo| and |Fc| differ by part of the missing F only: acentric amplitudes see half of it
        missing = max(2 * missing, 1e-12)
        x[shell] = 2 * f_obs[shell] * f_calc[shell] / (epsilons[shell] * missing)
    return expected_cosine(np.maximum(x, 1e-12), centric)


def difference_coefficients(result, f_sq: miller.array) -> miller.array:
    """Coefficients (Fo - Fc) exp(i phi_calc) on the absolute scale, from a refinement.

    Extinction and the other domains of a twin are taken out of Fo in the proportion in which the
    model has them; negative intensities count as 0. Friedel mates are averaged.
    """
    fo_sq = np.maximum(np.array(f_sq.data()), 0) / result.scale_factor
    f_calc = np.array(result.f_calc.data())
    amplitude = np.abs(f_calc)
    modelled = np.sqrt(np.maximum(np.array(result.fc_sq.data()), 1e-12))
    f_obs = np.sqrt(fo_sq) * amplitude / modelled
    phase = f_calc / np.maximum(amplitude, 1e-12)
    return friedel_average(
        miller.array(miller_set=f_sq.set(), data=flex.complex_double((f_obs - amplitude) * phase))
    )


def observed_coefficients(result) -> miller.array:
    """Coefficients Fo exp(i phi_calc) on the absolute scale, as `difference_coefficients`."""
    f_calc = friedel_average(result.f_calc)
    difference = difference_coefficients(result, result.f_sq)
    return f_calc.customized_copy(data=f_calc.data() + difference.data())


def friedel_average(f_calc: miller.array) -> miller.array:
    """Complex structure factors without the part that dispersion adds to the density."""
    return f_calc.average_bijvoet_mates() if f_calc.anomalous_flag() else f_calc
