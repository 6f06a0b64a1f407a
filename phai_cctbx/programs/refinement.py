"""Refines a model against its data with spherical or aspherical scatterers, and writes files.

read -> prepare -> refine -> write, for ``scattering`` iam, har (Hirshfeld atoms) or a table.
"""

from __future__ import annotations

import io
import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# cctbx
from libtbx.utils import Sorry

from phai_cctbx.aspherical import tables
from phai_cctbx.aspherical.hirshfeld import HirshfeldResult, LeastSquares, free_hydrogens
from phai_cctbx.aspherical.neutron import hydrogen_bond_lengths, mean_deviation
from phai_cctbx.aspherical.residual_density import ResidualDensity, analyse_residual
from phai_cctbx.io.atomic_file import write_text
from phai_cctbx.io.read import read
from phai_cctbx.io.write_summary import write_json
from phai_cctbx.programs import report
from phai_cctbx.programs.command import log_to
from phai_cctbx.programs.crystal_input import check_crystal_input, prepare_crystal
from phai_cctbx.programs.hirshfeld_stage import (
    ASPHERICAL_EXTENSIONS,
    HAR,
    HAR_PHIL,
    IAM,
    HirshfeldParameters,
    agreement_lines,
    check_possible,
    hirshfeld_summary,
    hydrogen_lines,
    least_squares_keywords,
    run_hirshfeld,
)
from phai_cctbx.programs.model_file import check_hydrogens, read_model
from phai_cctbx.programs.output_files import OutputFiles
from phai_cctbx.programs.refinement_files import (
    RefinedStructure,
    aspherical_items,
    write_refinement,
)
from phai_cctbx.refinement.least_squares import RefinementResult, prepare_scattering
from phai_cctbx.version import __version__

logger = logging.getLogger(__name__)

TABLE = "tsc:"
PREFIX_SUFFIX = "_phai"
EXTENSIONS = ("res", "cif", "fcf", "mtz", "ccp4", "log", "json", "eff")

MASTER_PHIL = (
    """
input {
  path = None
    .type = str
    .help = Model to refine, .res, .ins or .cif
  hkl = None
    .type = str
    .help = Reflections, where they are not those that belong to path
}
scattering = iam
  .type = str
  .help = iam, har (Hirshfeld atoms from quantum chemistry) or tsc:FILE (a table)
data {
  d_min = None
    .type = float(value_min=0.1)
    .help = Resolution limit in A, all data by default
}
refinement {
  hydrogens = *auto isotropic anisotropic riding
    .type = choice
    .help = Free hydrogens with these displacements, or as the AFIX of the file has them
  weights = *optimise keep
    .type = choice
    .help = SHELXL weights made flat over F(calc), or those of the file (statistical without)
  extinction = *auto yes no
    .type = choice
    .help = auto keeps it where it exceeds 3 esds
}
output {
  directory = "."
    .type = str
    .help = Folder of the result files
  prefix = None
    .type = str
    .help = Base name of the result files, NAME_phai by default
}
"""
    + HAR_PHIL
)


