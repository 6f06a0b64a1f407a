"""Benchmark job=phasing: phases from amplitudes alone, scored by the correlation of the maps.

Details of a row: `r_candidates`, the best r among the solution and its alternatives (where it is
above r, the ranking failed), and `reliability`, for each tenth of confidence the number of
reflections, the sum of their confidences and the sum of the true cosines of their phase errors.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

# cctbx
from cctbx import miller
from cctbx.array_family import flex
from libtbx.utils import Sorry

from phai_cctbx.io.read import read
from phai_cctbx.phasing.auto import make_phaser
from phai_cctbx.phasing.result import PhasingResult
from phai_cctbx.phasing.scoring import R_SOLVED, apply_match, score_r
from phai_cctbx.programs.benchmark_entries import KINDS, MEASURED, Entry, reference_structure
from phai_cctbx.programs.benchmark_rows import Row
from phai_cctbx.programs.benchmark_table import NOT_TRAINED
from phai_cctbx.programs.benchmark_table import phasing_table as table
from phai_cctbx.programs.crystal_input import prepare_crystal

#: Kinds of entries that the job runs on.
JOB_KINDS = KINDS

#: Resolution of calculated amplitudes where all data are asked for: what copper radiation
#: reaches, and what the IUCr asks of a small-molecule data set.
CALCULATED_D_MIN = 0.84
NEURAL = "neural"
#: Strategies that are not told the composition.
BLIND_STRATEGIES = (NEURAL, "phai")
#: Bins of the reliability of the confidence.
N_RELIABILITY = 10


@dataclass(frozen=True)
class TrueData:
    """Amplitudes to phase, the structure factors that they should lead to, and the contents of
    the cell (element -> atoms), as an input file names them."""

    f_obs: miller.array
    f_calc: miller.array
    composition: dict[str, float]


def run(entry: Entry, settings) -> Row:
    """Phase one entry and score the result.

    Parameters
    ----------
    entry : Entry
    settings : phai_cctbx.programs.benchmark_settings.Settings
    """
    data = true_data(entry, settings.d_min)
    if settings.missing:
        data = with_missing(data, settings.missing, settings.seed)
    row = {
        "id": entry.id,
        "job": "phasing",
        "kind": entry.kind,
        "space_group": str(data.f_obs.space_group_info()),
        "volume": data.f_obs.unit_cell().volume(),
        "d_min": data.f_obs.d_min(),
        "r1_published": entry.r1_published,
    }
    strategy = settings.strategy or "auto"
    options = settings.phaser_options()
    if strategy not in BLIND_STRATEGIES:
        options["composition"] = data.composition
    phaser = make_phaser(strategy, seed=settings.seed, **options)
    started = time.process_time()
    try:
        result = phaser(data.f_obs)
    except Sorry as error:
        return Row(**row, message=" ".join(str(error).split()))
    seconds = time.process_time() - started
    match = score_r(result.f_phased, data.f_calc)
    r = match.r
    candidates = [r, *(score_r(a.f_phased, data.f_calc).r for a in result.alternatives)]
    details = {
        "r_candidates": max(candidates),
        "strategy": result.strategy,
        "reliability": reliability_sums(result, apply_match(result.f_phased, match), data.f_calc),
    }
    row["d_min"] = result.f_phased.d_min()
    return Row(
        **row,
        r=r,
        confidence=result.expected_r,
        solved=r > R_SOLVED,
        seconds=seconds,
        details=details,
        message=None if _is_trained_on(result, data.f_obs, settings) else NOT_TRAINED,
    )


def with_missing(data: TrueData, share: float, seed: int) -> TrueData:
    """The same data with a share of the reflections left out at random."""
    kept = np.random.default_rng(seed).random(data.f_obs.size()) >= share
    return replace(data, f_obs=data.f_obs.select(flex.bool(kept)))


def reliability_sums(result: PhasingResult, moved: miller.array, f_calc: miller.array) -> list:
    """Per tenth of confidence: [reflections, sum of confidences, sum of true cosines].

    Parameters
    ----------
    result : PhasingResult
    moved : cctbx.miller.array
        Its phases on the origin and hand of `f_calc`.
    f_calc : cctbx.miller.array
    """
    confidence, moved = result.confidence.map_to_asu().common_sets(moved.map_to_asu())
    truth, moved = f_calc.map_to_asu().common_sets(moved)
    confidence = confidence.common_set(moved).data().as_numpy_array()
    cosine = np.cos(np.angle(moved.data().as_numpy_array() / truth.data().as_numpy_array()))
    bins = np.clip((confidence * N_RELIABILITY).astype(int), 0, N_RELIABILITY - 1)
    columns = (
        np.bincount(bins, weights, minlength=N_RELIABILITY)
        for weights in (np.ones_like(cosine), confidence, cosine)
    )
    return np.stack(list(columns), 1).round(4).tolist()


def _is_trained_on(result, f_obs, settings):
    """False where the answer is of a network that names its space groups, and this is none."""
    if result.strategy != NEURAL:
        return True
    metadata = make_phaser(NEURAL, **settings.phaser_options()).metadata
    return f_obs.space_group_info().type().number() in metadata.groups


def line(row: Row) -> str:
    """One structure of the printed list."""
    head = f"{row.kind:<10s} {row.id:<16s} {row.space_group or '':<14s}"
    if row.r is None:
        return f"{head} {row.message}"
    return (
        f"{head} V {row.volume:6.0f}  d_min {row.d_min:.2f}  r {row.r:6.3f}"
        f"  confidence {row.confidence:.3f}  {row.seconds:6.1f} s"
        f"  {row.details['strategy']:<8s}{row.message or ''}".rstrip()
    )


def true_data(entry: Entry, d_min: float | None) -> TrueData:
    """What an entry gives to phase: measured amplitudes, or those of the model with hydrogens.

    Parameters
    ----------
    entry : Entry
    d_min : float or None
        Resolution limit in A; None for all data (calculated amplitudes: 0.84 A).
    """
    model = reference_structure(entry.model_path)
    if entry.kind == MEASURED:
        read_data = read(entry.data_path)
        f_obs = prepare_crystal(read_data, d_min).f_obs
        composition = read_data.composition.unit_cell_contents
        f_calc = f_obs.structure_factors_from_scatterers(model, algorithm="direct").f_calc()
    else:
        f_calc = model.structure_factors(
            d_min=d_min or CALCULATED_D_MIN, anomalous_flag=False, algorithm="direct"
        ).f_calc()
        f_obs = f_calc.as_amplitude_array().set_observation_type_xray_amplitude()
        composition = dict(model.unit_cell_content())
    return TrueData(f_obs=f_obs, f_calc=f_calc, composition=composition)


__all__ = ["CALCULATED_D_MIN", "JOB_KINDS", "TrueData", "line", "run", "table", "true_data"]
