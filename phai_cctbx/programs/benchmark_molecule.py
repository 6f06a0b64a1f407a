"""Benchmark job=molecule: known molecules placed, refined and judged, right ones and wrong ones.

The molecule of a measured set is read from ``measured/<id>/molecule.smi``, or from the table that
``molecules=FILE`` names (columns id, smiles, copies); that of a published model comes from its
coordinates by RDKit, and its amplitudes are calculated and made inexact. Each crystal is given its
own molecule, an isomer and a homologue (`phai_cctbx.programs.benchmark_decoys`).
"""

from __future__ import annotations

import csv
import time
import zlib
from pathlib import Path

import numpy as np

# cctbx
from cctbx.array_family import flex
from libtbx.utils import Sorry

from phai_cctbx.building.molecule import read_molecules
from phai_cctbx.io.crystal_data import Composition, CrystalData
from phai_cctbx.io.read import read
from phai_cctbx.phasing.neural import NeuralPhaser
from phai_cctbx.phasing.scoring import score_r
from phai_cctbx.programs.benchmark_decoys import KINDS as WRONG_KINDS
from phai_cctbx.programs.benchmark_decoys import wrong_molecules
from phai_cctbx.programs.benchmark_entries import KINDS, MEASURED, Entry, reference_structure
from phai_cctbx.programs.benchmark_phasing import CALCULATED_D_MIN
from phai_cctbx.programs.benchmark_rows import Row
from phai_cctbx.programs.benchmark_table import failure_lines, solution_header
from phai_cctbx.programs.benchmark_table import solution_line as line
from phai_cctbx.programs.crystal_input import prepare_crystal
from phai_cctbx.programs.molecule import MoleculeResult, build_molecules
from phai_cctbx.refinement.comparison import compare
from phai_cctbx.refinement.completion import cell_contents
from phai_cctbx.refinement.molecule_refinement import FREE

#: Kinds of entries that the job runs on, and those that it runs on unless it is told.
JOB_KINDS = KINDS
DEFAULT_KINDS = (MEASURED,)
#: A molecule counts as built below this root mean square deviation, A.
RMSD_BUILT = 0.20
#: Distance (A) within which atoms are compared.
TOLERANCE = 1.0
#: What is said of a set without a molecule.
NO_MOLECULE = "no molecule given"
#: Relative error of calculated amplitudes: the median R1 of published structures is near 0.04.
AMPLITUDE_ERROR = 0.04
#: Standard deviation of calculated intensities: share of each, and of their mean.
INTENSITY_SIGMA = (0.03, 0.01)


def run(entry: Entry, settings) -> Row:
    """Build the molecule of one entry, and wrong ones in its place.

    Parameters
    ----------
    entry : Entry
    settings : phai_cctbx.programs.benchmark_settings.Settings

    Raises
    ------
    libtbx.utils.Sorry
        If no molecule is given for the entry.
    """
    reference = reference_structure(entry.model_path)
    if entry.kind == MEASURED:
        smiles, copies = molecule_of(entry, settings.molecules)
        data = read(entry.data_path)
    else:
        smiles, copies = molecule_of_model(entry)
        data = calculated_data(entry, reference, settings.d_min, settings.seed)
    prepared = prepare_crystal(data, settings.d_min)
    said: list[str] = []
    phases: list = []

    def phase_sets():
        if not phases and not said:
            try:
                phaser = NeuralPhaser(seed=settings.seed, **settings.phaser_options())
                phases.append(phaser(prepared.f_obs))
            except Sorry as error:
                said.append(f"no phases ({' '.join(str(error).split())[:60]})")
        return [phases[0], *phases[0].alternatives] if phases else []

    def built(molecule):
        began = time.process_time()
        result = build_molecules(
            data, prepared, [molecule], [copies] if copies else [], phase_sets, settings.seed
        )
        return result, _figures(result, time.process_time() - began)

    result, details = built(smiles)
    details["wrong"] = []
    for kind, other in wrong_molecules(smiles, settings.seed).items():
        details["wrong"].append({"kind": kind, "smiles": other} | built(other)[1])
    r = None
    if phases:
        f_phased = phases[0].f_phased
        f_calc = f_phased.structure_factors_from_scatterers(reference, algorithm="direct").f_calc()
        r = score_r(f_phased, f_calc).r
    refined = result.refined
    comparison = compare(refined.refinement.xray_structure, reference, TOLERANCE)
    n_atoms = comparison.n_matched + comparison.n_missing
    whole = comparison.n_missing == 0 and comparison.wrong_elements == 0
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
        message="; ".join(
            [
                f"{comparison.n_matched} of {n_atoms} atoms",
                _said_of("it", details),
                f"free {details['free_r']:.3f}" if details["free_r"] else "free not possible",
                refined.level.name,
                f"found by {result.placed.best.origin}",
                *(_said_of(wrong["kind"], wrong) for wrong in details["wrong"]),
                *said,
            ]
        ),
        details=details,
    )