@dataclass(frozen=True)
class RefineResult:
    """What `refine_model` did.

    Attributes
    ----------
    refinement : RefinementResult
    hirshfeld : HirshfeldResult or None
    residual : ResidualDensity
    independent_atoms_residual : ResidualDensity or None
        Of the spherical model, for comparison.
    table : FormFactorTable or None
    warnings : tuple of str
    files : dict of str to pathlib.Path
    seconds : float
    stage_seconds : dict of str to float
    """

    refinement: RefinementResult
    hirshfeld: HirshfeldResult | None
    residual: ResidualDensity
    independent_atoms_residual: ResidualDensity | None
    table: tables.FormFactorTable | None
    warnings: tuple
    files: dict
    seconds: float
    stage_seconds: dict
    scattering: str

    @property
    def exit_status(self) -> int:
        """0 where the refinement converged, else 3."""
        return 0 if self.hirshfeld is None or self.hirshfeld.converged else 3

    def summary(self) -> dict:
        """The figures of the .json file."""
        r = self.refinement
        signed, absolute, n = mean_deviation(hydrogen_bond_lengths(r.xray_structure))
        summary = {
            "scattering": self.scattering,
            "r1": r.r1,
            "r1_all": r.r1_all,
            "wr2": r.wr2,
            "goof": r.goof,
            "n_reflections": r.n_reflections,
            "n_parameters": r.n_parameters,
            "n_restraints": r.n_restraints,
            "weighting": [r.weighting.a, r.weighting.b],
            "extinction": r.extinction,
            "max_shift_over_esd": r.max_shift_over_esd,
            "difference_peak": self.residual.peak,
            "difference_hole": self.residual.hole,
            "difference_rms": self.residual.rms,
            "gross_residual_electrons": self.residual.gross_electrons,
            "fractal_dimension": [self.residual.levels, self.residual.dimension],
            "xh_mean_deviation": signed,
            "xh_mean_absolute_deviation": absolute,
            "n_xh": n,
            "space_group": str(r.xray_structure.space_group_info()),
            "seconds": self.seconds,
            "stage_seconds": self.stage_seconds,
            "warnings": list(self.warnings),
            "files": {name: path.name for name, path in self.files.items()},
            "version": __version__,
        }
        if self.hirshfeld is not None:
            summary |= hirshfeld_summary(self.hirshfeld, self.independent_atoms_residual)
        return summary


def refine_model(
    path,
    hkl=None,
    scattering: str = IAM,
    d_min: float | None = None,
    hydrogens: str = "auto",
    weights: str = "optimise",
    extinction: str = "auto",
    har: HirshfeldParameters | None = None,
    directory=".",
    prefix: str | None = None,
    overwrite: bool = False,
    eff: str = "",
    model=None,
    progress=None,
) -> RefineResult:
    """Refine a model and write its files.

    Parameters
    ----------
    path : path-like
        ``.res``, ``.ins`` or ``.cif`` with a model; its reflections beside it.
    hkl : path-like, optional
    scattering : str
        ``"iam"``, ``"har"`` or ``"tsc:FILE"``.
    d_min : float, optional
        A.
    hydrogens, weights, extinction : str
        As in the parameters of phai_cctbx.refine.
    har : HirshfeldParameters, optional
        For scattering har.
    directory, prefix, overwrite
        Of the result files; nothing is written where `directory` is None.
    eff : str
        Parameters that repeat the run.
    model : Model, optional
        In place of the one in `path`, which then gives the data alone.
    progress : callable(str), optional

    Returns
    -------
    RefineResult

    Raises
    ------
    Sorry
        If the input cannot be used or a calculation fails.
    """
    started = time.monotonic()
    check_crystal_input(path, d_min, "a model, .res, .ins or .cif")
    table_path = check_scattering(scattering)
    har = har or HirshfeldParameters()
    files = None
    if directory is not None:
        extensions = EXTENSIONS if scattering == IAM else EXTENSIONS + ASPHERICAL_EXTENSIONS
        files = OutputFiles(
            prefix or Path(path).stem + PREFIX_SUFFIX, extensions, directory, overwrite
        )
    log = io.StringIO()
    with log_to(log):
        _log(f"phai_cctbx {__version__}: refinement of {path}, scattering {scattering}")
        data = read(path, hkl)
        prepared = prepare_crystal(data, d_min)
        _log(*report.heading("Data"), *report.data_lines(data, prepared))
        model = model or read_model(path)
        structure = model.xray_structure.deep_copy_scatterers()
        prepare_scattering(structure, data.radiation, data.wavelength)
        f_sq = prepared.f_sq.map_to_asu()
        free = hydrogens != "riding" and scattering != IAM
        used = model.without_riding() if free else model
        settings = har.settings(hydrogens=hydrogens, weighting=weights, extinction=extinction)
        _log(*report.heading("Refinement"))
        hirshfeld, table, warnings, items = None, None, [], None
        quantum = None
        if scattering == HAR:
            check_possible(har, data.radiation)
            check_hydrogens(structure, path)
            quantum = har.quantum(progress)
            hirshfeld = run_hirshfeld(used, structure, f_sq, data.wavelength, quantum, settings)
            refinement, table = hirshfeld.refinement, hirshfeld.table
            warnings = list(hirshfeld.warnings)
            items = aspherical_items(hirshfeld, quantum)
        else:
            least_squares = LeastSquares(
                f_sq,
                data.wavelength,
                settings,
                used.weighting,
                used.extinction,
                **least_squares_keywords(used),
            )
            if table_path:
                table = tables.read_tsc(table_path)
                warnings = tables.validate(table, structure, f_sq.indices(), str(table_path))
                name = Path(table_path).name
                items = {
                    "_aspheric_ffs.source": f"table {name}",
                    "_refine_special_details": f"Aspherical form factors: {name}, {table.title}",
                }
                structure = free_hydrogens(structure, hydrogens == "anisotropic")
            refinement = least_squares(structure, str(table_path) if table_path else None)
            refinement = least_squares.try_extinction(
                refinement, str(table_path) if table_path else None
            )
        residual = analyse_residual(refinement, f_sq)
        iam_residual = hirshfeld and analyse_residual(hirshfeld.independent_atoms, f_sq)
        shift = hirshfeld.cycles[-1].shift_over_esd if hirshfeld else refinement.max_shift_over_esd
        result = RefineResult(
            refinement=refinement,
            hirshfeld=hirshfeld,
            residual=residual,
            independent_atoms_residual=iam_residual,
            table=table,
            warnings=tuple(warnings),
            files=files.paths if files else {},
            seconds=time.monotonic() - started,
            stage_seconds={
                **(hirshfeld.seconds if hirshfeld else {}),
                **(quantum.seconds if quantum else {}),
            },
            scattering=scattering,
        )
        _log(*report.heading("Summary"), *summary_lines(result))
        if files:
            refined = RefinedStructure(refinement, residual, shift)
            with files.staged() as paths:
                write_refinement(paths, data, prepared, refined, table, items)
                write_text(paths["eff"], eff)
                write_json(paths["json"], result.summary())
                write_text(paths["log"], log.getvalue())
    return result


