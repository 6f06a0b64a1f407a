"""Phases that are known to some resolution grow to all reflections of the data.

Peaks of the map of the known phases are recycled as point atoms over all reflections
(`PeakModel.recycle`), though at 2 A they are no atoms yet; where that fails, charge flipping in
the space group begins from the known phases, and random parts of the peaks are tried. It goes on
until atoms predict held-out amplitudes convincingly; what is already better than anything found
stays as it is. Chosen by measurement, against flipping normalised amplitudes, low-density
elimination alone and random omission in every cycle.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace

import numpy as np

# cctbx
from cctbx import miller
from cctbx.array_family import flex

from phai_cctbx.phasing.density_modification import SymmetricMap, eliminate_low_density, flip
from phai_cctbx.phasing.normalisation import unique_amplitudes
from phai_cctbx.phasing.peak_model import CONVINCING, PeakModel
from phai_cctbx.phasing.result import PhasingResult

logger = logging.getLogger(__name__)

#: Cycles of charge flipping, those of them that hold the known phases, and cycles of low-density
#: elimination after them.
_FLIPPING_CYCLES = 60
_HOLDING_CYCLES = 10
_ELIMINATION_CYCLES = 5
#: Random choices of peaks that are tried where all of them failed, and the share left out.
_OMISSIONS = 4
_N_ALTERNATIVES = 3
_OMITTED_SHARE = 0.3


def extend_phases(
    f_obs_full: miller.array,
    phasing_result: PhasingResult,
    composition: dict[str, float] | None = None,
    seed: int = 0,
) -> PhasingResult:
    """Grow phases to every reflection of the data.

    Parameters
    ----------
    f_obs_full : cctbx.miller.array
        Amplitudes or intensities to the full resolution, in the setting of the result.
    phasing_result : PhasingResult
        Its candidates are tried from the best on.
    composition : dict of str to float, optional
        Element -> atoms per unit cell.
    seed : int

    Returns
    -------
    PhasingResult
        The best by `cc_held_out`, and the next best as `alternatives`. The strategy is the one
        of the input.
    """
    began = time.monotonic()
    model = PeakModel(unique_amplitudes(f_obs_full), composition)
    grid = SymmetricMap(model.f_obs)
    rng = np.random.default_rng(seed)
    grown = []
    for number, candidate in enumerate((phasing_result, *phasing_result.alternatives)):
        known = _known(model.f_obs, candidate)
        for way, phases in _ways(model, grid, known, rng):
            result = model.result(
                phases,
                candidate.strategy,
                seed,
                candidate=number,
                known_fraction=float(np.mean(known != 0)),
            )
            logger.info(
                "Extension of candidate %d by %s: held-out correlation %.3f",
                number + 1,
                way,
                result.figures_of_merit["cc_held_out"],
            )
            grown.append(result)
            if result.figures_of_merit["probability_right"] > CONVINCING:
                break
        if grown[-1].figures_of_merit["probability_right"] > CONVINCING:
            break
    grown.sort(key=lambda result: result.figures_of_merit["cc_held_out"], reverse=True)
    best, *others = grown
    polished = model.result(
        model.polish(model.refine(best.f_phased.phases().data().as_numpy_array())),
        best.strategy,
        seed,
        **{key: best.figures_of_merit[key] for key in ("candidate", "known_fraction")},
    )
    return replace(
        polished,
        seconds=phasing_result.seconds + time.monotonic() - began,
        alternatives=tuple(others[:_N_ALTERNATIVES]),
    )


def _known(f_obs, candidate):
    """confidence * exp(i phase) of every reflection of f_obs, zero where unknown, shape (n,)."""
    pairs = miller.match_indices(f_obs.indices(), candidate.f_phased.indices()).pairs()
    known = np.zeros(f_obs.size(), dtype=complex)
    here, there = (pairs.column(i).as_numpy_array() for i in (0, 1))
    phases = candidate.f_phased.phases().data().as_numpy_array()[there]
    weight = np.clip(candidate.confidence.data().as_numpy_array()[there], 1e-3, 1.0)
    known[here] = weight * np.exp(1j * phases)
    return known


def _ways(model, grid, known, rng):
    """(name, phases of all reflections), the cheapest first."""
    peaks = model.peaks(model.e_map(known))
    yield "peaks", _recycled(model, peaks)
    if np.all(known != 0):
        yield "the phases as they are", np.angle(known)
    yield "flipping", model.recycle(_flip_from(model.f_obs, grid, known))[0]
    for _ in range(_OMISSIONS):
        kept = rng.random(peaks.scatterers().size()) > _OMITTED_SHARE
        if kept.any():
            yield "a part of the peaks", _recycled(model, peaks.select(flex.bool(kept)))


def _recycled(model, peaks):
    return model.recycle(np.angle(model.e_calc(peaks)))[0]


def _flip_from(f_obs, grid, known):
    amplitudes = f_obs.data().as_numpy_array()
    held = known != 0
    f = amplitudes * np.where(held, known / np.maximum(np.abs(known), 1e-9), 0)
    start = f
    for cycle in range(_FLIPPING_CYCLES):
        phases = np.angle(grid.analysis(flip(grid.synthesis(f))))
        f = amplitudes * np.exp(1j * phases)
        if cycle < _HOLDING_CYCLES:
            f = np.where(held, start, f)
    for _ in range(_ELIMINATION_CYCLES):
        phases = np.angle(grid.analysis(eliminate_low_density(grid.synthesis(f))))
        f = amplitudes * np.exp(1j * phases)
    return np.angle(f)
