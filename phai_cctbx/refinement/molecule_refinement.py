"""A placed molecule refined with as many parameters as the data allow, and no more.

Rigid bodies, then torsions, then coordinates of all atoms with restraints to the geometry of the
molecule, each judged by reflections left out of it. Hydrogens ride at internuclear distances.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

# cctbx
from cctbx import geometry_restraints, miller, xray
from cctbx.array_family import flex
from libtbx.utils import Sorry
from smtbx.refinement import constraints as smtbx_constraints
from smtbx.refinement import least_squares, restraints
from smtbx.refinement.constraints import adp
from smtbx.structure_factors import direct

from phai_cctbx.building.hydrogens import HydrogenGroup
from phai_cctbx.building.molecule_placement import unique_atoms
from phai_cctbx.building.molecule_pose import Diffraction, FlexibleFit, Placement
from phai_cctbx.building.naming import hydrogen_names
from phai_cctbx.refinement.least_squares import (
    DAMPING,
    SINGULAR_FLOOR,
    U_ISO_MAX,
    U_ISO_MIN,
    RefinementResult,
    prepare_scattering,
)
from phai_cctbx.refinement.riding import CovalentBonds, checked_groups, riding_constraints
from phai_cctbx.refinement.weighting import Weighting

logger = logging.getLogger(__name__)

N_FOLDS = 5
"""Parts of the reflections that are left out in turn."""

MIN_HELD_OUT_GAIN = 0.02
"""More parameters are taken where they lower the held-out R by this share."""

N_CYCLES = 12
"""Least-squares cycles of a restrained refinement."""

CONVERGED_SHIFT = 1e-3
"""Largest shift (A) of a cycle that ends them."""

MAX_SHIFT = 0.15
"""Largest step (A) of an atom in one cycle."""

HYDROGEN_SIGMA = 0.02
"""Deviation (A) of restrained X-H and, doubled, 1,3 distances of hydrogens that cannot ride."""

WEIGHTING = Weighting(a=0.1, b=0.0)
"""SHELXL's first weights: a model of 2 A data has errors in proportion to the intensities."""

RIGID, TORSIONS, FREE = "rigid bodies", "torsions", "free atoms, no restraints"


@dataclass(frozen=True)
class Level:
    """A choice of parameters, and what reflections that it did not see say of it.

    Attributes
    ----------
    name : str
    n_parameters, n_restraints : int
    held_out_r : float
        sum ||F_obs| - k |F_calc|| / sum |F_obs| over reflections left out in turn.
    """

    name: str
    n_parameters: int
    n_restraints: int
    held_out_r: float


@dataclass(frozen=True, eq=False)
class CrystalModel:
    """A placement as a structure that smtbx can refine.

    Attributes
    ----------
    structure : cctbx.xray.structure
    groups : tuple of HydrogenGroup
    proxies : list of (i, j, operator, distance, sigma)
        Prescribed distances; the operator brings j.
    molecules : tuple of tuple of int
        Non-hydrogen scatterers of each molecule.
    terminal : tuple of bool
        For each scatterer: whether one bond holds it.
    """

    structure: xray.structure
    groups: tuple[HydrogenGroup, ...]
    proxies: list
    molecules: tuple[tuple[int, ...], ...]
    terminal: tuple[bool, ...]


@dataclass(frozen=True)
class MoleculeRefinement:
    """A refined molecule and how its parameters were chosen.

    Attributes
    ----------
    refinement : RefinementResult
        Of the chosen level, all reflections.
    level : Level
        The one chosen.
    levels : tuple of Level
        All that were tried, free atoms last where the data allow them.
    placement : Placement
        The rigid molecules with torsions that the coordinates began from.
    groups : tuple of HydrogenGroup
    restraint_rms : float
        Root mean square deviation from prescribed distances, in their estimated deviations.
    model : CrystalModel
        What was refined.
    plan : Plan
        How, at the chosen level.
    """

    refinement: RefinementResult
    level: Level
    levels: tuple[Level, ...]
    placement: Placement
    groups: tuple[HydrogenGroup, ...]
    restraint_rms: float
    model: CrystalModel
    plan: Plan


@dataclass(frozen=True)
class Plan:
    """One way to refine a `CrystalModel`."""

    name: str
    tightness: float | None = 1.0
    grouped_u: bool = False
    move: bool = True


_RESTRAINED = (
    Plan("restrained atoms, tight, one U", 0.5),
    Plan("restrained atoms, one U", 1.0),
    Plan("restrained atoms, U of inner and terminal atoms", 1.0, grouped_u=True),
    Plan("restrained atoms, loose, U of inner and terminal atoms", 2.5, grouped_u=True),
)


