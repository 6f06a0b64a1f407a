"""Benchmark job=aspherical: Hirshfeld atoms against spherical ones on measured data.

Every reference model is refined with spherical atoms and with Hirshfeld atoms, hydrogens free in
both; what is compared is agreement, residual density, bonds to hydrogen and displacements.
"""

from __future__ import annotations

import math
import time

from phai_cctbx.aspherical.neutron import hydrogen_bond_lengths, mean_deviation
from phai_cctbx.io.write_summary import plain
from phai_cctbx.programs import benchmark_low_resolution
from phai_cctbx.programs.benchmark_entries import MEASURED, Entry
from phai_cctbx.programs.benchmark_low_resolution import LOW_RESOLUTION
from phai_cctbx.programs.benchmark_rows import Row
from phai_cctbx.programs.benchmark_table import failure_lines
from phai_cctbx.programs.model_file import read_model
from phai_cctbx.programs.refinement import HAR, mean_u_ratio, refine_model

#: Kinds of entries that the job runs on.
JOB_KINDS = (MEASURED,)


def run(entry: Entry, settings) -> Row:
    """Refine the reference model of one entry against its data.

    Parameters
    ----------
    entry : Entry
    settings : phai_cctbx.programs.benchmark_settings.Settings
        With `d_min` of `LOW_RESOLUTION` or more the known molecule is refined instead.
    """
    if settings.d_min is not None and settings.d_min >= LOW_RESOLUTION:
        return benchmark_low_resolution.run(entry, settings)
    began = time.monotonic()
    result = refine_model(
        entry.data_path,
        scattering=HAR,
        d_min=settings.d_min,
        directory=None,
        model=read_model(entry.model_path),
    )
    iam, har = result.hirshfeld.independent_atoms, result.refinement
    bonds = hydrogen_bond_lengths(har.xray_structure)
    signed, absolute, n_bonds = mean_deviation(bonds)
    iam_signed, iam_absolute, _ = mean_deviation(hydrogen_bond_lengths(iam.xray_structure))
    details = {
        "iam": _agreement(iam, result.independent_atoms_residual),
        "har": _agreement(har, result.residual),
        "xh_deviations": [b.deviation for b in bonds if b.deviation is not None],
        "xh_mean_deviation": signed,
        "xh_mean_absolute_deviation": absolute,
        "iam_xh_mean_deviation": iam_signed,
        "iam_xh_mean_absolute_deviation": iam_absolute,
        "n_xh": n_bonds,
        "mean_u_ratio": mean_u_ratio(result),
        "n_cycles": len(result.hirshfeld.cycles),
        "stage_seconds": result.stage_seconds,
    }
    unit_cell = har.xray_structure.unit_cell()
    return Row(
        id=entry.id,
        job="aspherical",
        kind=entry.kind,
        space_group=str(har.xray_structure.space_group_info()),
        volume=unit_cell.volume(),
        d_min=har.fc_sq.d_min(),
        solved=result.hirshfeld.converged,
        r1=har.r1,
        r1_published=entry.r1_published,
        wr2=har.wr2,
        goof=har.goof,
        seconds=time.monotonic() - began,
        message="; ".join(result.warnings) or None,
        details=plain(details),
    )


def _agreement(refinement, residual):
    return {
        "r1": refinement.r1,
        "wr2": refinement.wr2,
        "goof": refinement.goof,
        "n_reflections": refinement.n_reflections,
        "n_parameters": refinement.n_parameters,
        "hole": residual.hole,
        "peak": residual.peak,
        "rms": residual.rms,
        "gross_electrons": residual.gross_electrons,
    }


def line(row) -> str:
    """One entry, spherical and Hirshfeld atoms."""
    if row.details is None:
        return f"{row.id:<16s} {row.message or ''}"
    if row.details.get("low_resolution"):
        return benchmark_low_resolution.line(row)
    texts = []
    for name in ("iam", "har"):
        figures = row.details[name]
        prefix = "iam_" if name == "iam" else ""
        texts.append(
            f"{row.id if name == 'iam' else '':<16s} {name:<4s} {figures['r1']:7.4f}"
            f" {figures['wr2']:7.4f} {figures['goof']:6.2f} {figures['hole']:7.3f}"
            f" {figures['peak']:6.3f} {_figure(row.details[prefix + 'xh_mean_deviation']):>8s}"
            f" {_figure(row.details[prefix + 'xh_mean_absolute_deviation']):>8s}"
        )
    stages = ", ".join(
        f"{name} {seconds:.0f}" for name, seconds in row.details["stage_seconds"].items()
    )
    texts.append(
        f"{'':<16s} {row.details['n_xh']} X-H bonds, U(har)/U(iam)"
        f" {row.details['mean_u_ratio']:.3f}, {row.details['n_cycles']} cycles,"
        f" {row.seconds:.0f} s ({stages}){'' if row.solved else ', not converged'}"
    )
    return "\n".join(texts)


def header() -> str:
    """Head of the columns of `line`."""
    return (
        f"{'id':<16s} {'':<4s} {'R1':>7s} {'wR2':>7s} {'GooF':>6s} {'hole':>7s} {'peak':>6s}"
        f" {'d(X-H)':>8s} {'|d(X-H)|':>8s}"
    )


def table(rows) -> list[str]:
    """Every entry, and the bonds to hydrogen of all of them against neutron diffraction."""
    done = [row for row in rows if row.details is not None]
    failures = failure_lines([row for row in rows if row.details is None])
    coarse = [row for row in done if row.details.get("low_resolution")]
    done = [row for row in done if row not in coarse]
    if coarse and not done:
        return benchmark_low_resolution.table(coarse) + failures
    lines = benchmark_low_resolution.table(coarse) if coarse else []
    lines += ["", header(), "-" * len(header())]
    lines += [line(row) for row in done]
    if done:
        deviations = [d for row in done for d in row.details["xh_deviations"]]
        of_sets = [row.details["xh_mean_absolute_deviation"] for row in done if row.details["n_xh"]]
        if deviations:
            n = len(deviations)
            lines += [
                "",
                f"X-H against neutron means (Allen & Bruno, Acta Cryst. B66, 380, 2010), {n} bonds"
                f" of {len(of_sets)} sets:",
                f"mean deviation {sum(deviations) / n:+.4f} A, mean absolute deviation"
                f" {sum(map(abs, deviations)) / n:.4f} A,"
                f" mean over the sets {sum(of_sets) / len(of_sets):.4f} A",
            ]
    return lines + failures


def _figure(value):
    return "-" if value is None or math.isnan(value) else f"{value:+.4f}"


__all__ = ["JOB_KINDS", "line", "run", "table"]
