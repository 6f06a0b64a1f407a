"""Benchmark job=aspherical d_min=X: whether aspherical atoms help where the data end early.

The known molecule of each set is placed and refined with restraints, with spherical atoms and
with form factors fixed to its frame. Neither sees the model at full resolution that both are
measured by.
"""

from __future__ import annotations

import time

import numpy as np

# cctbx
from cctbx import xray

from phai_cctbx.aspherical.fixed import refine_with_fixed_form_factors
from phai_cctbx.io.read import read
from phai_cctbx.io.write_summary import plain
from phai_cctbx.programs.benchmark_entries import Entry, reference_structure
from phai_cctbx.programs.benchmark_molecule import TOLERANCE, molecule_of
from phai_cctbx.programs.benchmark_rows import Row
from phai_cctbx.programs.crystal_input import prepare_crystal
from phai_cctbx.programs.hirshfeld_stage import HirshfeldParameters, table_beside
from phai_cctbx.programs.molecule import build_molecules
from phai_cctbx.refinement.comparison import compare

LOW_RESOLUTION = 1.2
"""Data that end here (A) or before are refined with restraints and fixed form factors."""

HYDROGENS = ("H", "D")


def run(entry: Entry, settings) -> Row:
    """Place and refine the molecule of one entry, with spherical and with fixed form factors.

    Parameters
    ----------
    entry : Entry
    settings : phai_cctbx.programs.benchmark_settings.Settings

    Raises
    ------
    libtbx.utils.Sorry
        If no molecule is given for the entry, or a stage fails.
    """
    began = time.monotonic()
    smiles, copies = molecule_of(entry, settings.molecules)
    data = read(entry.data_path)
    prepared = prepare_crystal(data, settings.d_min)
    known = build_molecules(data, prepared, [smiles], [copies] if copies else [], [], settings.seed)
    placed = time.monotonic()
    parameters = HirshfeldParameters()
    quantum = parameters.quantum()
    with table_beside(quantum) as table_file:
        refined, result = refine_with_fixed_form_factors(
            known.refined,
            prepared.f_sq,
            prepared.f_obs,
            quantum,
            parameters.settings(),
            table_file,
            settings.seed,
        )
    reference = reference_structure(entry.model_path)
    models = {"iam": known.refined, "har": refined}
    details = {"low_resolution": True, "level": known.refined.level.name}
    for name, model in models.items():
        details[name] = figures(model, reference)
    details["stage_seconds"] = {
        "placement": placed - began,
        **result.seconds,
        **quantum.seconds,
    }
    details["n_cycles"] = len(result.cycles)
    har = refined.refinement
    return Row(
        id=entry.id,
        job="aspherical",
        kind=entry.kind,
        space_group=str(data.crystal_symmetry.space_group_info()),
        volume=prepared.f_obs.unit_cell().volume(),
        d_min=prepared.f_obs.d_min(),
        solved=result.converged,
        r1=har.r1,
        r1_published=entry.r1_published,
        wr2=har.wr2,
        goof=har.goof,
        rmsd=details["har"]["rmsd"],
        seconds=time.monotonic() - began,
        message="; ".join(result.warnings) or None,
        details=plain(details),
    )


def figures(refined, reference: xray.structure) -> dict:
    """Agreement of a restrained molecule, and its distance to the model at full resolution.

    Parameters
    ----------
    refined : MoleculeRefinement
    reference : xray.structure
    """
    result = refined.refinement
    comparison = compare(result.xray_structure, reference, TOLERANCE)
    return {
        "r1": result.r1,
        "wr2": result.wr2,
        "goof": result.goof,
        "n_reflections": result.n_reflections,
        "n_parameters": result.n_parameters,
        "held_out_r": refined.level.held_out_r,
        "restraint_rms": refined.restraint_rms,
        "rmsd": comparison.rmsd,
        "n_matched": comparison.n_matched,
        "u_ratio": mean_u(result.xray_structure) / mean_u(reference),
    }


def mean_u(structure: xray.structure) -> float:
    """Mean U(eq) of the atoms that are not hydrogen, A^2."""
    unit_cell = structure.unit_cell()
    return float(
        np.mean(
            [
                s.u_iso_or_equiv(unit_cell)
                for s in structure.scatterers()
                if s.element_symbol() not in HYDROGENS
            ]
        )
    )


def header() -> str:
    """Head of the columns of `line`."""
    return (
        f"{'id':<16s} {'':<4s} {'d_min':>5s} {'refl.':>5s} {'par.':>4s} {'R1':>7s}"
        f" {'held out':>8s} {'rmsd/A':>7s} {'strain':>6s} {'U/U(ref)':>8s}"
    )


def line(row) -> str:
    """One entry, spherical atoms and fixed form factors."""
    texts = []
    for name in ("iam", "har"):
        each = row.details[name]
        texts.append(
            f"{row.id if name == 'iam' else '':<16s} {name:<4s} {row.d_min:5.2f}"
            f" {each['n_reflections']:5d} {each['n_parameters']:4d} {each['r1']:7.4f}"
            f" {each['held_out_r']:8.4f} {each['rmsd']:7.4f} {each['restraint_rms']:6.2f}"
            f" {each['u_ratio']:8.3f}"
        )
    stages = ", ".join(f"{name} {s:.0f}" for name, s in row.details["stage_seconds"].items())
    texts.append(
        f"{'':<16s} {row.details['level']}; {row.details['n_cycles']} turns, {row.seconds:.0f} s"
        f" ({stages}){'' if row.solved else ', not converged'}"
    )
    return "\n".join(texts)


def table(rows) -> list[str]:
    """Every entry, and how often the fixed form factors were nearer to the truth."""
    lines = ["", header(), "-" * len(header()), *(line(row) for row in rows)]
    if rows:
        pairs = [(row.details["iam"], row.details["har"]) for row in rows]
        lines.append("")
        for name, told in (("rmsd", "rmsd"), ("held_out_r", "held-out R"), ("r1", "R1")):
            lower = sum(har[name] < iam[name] for iam, har in pairs)
            means = [np.mean([each[name] for each in side]) for side in zip(*pairs, strict=True)]
            lines.append(
                f"{told} lower with fixed aspherical form factors in {lower} of {len(pairs)}; mean"
                f" {means[0]:.4f} spherical, {means[1]:.4f} aspherical"
            )
    return lines