def refine_molecule(
    f_sq: miller.array,
    f_obs: miller.array,
    placement: Placement,
    radiation: str = "xray",
    wavelength: float | None = None,
    with_free: bool = True,
    seed: int = 0,
) -> MoleculeRefinement:
    """Refine a placement with the number of parameters that held-out reflections allow.

    Parameters
    ----------
    f_sq, f_obs : cctbx.miller.array
        Merged intensities with sigmas, and the amplitudes made of them.
    placement : Placement
    radiation : {"xray", "electron", "neutron"}
    wavelength : float, optional
        A.
    with_free : bool
        Report the held-out R of a free refinement beside it; it is never chosen.
    seed : int
        Of the parts that are held out.

    Returns
    -------
    MoleculeRefinement
    """
    f_sq, f_obs = f_sq.common_sets(f_obs)
    elements = {e for pose in placement.poses for e in pose.molecule.elements}
    diffraction = Diffraction(f_obs, elements, radiation)
    folds = np.random.default_rng(seed).permutation(f_obs.size()) % N_FOLDS
    placement = FlexibleFit(diffraction, placement).run()
    levels = []
    for name, torsions in ((RIGID, False), (TORSIONS, True)):
        fit = FlexibleFit(diffraction, placement, torsions=torsions)
        held_out = _held_out_flexible(diffraction, placement, torsions, folds)
        levels.append(Level(name, fit.n_parameters, 0, held_out))
    model = crystal_model(placement, diffraction, f_obs, radiation, wavelength)
    plans = {}
    for plan in _RESTRAINED:
        level = _tried(model, f_sq, f_obs, plan, folds)
        if level is not None:
            plans[level.name] = plan
            levels.append(level)
    best = _chosen(levels)
    if with_free:
        free = _tried(model, f_sq, f_obs, Plan(FREE, None, grouped_u=True), folds)
        levels += [free] if free is not None else []
    for level in levels:
        logger.info(
            "%-56s %4d parameters %4d restraints, held-out R %.3f%s",
            level.name,
            level.n_parameters,
            level.n_restraints,
            level.held_out_r,
            "  <- taken" if level is best else "",
        )
    plan = plans.get(best.name, Plan(best.name, 1.0, move=False))
    result = refine_by_plan(model, f_sq, plan)
    return MoleculeRefinement(
        refinement=result,
        level=best,
        levels=tuple(levels),
        placement=placement,
        groups=model.groups,
        restraint_rms=restraint_rms(model, result.xray_structure),
        model=model,
        plan=plan,
    )


def refine_with_table(
    refined: MoleculeRefinement,
    f_sq: miller.array,
    f_obs: miller.array,
    table_file_name: str,
    seed: int = 0,
) -> MoleculeRefinement:
    """Refine the chosen level once more with the form factors of a table, restraints and all.

    Parameters
    ----------
    refined : MoleculeRefinement
    f_sq, f_obs : cctbx.miller.array
        As for `refine_molecule`.
    table_file_name : str
        A validated form-factor table (.tsc) for the scatterers of `refined`.
    seed : int
        Of the parts that are held out; those of `refine_molecule` where it is the same.

    Returns
    -------
    MoleculeRefinement
        Its `level` holds the held-out R with the table.
    """
    f_sq, f_obs = f_sq.common_sets(f_obs)
    folds = np.random.default_rng(seed).permutation(f_obs.size()) % N_FOLDS
    model = replace(refined.model, structure=refined.refinement.xray_structure)
    level = _tried(model, f_sq, f_obs, refined.plan, folds, table_file_name)
    result = refine_by_plan(model, f_sq, refined.plan, table_file_name)
    return replace(
        refined,
        refinement=result,
        level=level,
        levels=(*refined.levels, level),
        restraint_rms=restraint_rms(model, result.xray_structure),
        model=model,
    )


def _chosen(levels: Sequence[Level]) -> Level:
    """The level of lowest held-out R, those before it preferred where it hardly differs."""
    best = levels[0]
    for level in levels[1:]:
        if level.held_out_r < best.held_out_r * (1 - MIN_HELD_OUT_GAIN):
            best = level
    return best


def _held_out_flexible(diffraction, placement, torsions, folds) -> float:
    numerator = denominator = 0.0
    for fold in range(N_FOLDS):
        working, left_out = diffraction.select(folds != fold), diffraction.select(folds == fold)
        fitted = FlexibleFit(working, placement, torsions=torsions).run()
        seen, unseen = np.abs(working.f_calc(fitted)), np.abs(left_out.f_calc(fitted))
        scale = (working.amplitudes @ seen) / (seen @ seen)
        numerator += np.abs(left_out.amplitudes - scale * unseen).sum()
        denominator += left_out.amplitudes.sum()
    return float(numerator / denominator)


