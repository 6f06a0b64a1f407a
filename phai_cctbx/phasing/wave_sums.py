"""The highest point of a sum of plane waves over the unit cell.

Origins are found by it: the agreement of two phase sets, or of one with its symmetry, is such a
sum as a function of the shift. A fast Fourier transform finds the region, Newton steps the point.
"""

from __future__ import annotations

import numpy as np
from scipy import fft, ndimage

#: Highest grid points that are climbed from.
_N_STARTS = 6
_MAX_STEPS = 20
_TOLERANCE = 1e-12


def maximise(
    frequencies: np.ndarray, terms: np.ndarray, oversampling: float = 3.0
) -> tuple[float, np.ndarray]:
    """Maximise Re sum_j terms_j exp(2 pi i frequencies_j . t) over t.

    Parameters
    ----------
    frequencies : numpy.ndarray of int, shape (n, k), k = 1..3
    terms : numpy.ndarray of complex, shape (n,)
    oversampling : float
        Grid points per period of the highest frequency.

    Returns
    -------
    value : float
    position : numpy.ndarray, shape (k,)
        A direction in which the sum does not change is left where the search began.
    """
    shape = tuple(
        fft.next_fast_len(int(oversampling * max(1, limit) + 1))
        for limit in np.abs(frequencies).max(axis=0)
    )
    grid = np.zeros(shape, dtype=complex)
    np.add.at(grid, tuple((frequencies % shape).T), terms)
    values = fft.ifftn(grid, overwrite_x=True).real * grid.size
    peaks = np.flatnonzero(values == ndimage.maximum_filter(values, size=3, mode="wrap"))
    peaks = peaks[np.argsort(values.ravel()[peaks])[::-1][:_N_STARTS]]
    best_value, best_position = -np.inf, np.zeros(frequencies.shape[1])
    for peak in peaks:
        start = np.array(np.unravel_index(peak, shape)) / shape
        value, position = climb(frequencies, terms, start)
        if value > best_value:
            best_value, best_position = value, position
    return best_value, best_position


def climb(
    frequencies: np.ndarray, terms: np.ndarray, position: np.ndarray
) -> tuple[float, np.ndarray]:
    """Newton's method with shortened steps from `position` up to the nearest maximum."""

    def waves(t):
        return terms * np.exp(2j * np.pi * (frequencies @ t))

    wave = waves(position)
    value = float(wave.real.sum())
    for _ in range(_MAX_STEPS):
        gradient = -2 * np.pi * (wave.imag @ frequencies)
        hessian = -4 * np.pi**2 * (frequencies.T * wave.real) @ frequencies
        eigenvalues, axes = np.linalg.eigh(hessian)
        curvature = np.abs(eigenvalues)
        flat = curvature <= 1e-9 * max(1.0, curvature.max())
        step = axes @ ((axes.T @ gradient) / np.where(flat, np.inf, curvature))
        for scale in (1.0, 0.5, 0.25, 0.0625):
            trial_wave = waves(position + scale * step)
            trial_value = float(trial_wave.real.sum())
            if trial_value > value:
                break
        else:
            break
        gained = trial_value - value
        position, wave, value = position + scale * step, trial_wave, trial_value
        if gained < _TOLERANCE:
            break
    return value, position
