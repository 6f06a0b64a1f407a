"""Benchmark job=solve: the whole way from .ins and .hkl, compared with the published model."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from phai_cctbx.phasing.scoring import score_r
from phai_cctbx.programs import pipeline
from phai_cctbx.programs.benchmark_entries import MEASURED, Entry, reference_structure
from phai_cctbx.programs.benchmark_rows import Row
from phai_cctbx.programs.benchmark_table import solution_line as line
from phai_cctbx.programs.benchmark_table import solution_table as table
from phai_cctbx.refinement.comparison import compare

#: Kinds of entries that the job runs on.
JOB_KINDS = (MEASURED,)


def run(entry: Entry, settings) -> Row:
    """Solve one entry in an empty folder that holds its .ins and .hkl alone.

    Parameters
    ----------
    entry : Entry
    settings : phai_cctbx.programs.benchmark_settings.Settings
    """
    with tempfile.TemporaryDirectory(prefix="phai_benchmark_") as folder:
        for path in (entry.data_path, entry.data_path.with_suffix(".hkl")):
            shutil.copy(path, folder)
        result = pipeline.solve(
            Path(folder, entry.data_path.name),
            d_min=settings.d_min,
            strategy=settings.strategy or "auto",
            seed=settings.seed,
            directory=folder,
            report=False,
            **settings.phaser_options(),
        )
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
    return Row(
        **row,
        rmsd=comparison.rmsd,
        wrong_elements=comparison.wrong_elements,
        message=f"{comparison.n_matched} of {n_atoms} atoms, {comparison.n_extra} extra",
    )


__all__ = ["JOB_KINDS", "line", "run", "table"]