def _tried(model, f_sq, f_obs, plan, folds, table_file_name=None) -> Level | None:
    """The held-out R of a plan; None where the reflections cannot determine it."""
    name = f"{plan.name}, aspherical" if table_file_name else plan.name
    numerator = denominator = 0.0
    try:
        for fold in range(N_FOLDS):
            keep = flex.bool((folds != fold).tolist())
            result = refine_by_plan(model, f_sq.select(keep), plan, table_file_name)
            f_calc = calculated_amplitudes(result.xray_structure, f_obs, table_file_name)
            observed = f_obs.data().as_numpy_array()
            seen = folds != fold
            scale = (observed[seen] @ f_calc[seen]) / (f_calc[seen] @ f_calc[seen])
            numerator += np.abs(observed[~seen] - scale * f_calc[~seen]).sum()
            denominator += observed[~seen].sum()
    except (Sorry, RuntimeError) as error:
        logger.info("%s: not possible (%s)", plan.name, error)
        return None
    return Level(name, result.n_parameters, result.n_restraints, float(numerator / denominator))


def calculated_amplitudes(structure, f_obs, table_file_name=None) -> np.ndarray:
    """|F(calc)| of all reflections, with the form factors of a table where one is given.

    Parameters
    ----------
    structure : xray.structure
    f_obs : miller.array
        Whose indices count.
    table_file_name : str, optional
        A form-factor table (.tsc).
    """
    if table_file_name is None:
        f_calc = f_obs.structure_factors_from_scatterers(structure, algorithm="direct").f_calc()
        return np.abs(f_calc.data().as_numpy_array())
    scatterers = structure.deep_copy_scatterers()
    linearisation = direct.f_calc_modulus_squared(scatterers, table_file_name=table_file_name)
    values = []
    for index in f_obs.indices():
        linearisation.evaluate(index)
        values.append(linearisation.observable)
    return np.sqrt(np.array(values))


def crystal_model(
    placement: Placement, diffraction: Diffraction, f_obs, radiation="xray", wavelength=None
) -> CrystalModel:
    """The unique atoms of a placement, named, with hydrogen groups and prescribed distances."""
    structure = xray.structure(crystal_symmetry=f_obs.crystal_symmetry())
    groups, proxies, molecules, terminal = [], [], [], []
    counts: dict[str, int] = {}
    for pose in placement.poses:
        molecule = pose.molecule
        unique = unique_atoms(pose, diffraction)
        numbers: dict[int, int] = {}
        for i in molecule.heavy:
            if unique.representative[i] != i:
                continue
            element = molecule.elements[i]
            counts[element] = counts.get(element, 0) + 1
            hydrogens = [
                h
                for h in molecule.neighbours[i]
                if molecule.elements[h] == "H" and unique.representative[h] == h
            ]
            parent = f"{element}{counts[element]}"
            used = {scatterer.label for scatterer in structure.scatterers()}
            names = hydrogen_names(parent, element, len(hydrogens), used)
            pivot = numbers[i] = structure.scatterers().size()
            for atom, label in [(i, parent), *zip(hydrogens, names)]:
                numbers[atom] = structure.scatterers().size()
                symbol = molecule.elements[atom]
                u_iso = placement.u_iso * (1.0 if symbol != "H" else 1.2)
                structure.add_scatterer(
                    xray.scatterer(
                        label, site=tuple(unique.sites[atom]), u=u_iso, scattering_type=symbol
                    )
                )
                bonded = [k for k in molecule.neighbours[atom] if molecule.elements[k] != "H"]
                terminal.append(len(bonded) < 2)
            if hydrogens:
                kind = _kind(molecule, i)
                if len(hydrogens) != sum(
                    molecule.elements[h] == "H" for h in molecule.neighbours[i]
                ):
                    kind = "free"
                group = HydrogenGroup(kind, pivot, (), 0.0, tuple(numbers[h] for h in hydrogens))
                groups.append(group)
        targets = molecule.distance_targets(pose.sites)
        entries = list(zip(targets.pairs, targets.distances, targets.sigmas, strict=True))
        entries += _hydrogen_distances(molecule, pose.sites)
        seen = set()
        for (a, b), distance, sigma in entries:
            i, j = (numbers[unique.representative[x]] for x in (a, b))
            operator = unique.operators[a].inverse().multiply(unique.operators[b])
            key = (*sorted((i, j)), round(distance, 2), round(float(sigma), 3))
            if key in seen and i != j and unique.order > 1:
                continue
            seen.add(key)
            proxies.append((i, j, operator, float(distance), float(sigma)))
        molecules.append(tuple(numbers[i] for i in molecule.heavy if i in numbers))
    prepare_scattering(structure, radiation, wavelength)
    return CrystalModel(
        structure,
        tuple(checked_groups(structure, groups)),
        proxies,
        tuple(molecules),
        tuple(terminal),
    )


