"""Benchmark job=solve: the whole way from .ins and .hkl, compared with the published model.

The files are checked as others would read them: the CIF against the core dictionary, the .res by
another refinement.
"""

from __future__ import annotations

import logging
import math
import shutil
import tempfile
from pathlib import Path

# cctbx
from libtbx.utils import Sorry

from phai_cctbx.phasing.scoring import score_r
from phai_cctbx.programs import pipeline
from phai_cctbx.programs.benchmark_entries import (
    CALCULATED,
    MEASURED,
    Entry,
    reference_structure,
)
from phai_cctbx.programs.benchmark_rows import Row
from phai_cctbx.programs.benchmark_simulation import simulate
from phai_cctbx.programs.benchmark_table import solution_line as line
from phai_cctbx.programs.benchmark_table import solution_table
from phai_cctbx.programs.result_checks import cif_faults, refined_again
from phai_cctbx.refinement.comparison import compare

logger = logging.getLogger(__name__)

#: Kinds of entries that the job runs on, and those where none is asked for; the data of
#: calculated ones are simulated.
JOB_KINDS, DEFAULT_KINDS = (MEASURED, CALCULATED), (MEASURED,)

#: A structure is as good as the published one up to this R1 above it, distance (A) of each
#: non-hydrogen atom and share of wrong elements, all C-H hydrogens being there.
R1_TOLERANCE, DISTANCE_TOLERANCE, WRONG_ELEMENTS = 0.02, 0.1, 0.02
#: Refinement by another program has to come to this R1 (difference).
R1_AGAIN_TOLERANCE = 0.001
#: Farther (A) from its place, an atom is not found.
WRONG_PLACE = 0.5
RADIATIONS = ("xray", "electron", "neutron")


def run(entry: Entry, settings) -> Row:
    """Solve one entry in an empty folder that holds its .ins and .hkl alone.

    Parameters
    ----------
    entry : Entry
    settings : phai_cctbx.programs.benchmark_settings.Settings
    """
    with tempfile.TemporaryDirectory(prefix="phai_benchmark_") as folder:
        ins = _data_set(entry, folder, settings)
        result = pipeline.solve(
            ins,
            d_min=settings.d_min,
            strategy=settings.strategy or "auto",
            seed=settings.seed,
            directory=folder,
            report=False,
            **settings.phaser_options(),
        )
        checks = _checks(result, ins, settings) if result.solution is not None else {}
    reference = reference_structure(entry.model_path)
    f_phased = result.phasing.f_phased
    f_calc = f_phased.structure_factors_from_scatterers(reference, algorithm="direct").f_calc()
    row = {
        "id": entry.id,
        "job": "solve",
        "kind": entry.kind,
        "space_group": result.space_group,
        "volume": f_phased.unit_cell().volume(),
        "d_min": result.d_min,
        "r": score_r(f_phased, f_calc).r,
        "confidence": result.confidence,
        "solved": result.solved,
        "r1": result.r1,
        "r1_published": entry.r1_published,
        "wr2": result.wr2,
        "goof": result.goof,
        "seconds": result.seconds,
    }
    if result.solution is None:
        return Row(**row, message="phases alone, no structure built")
    comparison = compare(result.solution.xray_structure, reference)
    n_atoms = comparison.n_matched + comparison.n_missing
    details = {
        "radiation": result.data.radiation,
        "as_published": _as_good(result, comparison, entry),
        "n_missing": comparison.n_missing,
        "max_distance": comparison.max_distance,
        "missing_ch": comparison.missing_ch,
        "extra_ch": comparison.extra_ch,
        **checks,
    }
    return Row(
        **row,
        rmsd=comparison.rmsd,
        wrong_elements=comparison.wrong_elements,
        message=f"{comparison.n_matched} of {n_atoms} atoms, {comparison.n_extra} extra,"
        f" C-H {-comparison.missing_ch:+d} {comparison.extra_ch:+d};"
        f" again {checks['r1_again'] or math.nan:.4f}, {checks['cif_faults']} CIF faults",
        details=details,
    )


def _data_set(entry, folder, settings) -> Path:
    """The .ins in the folder, the .hkl beside it: measured ones copied, others simulated."""
    if entry.kind == CALCULATED:
        return simulate(entry.model_path, folder, settings.radiation, settings.d_min, settings.seed)
    for path in (entry.data_path, entry.data_path.with_suffix(".hkl")):
        shutil.copy(path, folder)
    return Path(folder, entry.data_path.name)


def _checks(result, ins, settings) -> dict:
    """R1 of another refinement of the .res, None where there is none, and faults of the CIF."""
    try:
        r1_again = refined_again(
            result.files["res"],
            ins.with_suffix(".hkl"),
            result.data.radiation,
            settings.d_min,
        )
    except (Sorry, RuntimeError, AssertionError, ValueError) as error:
        logger.warning("%s: the .res could not be refined again: %r", ins.stem, error)
        r1_again = None
    return {"r1_again": r1_again, "cif_faults": len(cif_faults(result.files["cif"]))}


def _as_good(result, comparison, entry) -> bool:
    """Whether a structure could stand in the place of the published one."""
    n_atoms = comparison.n_matched + comparison.n_missing
    r1 = entry.r1_published or entry.r1_model
    return (
        result.solved
        and (r1 is None or result.r1 <= r1 + R1_TOLERANCE)
        and comparison.n_missing == 0
        and comparison.max_distance <= DISTANCE_TOLERANCE
        and comparison.wrong_elements <= WRONG_ELEMENTS * n_atoms
        and comparison.missing_ch == 0
    )


def table(rows) -> list[str]:
    """Lines that sum up the structures, X-ray, electron and neutron data each by themselves."""
    lines = []
    for radiation in RADIATIONS:
        of_radiation = [row for row in rows if _detail(row, "radiation", "xray") == radiation]
        if of_radiation:
            lines += ["", f"Radiation: {radiation}", *solution_table(of_radiation)]
            lines += _summary(of_radiation)
    return lines


def _summary(rows) -> list[str]:
    """How many structures and files are as they should be."""
    built = [row for row in rows if row.details]
    solved = [row for row in built if row.solved]
    again = [
        abs(row.details["r1_again"] - row.r1)
        for row in solved
        if row.details["r1_again"] is not None
    ]
    wrong = [row.id for row in solved if row.r is not None and _is_false(row)]
    return [
        f"{sum(row.details['as_published'] for row in built)} of {len(rows)} as good as published"
        f" (R1 + {R1_TOLERANCE}, atoms within {DISTANCE_TOLERANCE} A, elements, C-H hydrogens)",
        f"{len(wrong)} called solved with atoms missing or wrong: {', '.join(wrong) or 'none'}",
        f"{sum(d <= R1_AGAIN_TOLERANCE for d in again)} of {len(solved)} solved refined again to"
        f" the same R1 within {R1_AGAIN_TOLERANCE}",
        f"{sum(not row.details['cif_faults'] for row in built)} of {len(built)} CIFs valid",
    ]


def _is_false(row) -> bool:
    """Whether what is called solved lacks atoms of the reference or has them elsewhere."""
    return not (row.details["n_missing"] == 0 and row.details["max_distance"] < WRONG_PLACE)


def _detail(row, name, default=None):
    return (row.details or {}).get(name, default)


__all__ = ["JOB_KINDS", "line", "run", "table"]