def check_scattering(scattering: str):
    """The table's path where `scattering` names one, or None.

    Raises
    ------
    Sorry
        For anything but iam, har and tsc:FILE.
    """
    if scattering in (IAM, HAR):
        return None
    if scattering.startswith(TABLE):
        path = Path(scattering[len(TABLE) :])
        if not path.is_file():
            raise Sorry(f"scattering={scattering}: no such file as {path}.")
        return path
    raise Sorry(f"scattering={scattering}: expected iam, har or tsc:FILE.")


def summary_lines(result: RefineResult) -> list[str]:
    """The account of a refinement."""
    pairs = [(result.scattering, result.refinement, result.residual)]
    if result.hirshfeld is not None:
        pairs.insert(
            0, (IAM, result.hirshfeld.independent_atoms, result.independent_atoms_residual)
        )
    lines = agreement_lines(pairs) + hydrogen_lines(result.refinement.xray_structure)
    lines += [f"Warning: {warning}" for warning in result.warnings]
    lines.append(f"{result.seconds:.0f} s")
    return lines


def mean_u_ratio(result: RefineResult) -> float:
    """Mean ratio of U(eq), Hirshfeld to spherical atoms, of the atoms that are not hydrogen."""
    after = result.refinement.xray_structure
    before = result.hirshfeld.independent_atoms.xray_structure
    unit_cell = after.unit_cell()
    ratios = [
        new.u_iso_or_equiv(unit_cell) / old.u_iso_or_equiv(unit_cell)
        for new, old in zip(after.scatterers(), before.scatterers(), strict=True)
        if new.element_symbol() not in ("H", "D")
    ]
    return float(np.mean(ratios)) if ratios else math.nan


def _log(*lines):
    for line in lines:
        logger.info("%s", line)