def _kind(molecule, i) -> str:
    """Name of the geometry of the hydrogens on an atom (see `phai_cctbx.building.hydrogens`)."""
    around = molecule.neighbours[i]
    n_hydrogens = sum(molecule.elements[k] == "H" for k in around)
    n_heavy = len(around) - n_hydrogens
    element = molecule.elements[i]
    tetrahedral = len(around) == 4
    if n_heavy == 3 and n_hydrogens == 1:
        return "tertiary"
    if n_heavy == 2 and n_hydrogens == 2:
        return "secondary"
    if n_heavy == 1 and n_hydrogens == 3:
        return "ammonium" if element == "N" else "methyl"
    if n_heavy == 1 and n_hydrogens == 1 and element == "O":
        return "hydroxyl"
    if element == "C" and n_heavy == 1 and n_hydrogens == 1:
        return "linear"
    if tetrahedral or element not in ("C", "N"):
        return "free"
    sites = molecule.conformers[0]
    if len(around) == 3:
        a, b, c = (sites[k] - sites[i] for k in around)
        flat = abs(np.dot(a, np.cross(b, c))) < 0.6
        if flat and n_heavy == 2:
            return "planar"
        if flat and n_heavy == 1:
            return "terminal_planar"
    return "free"


def _hydrogen_distances(molecule, sites):
    """X-H and 1,3 distances of hydrogens: they hold those that do not ride."""
    entries = []
    for h, element in enumerate(molecule.elements):
        if element != "H" or not molecule.neighbours[h]:
            continue
        (pivot, *_) = molecule.neighbours[h]
        others = [k for k in molecule.neighbours[pivot] if k != h]
        for k, sigma in [(pivot, HYDROGEN_SIGMA), *((k, 2 * HYDROGEN_SIGMA) for k in others)]:
            if molecule.elements[k] == "H" and k < h:
                continue
            entries.append(((h, k), float(np.linalg.norm(sites[h] - sites[k])), sigma))
    return entries


def _restraints(model: CrystalModel, tightness: float | None):
    """The restraints manager of smtbx: heavy atoms with a share of their deviations, free H."""
    riding = {h for group in model.groups if group.kind != "free" for h in group.hydrogens}
    elements = [s.element_symbol() for s in model.structure.scatterers()]
    shared = geometry_restraints.shared_bond_simple_proxy()
    for i, j, operator, distance, sigma in model.proxies:
        hydrogen = "H" in (elements[i], elements[j])
        if {i, j} & riding or (tightness is None and not hydrogen):
            continue
        width = sigma if hydrogen else sigma * tightness
        shared.append(
            geometry_restraints.bond_simple_proxy(
                i_seqs=(i, j), rt_mx_ji=operator, distance_ideal=distance, weight=1 / width**2
            )
        )
    return restraints.manager(bond_proxies=shared) if shared.size() else None


def _u_groups(model: CrystalModel, grouped: bool):
    """Sets of scatterers that share one U."""
    for molecule in model.molecules:
        if not grouped:
            yield molecule
            continue
        for terminal in (False, True):
            part = tuple(i for i in molecule if model.terminal[i] == terminal)
            if part:
                yield part


