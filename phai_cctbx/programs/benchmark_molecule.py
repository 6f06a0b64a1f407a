"""Benchmark job=molecule: known molecules placed and refined, against the published models.

The molecule of a set is read from ``measured/<id>/molecule.smi``, or from the table that
``molecules=FILE`` names (columns id, smiles, copies). Sets without one are counted.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

# cctbx
from libtbx.utils import Sorry

from phai_cctbx.io.read import read
from phai_cctbx.phasing.neural import NeuralPhaser
from phai_cctbx.phasing.normalisation import prepare
from phai_cctbx.phasing.scoring import score_r
from phai_cctbx.programs.benchmark_entries import MEASURED, Entry, reference_structure
from phai_cctbx.programs.benchmark_rows import Row
from phai_cctbx.programs.benchmark_table import failure_lines, solution_header
from phai_cctbx.programs.benchmark_table import solution_line as line
from phai_cctbx.programs.molecule import build_molecules
from phai_cctbx.refinement.comparison import compare
from phai_cctbx.refinement.molecule_refinement import FREE

#: Kinds of entries that the job runs on.
JOB_KINDS = (MEASURED,)
#: A molecule counts as built below this root mean square deviation, A.
RMSD_BUILT = 0.20
#: Distance (A) within which atoms are compared.
TOLERANCE = 1.0
#: What is said of a set without a molecule.
NO_MOLECULE = "no molecule given"


def run(entry: Entry, settings) -> Row:
    """Build the known molecule of one entry.

    Parameters
    ----------
    entry : Entry
    settings : phai_cctbx.programs.benchmark_settings.Settings

    Raises
    ------
    libtbx.utils.Sorry
        If no molecule is given for the entry.
    """
    smiles, copies = molecule_of(entry, settings.molecules)
    data = read(entry.data_path)
    prepared = prepare(
        data.observations,
        d_min=settings.d_min,
        composition=data.composition.unit_cell_contents,
        radiation=data.radiation,
    )
    reference = reference_structure(entry.model_path)
    said = []
    phases = []

    def phase_sets():
        try:
            phaser = NeuralPhaser(seed=settings.seed, **settings.phaser_options())
            phases.append(phaser(prepared.f_obs))
        except Sorry as error:
            said.append(f"no phases ({' '.join(str(error).split())[:60]})")
            return []
        return [phases[0], *phases[0].alternatives]

    result = build_molecules(
        data, prepared, [smiles], [copies] if copies else [], phase_sets, settings.seed
    )
    r = None
    if phases:
        f_phased = phases[0].f_phased
        f_calc = f_phased.structure_factors_from_scatterers(reference, algorithm="direct").f_calc()
        r = score_r(f_phased, f_calc).r
    refined = result.refined
    comparison = compare(refined.refinement.xray_structure, reference, TOLERANCE)
    n_atoms = comparison.n_matched + comparison.n_missing
    whole = comparison.n_missing == 0 and comparison.wrong_elements == 0
    free = [level.held_out_r for level in refined.levels if level.name == FREE]
    return Row(
        id=entry.id,
        job="molecule",
        kind=entry.kind,
        space_group=str(data.crystal_symmetry.space_group_info()),
        volume=prepared.f_obs.unit_cell().volume(),
        d_min=prepared.f_obs.d_min(),
        r=r,
        solved=bool(whole and comparison.rmsd < RMSD_BUILT),
        r1=refined.refinement.r1,
        r1_published=entry.r1_published,
        wr2=refined.refinement.wr2,
        goof=refined.refinement.goof,
        rmsd=comparison.rmsd,
        wrong_elements=comparison.wrong_elements,
        seconds=result.seconds,
        message=(
            f"{comparison.n_matched} of {n_atoms} atoms; held-out R"
            f" {result.judgement.held_out_r:.3f}, free {free[0] if free else np.nan:.3f};"
            f" judged {'right' if result.judgement.right else 'wrong'}; {refined.level.name};"
            f" found by {result.placed.best.origin}{''.join('; ' + text for text in said)}"
        ),
    )


def molecule_of(entry: Entry, table) -> tuple[str, int]:
    """SMILES and copies (0 where not said) of the molecule of an entry.

    Raises
    ------
    libtbx.utils.Sorry
        If there is none, or the table cannot be read.
    """
    beside = entry.data_path.parent / "molecule.smi"
    if beside.is_file():
        words = beside.read_text(encoding="utf-8").split()
        if words:
            return words[0], 0
    if table is not None:
        try:
            with Path(table).open(encoding="utf-8", newline="") as lines:
                rows = list(csv.DictReader(lines, delimiter="\t"))
            for row in rows:
                if row["id"] == entry.id:
                    return row["smiles"], int(row.get("copies") or 0)
        except (OSError, UnicodeDecodeError, KeyError, ValueError) as error:
            raise Sorry(
                f"molecules={table}: not a table with columns id, smiles, copies ({error})."
            ) from error
    raise Sorry(NO_MOLECULE)


def table(rows) -> list[str]:
    """Lines that sum up the molecules, those without one counted by name."""
    done = [row for row in rows if row.rmsd is not None or row.solved is not None]
    lines = ["", "Known molecules", solution_header(), "-" * len(solution_header())]
    lines += [line(row) for row in done]
    if done:
        rmsd = np.array([np.inf if row.rmsd is None else row.rmsd for row in done])
        built = sum(bool(row.solved) for row in done)
        lines.append(
            f"{built} of {len(done)} built (rmsd < {RMSD_BUILT} A, every atom), median rmsd"
            f" {np.nanmedian(rmsd):.3f} A, median"
            f" {np.median([row.seconds for row in done]):.0f} s"
        )
    return lines + failure_lines([row for row in rows if row not in done])


__all__ = ["JOB_KINDS", "line", "run", "table"]
