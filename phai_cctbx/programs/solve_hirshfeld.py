"""The last stage of a solution: the finished structure refined again with Hirshfeld atoms."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

# cctbx
from libtbx.utils import Sorry
from smtbx.refinement.restraints import manager

from phai_cctbx.aspherical.estimate import estimate_lines
from phai_cctbx.aspherical.fixed import refine_with_fixed_form_factors
from phai_cctbx.aspherical.hirshfeld import HirshfeldResult
from phai_cctbx.aspherical.quantum import Quantum
from phai_cctbx.aspherical.residual_density import ResidualDensity, analyse_residual
from phai_cctbx.building.disorder import parts
from phai_cctbx.programs.hirshfeld_stage import (
    HirshfeldParameters,
    agreement_lines,
    hirshfeld_summary,
    hydrogen_lines,
    run_hirshfeld,
    table_beside,
)
from phai_cctbx.programs.model_file import Model, check_hydrogens
from phai_cctbx.programs.molecule import MoleculeResult
from phai_cctbx.programs.refinement_files import aspherical_items, write_aspherical
from phai_cctbx.refinement.completion import Solution, Step, refinement_figures
from phai_cctbx.refinement.least_squares import prepare_scattering
from phai_cctbx.refinement.parts import (
    disordered_atoms,
    distance_restraints,
    occupancy_constraints,
)
from phai_cctbx.refinement.riding import riding_constraints
from phai_cctbx.refinement.weighting import Weighting

logger = logging.getLogger(__name__)

HYDROGENS = ("H", "D")


@dataclass(frozen=True)
class HirshfeldStage:
    """A solution with Hirshfeld atoms.

    Attributes
    ----------
    solution : Solution
        The structure as refined with them.
    result : HirshfeldResult
    independent_atoms_residual : ResidualDensity
        Of the spherical model with the same parameters.
    quantum : Quantum
        What ran the calculations.
    """

    solution: Solution
    result: HirshfeldResult
    independent_atoms_residual: ResidualDensity
    quantum: Quantum

    def summary(self) -> dict:
        """The figures for the .json file."""
        return {
            "method": self.quantum.method.description(),
            **hirshfeld_summary(self.result, self.independent_atoms_residual),
            "stage_seconds": {**self.result.seconds, **self.quantum.seconds},
        }

    def cif_items(self) -> dict[str, str]:
        """CIF items on the scatterers."""
        return aspherical_items(self.result, self.quantum)

    def remarks(self) -> list[str]:
        """What the .res says of its scatterers."""
        return [f"aspherical scatterers: {self.result.table.title}"]

    def write(self, paths, f_sq) -> None:
        """Write the files that spherical atoms do not have."""
        write_aspherical(paths, self.result.refinement, f_sq.map_to_asu(), self.result.table)


def refine_solution(
    data,
    prepared,
    solution: Solution,
    temperature: float,
    parameters: HirshfeldParameters,
    progress=None,
) -> HirshfeldStage:
    """Refine a solved structure with Hirshfeld atoms, its hydrogens freed.

    Parameters
    ----------
    data : CrystalData
    prepared : PreparedData
    solution : Solution
    temperature : float
        Degrees Celsius.
    parameters : HirshfeldParameters
    progress : callable(str), optional

    Raises
    ------
    Sorry
        If the structure cannot be calculated: no hydrogens, no charges that fit, an SCF that
        does not converge.
    """
    if solution.twin is not None:
        raise Sorry("twins are refined with spherical atoms alone: detwin the data first.")
    structure = solution.xray_structure.deep_copy_scatterers()
    check_hydrogens(structure, "The solved structure")
    prepare_scattering(structure, data.radiation, data.wavelength)
    f_sq = prepared.f_sq.map_to_asu()
    model = Model(
        structure,
        **_two_parts(structure, solution),
        weighting=Weighting(*solution.weighting),
        extinction=solution.extinction,
        temperature=temperature,
    )
    quantum = parameters.quantum(progress)
    result = run_hirshfeld(model, structure, f_sq, data.wavelength, quantum, parameters.settings())
    residual = analyse_residual(result.refinement, f_sq)
    spherical_residual = analyse_residual(result.independent_atoms, f_sq)
    models = [
        ("iam", result.independent_atoms, spherical_residual),
        ("har", result.refinement, residual),
    ]
    refined = result.refinement.xray_structure
    for line in ["", *agreement_lines(models), *hydrogen_lines(refined)]:
        logger.info("%s", line)
    return HirshfeldStage(
        refined_solution(solution, result, residual), result, spherical_residual, quantum
    )


def _two_parts(structure, solution: Solution) -> dict:
    """What a model says of disordered groups; hydrogens of second parts go on riding."""
    if not solution.disorder:
        return {}
    conformers = parts(structure.scatterers().size(), solution.disorder)
    second = [g for g in solution.riding if g.hydrogens and conformers[g.hydrogens[0]] == 2]
    riding = riding_constraints(structure, second, internuclear=True)
    return {
        "constraints": (*occupancy_constraints(solution.disorder), *riding),
        "restraints": manager(
            bond_similarity_proxies=distance_restraints(structure, solution.disorder)
        ),
        "conformers": tuple(conformers),
        "occupancies": tuple(disordered_atoms(solution.disorder)),
    }


def refine_known_molecule(
    data, prepared, known: MoleculeResult, parameters: HirshfeldParameters, seed: int, progress=None
) -> HirshfeldStage:
    """Refine a known molecule with form factors fixed to its frame, its restraints kept.

    Parameters
    ----------
    data : CrystalData
    prepared : PreparedData
    known : MoleculeResult
    parameters : HirshfeldParameters
    seed : int
        Of the reflections that are held out.
    progress : callable(str), optional

    Raises
    ------
    Sorry
        As `refine_solution`.
    """
    settings, quantum = parameters.settings(), parameters.quantum(progress)
    f_sq, f_obs = prepared.f_sq.common_sets(prepared.f_obs)
    structure = known.refined.refinement.xray_structure
    for line in estimate_lines(structure, quantum, settings):
        logger.info("%s", line)
    with table_beside(quantum) as table_file:
        refined, result = refine_with_fixed_form_factors(
            known.refined, f_sq, f_obs, quantum, settings, table_file, seed
        )
    before, after = known.refined.level.held_out_r, refined.level.held_out_r
    logger.info("Held-out R %.4f with spherical atoms, %.4f with fixed form factors", before, after)
    if after > before:
        worse = f"Aspherical form factors raise the held-out R from {before:.4f} to {after:.4f}."
        result = replace(result, warnings=(*result.warnings, worse))
    spherical_residual = analyse_residual(result.independent_atoms, f_sq)
    solution = replace(known, refined=refined).solution(prepared)
    solution = replace(
        solution,
        warnings=(*solution.warnings, *result.warnings),
        scatterers=result.table.title,
    )
    return HirshfeldStage(solution, result, spherical_residual, quantum)


def refined_solution(
    solution: Solution, result: HirshfeldResult, residual: ResidualDensity
) -> Solution:
    """The solution with the structure and the figures of its refinement with Hirshfeld atoms."""
    refinement = result.refinement
    structure = refinement.xray_structure
    n_atoms = sum(s.element_symbol() not in HYDROGENS for s in structure.scatterers())
    steps = [Step("spherical atoms, free hydrogens", result.independent_atoms.r1, n_atoms)]
    steps += [Step(f"Hirshfeld atoms, cycle {c.number}", c.r1, n_atoms) for c in result.cycles]
    return replace(
        solution,
        xray_structure=structure,
        difference_peak=residual.peak,
        difference_hole=residual.hole,
        difference_rms=residual.rms,
        max_shift_over_esd=result.cycles[-1].shift_over_esd,
        history=(*solution.history, *steps),
        warnings=(*solution.warnings, *result.warnings),
        **refinement_figures(refinement),
        riding=(),
        scatterers=result.table.title,
    )


def attempt(refine, *arguments) -> tuple[HirshfeldStage | None, str | None]:
    """A stage, or why it was not possible: the solution is not lost over that.

    Parameters
    ----------
    refine : callable
        `refine_solution` or `refine_known_molecule`.
    """
    try:
        return refine(*arguments), None
    except Sorry as error:
        return None, f"Hirshfeld atoms were asked for and not refined: {error}"