def refine_by_plan(
    model: CrystalModel, f_sq: miller.array, plan: Plan, table_file_name: str | None = None
) -> RefinementResult:
    """Damped Gauss-Newton cycles with the restraints on the scale of the misfit.

    Restraints count with 2 M / (n + m - p) as weight of a unit deviation (M: half of the weighted
    sum of squares, n reflections, m restraints, p parameters), so that it stays positive where
    parameters outnumber reflections.
    """
    structure = model.structure.deep_copy_scatterers()
    for scatterer in structure.scatterers():
        scatterer.flags.set_grads(False)
        scatterer.flags.set_grad_site(plan.move)
        scatterer.flags.set_grad_u_iso(True)
    # Shared U first: hydrogens then follow the shared parameter of their parents.
    constraints = [adp.shared_u(part) for part in _u_groups(model, plan.grouped_u) if part[1:]]
    if plan.move:
        constraints += riding_constraints(structure, model.groups, internuclear=True, turning=False)
    else:
        constraints += [
            adp.u_iso_proportional_to_pivot_u_eq(h, group.pivot, group.u_factor)
            for group in model.groups
            for h in group.hydrogens
        ]
    manager = _restraints(model, plan.tightness) if plan.move else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", smtbx_constraints.ConflictingConstraintWarning)
        reparametrisation = smtbx_constraints.reparametrisation(
            structure, constraints, CovalentBonds(model.structure)(structure), temperature=20.0
        )
    n_restraints = 0 if manager is None else manager.bond_proxies.size()
    n_parameters = reparametrisation.n_independents
    freedom = f_sq.size() + n_restraints - n_parameters
    if freedom <= 0 or (manager is None and f_sq.size() <= n_parameters):
        raise Sorry(
            f"{f_sq.size()} reflections and {n_restraints} restraints cannot determine"
            f" {n_parameters} parameters"
        )
    ls = least_squares.crystallographic_ls(
        f_sq.as_xray_observations(),
        reparametrisation,
        one_h_linearisation=direct.f_calc_modulus_squared(
            structure, table_file_name=table_file_name
        ),
        restraints_manager=manager,
        weighting_scheme=WEIGHTING.scheme(),
    )
    lengths = np.array(structure.unit_cell().parameters()[:3])
    factor = 1.0
    for cycle in range(1, N_CYCLES + 1):
        ls.restraints_normalisation_factor = factor
        ls.build_up()
        factor = max(2 * ls.objective_data_only / freedom, 1e-12)
        if cycle == 1:
            ls.restraints_normalisation_factor = factor
            ls.build_up()
        normal = ls.normal_matrix_packed_u()
        diagonal = normal.matrix_packed_u_diagonal()
        normal.matrix_packed_u_diagonal_add_in_place(
            DAMPING * diagonal + SINGULAR_FLOOR * flex.max(diagonal)
        )
        ls.solve()
        largest = _shorten(ls, lengths)
        ls.step_forward()
        for scatterer in structure.scatterers():
            scatterer.u_iso = min(max(scatterer.u_iso, U_ISO_MIN), U_ISO_MAX)
        if largest < CONVERGED_SHIFT:
            break
    ls.build_up(objective_only=True)
    r1, n_observed = ls.r1_factor(2.0)
    r1_all, _ = ls.r1_factor()
    return RefinementResult(
        xray_structure=structure.deep_copy_scatterers(),
        r1=r1,
        r1_all=r1_all,
        wr2=math.sqrt(max(2 * ls.objective_data_only, 0.0)),
        goof=math.sqrt(max(2 * ls.objective_data_only * ls.sum_w_yo_sq(), 0.0) / max(freedom, 1)),
        n_observed=n_observed,
        n_reflections=f_sq.size(),
        n_parameters=n_parameters,
        n_restraints=n_restraints,
        weighting=WEIGHTING,
        scale_factor=ls.scale_factor(),
        f_sq=f_sq,
        f_calc=ls.f_calc,
        fc_sq=ls.fc_sq,
        extinction=None,
        extinction_esd=None,
        twin=None,
        max_shift_over_esd=float("nan"),
        covariance=None,
        n_cycles=cycle,
        reparametrisation=ls.reparametrisation,
    )


def _shorten(ls, lengths) -> float:
    """Bring a step that moves an atom too far within bounds; the largest shift left, A."""
    jacobian = ls.reparametrisation.jacobian_transpose_matching_grad_fc()
    shifts = np.array(jacobian.transpose() * ls.step())
    largest = 0.0
    for name, shift in zip(ls.reparametrisation.component_annotations, shifts, strict=True):
        kind = name.rsplit(".", 1)[-1]
        if kind in ("x", "y", "z"):
            largest = max(largest, abs(shift) * lengths["xyz".index(kind)])
    if largest > MAX_SHIFT:
        step = ls.step()
        step *= MAX_SHIFT / largest
    return largest


def restraint_rms(model: CrystalModel, structure: xray.structure) -> float:
    """Root mean square deviation from prescribed distances of non-hydrogen atoms, in sigmas."""
    sites, unit_cell = structure.sites_frac(), structure.unit_cell()
    elements = [s.element_symbol() for s in structure.scatterers()]
    deviations = [
        (unit_cell.distance(sites[i], operator * sites[j]) - distance) / sigma
        for i, j, operator, distance, sigma in model.proxies
        if "H" not in (elements[i], elements[j])
    ]
    return float(np.sqrt(np.mean(np.square(deviations)))) if deviations else 0.0