def _figures(result: MoleculeResult, cpu_seconds: float) -> dict:
    """What the program says of a molecule, for the JSON file."""
    judgement = result.judgement
    free = [level.held_out_r for level in result.refined.levels if level.name == FREE]
    return {
        "judged_right": judgement.right,
        "reasons": list(judgement.reasons),
        "held_out_r": judgement.held_out_r,
        "free_r": free[0] if free else None,
        "seconds": result.seconds,
        "cpu_seconds": cpu_seconds,
    }


def _said_of(what: str, figures: dict) -> str:
    verdict = "right" if figures["judged_right"] else "wrong"
    return f"{what}: held-out R {figures['held_out_r']:.3f}, judged {verdict}"


def calculated_data(entry: Entry, model, d_min: float | None, seed: int) -> CrystalData:
    """Intensities of a published model with the errors of a measurement and of a model.

    Parameters
    ----------
    entry : Entry
    model : cctbx.xray.structure
    d_min : float or None
        A; None for `CALCULATED_D_MIN`.
    seed : int
    """
    rng = np.random.default_rng([seed, zlib.crc32(entry.id.encode())])
    f_calc = model.structure_factors(
        d_min=d_min or CALCULATED_D_MIN, anomalous_flag=False, algorithm="direct"
    ).f_calc()
    amplitudes = f_calc.as_amplitude_array().data().as_numpy_array()
    intensities = (amplitudes * rng.normal(1, AMPLITUDE_ERROR, len(amplitudes))) ** 2
    own, mean = INTENSITY_SIGMA
    sigmas = own * intensities + mean * intensities.mean()
    observations = f_calc.customized_copy(
        data=flex.double(intensities + rng.normal(size=len(sigmas)) * sigmas),
        sigmas=flex.double(sigmas),
    ).set_observation_type_xray_intensity()
    return CrystalData(
        title=entry.id,
        crystal_symmetry=model.crystal_symmetry(),
        observations=observations,
        composition=Composition(cell_contents(model), "the model"),
        z=None,
        wavelength=None,
        radiation="xray",
        provenance=(f"{entry.model_path}: amplitudes of the model, made inexact",),
        rejected=(),
        shelx_header=None,
    )


def molecule_of_model(entry: Entry) -> tuple[str, int]:
    """SMILES and copies (0: as the contents say) of the molecule that a published model holds.

    Raises
    ------
    libtbx.utils.Sorry
        If RDKit finds no molecule in its coordinates, or several different ones.
    """
    names = [molecule.name for molecule in read_molecules(entry.model_path)]
    if len(set(names)) > 1:
        raise Sorry("several kinds of molecules in the model")
    return names[0], 0 if len(names) == 1 else len(names)


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
    done = [row for row in rows if row.solved is not None]
    lines = ["", "Known molecules", solution_header(), "-" * len(solution_header())]
    lines += [line(row) for row in done]
    lines += summary(done) if done else []
    return lines + failure_lines([row for row in rows if row not in done])


def summary(rows) -> list[str]:
    """Lines of figures over all molecules: built, against free atoms, verdicts, seconds."""
    rmsd = np.array([np.inf if row.rmsd is None else row.rmsd for row in rows])
    details = [row.details for row in rows]
    free = [d for d in details if d["free_r"] is not None]
    lines = [
        f"{sum(bool(row.solved) for row in rows)} of {len(rows)} built (rmsd < {RMSD_BUILT} A,"
        f" every atom), median rmsd {np.nanmedian(rmsd):.3f} A",
        f"held-out R: median {np.median([d['held_out_r'] for d in details]):.3f}; of free atoms"
        f" {np.median([d['free_r'] for d in free]) if free else np.nan:.3f}, higher in"
        f" {sum(d['free_r'] > d['held_out_r'] for d in free)} of {len(free)}, not possible in"
        f" {len(details) - len(free)}",
        f"right molecule judged right: {sum(d['judged_right'] for d in details)} of {len(rows)}",
    ]
    for kind in WRONG_KINDS:
        wrong = [w for d in details for w in d["wrong"] if w["kind"] == kind]
        found_out = sum(not w["judged_right"] for w in wrong)
        lines.append(f"{kind} judged wrong: {found_out} of {len(wrong)}")
    lines.append(
        f"median {np.median([row.seconds for row in rows]):.0f} s by the clock,"
        f" {np.median([d['cpu_seconds'] for d in details]):.0f} s of one core"
    )
    return lines


__all__ = ["JOB_KINDS", "line", "run", "table"]
