"""One full-matrix least-squares refinement on F^2 with smtbx.

Gauss-Newton steps with a little damping and a limit on shifts, as in SHELXL;
standard uncertainties come from an undamped matrix at the end.
"""

from __future__ import annotations

import logging
import math
import warnings
from dataclasses import dataclass, replace

import numpy as np

# cctbx
import smtbx.utils
from cctbx import adptbx, miller, xray
from cctbx.array_family import flex
from cctbx.eltbx import henke, sasaki
from libtbx.utils import Sorry
from smtbx.refinement import constraints as smtbx_constraints
from smtbx.refinement import least_squares
from smtbx.structure_factors import direct

from phai_cctbx.building.connectivity import principal_u
from phai_cctbx.refinement.twinning import Twin
from phai_cctbx.refinement.weighting import Weighting

logger = logging.getLogger(__name__)

DAMPING = 0.0007
"""Share of its diagonal added to the normal matrix (SHELXL's default)."""

MAX_SITE_SHIFT = 0.5
"""Largest step of a site in one cycle, A."""

MAX_U_SHIFT = 0.1
"""Largest step of a displacement parameter in one cycle, A^2."""

FREE_CYCLES, STALLED, PART_OF_STEP = 3, 0.7, 0.5
"""Where the largest shift, after so many cycles, is still more than this part of the one before,
steps go to and fro over a minimum: from then on half of each is made."""

U_ISO_MIN, U_ISO_MAX = 0.001, 0.5
"""Bounds of U (A^2); an atom at the upper one has no density."""

CONVERGED_SHIFT_OVER_ESD = 0.01
"""Largest shift/esd of a converged refinement (IUCr: below 0.05, better 0.01)."""

OBSERVED_I_OVER_SIGMA = 2.0
"""I/sigma(I) above which a reflection counts as observed, for R1."""

U_EIGENVALUE_MIN, U_EIGENVALUE_MAX = 0.0005, 1.0
"""Bounds of the principal values of an anisotropic U, A^2."""

EXTINCTION_START = 1e-3
"""Smallest start of the extinction coefficient: its derivative vanishes at 0."""

SINGULAR_FLOOR = 1e-12
"""Relative to the largest diagonal element: keeps parameters without effect solvable."""


@dataclass(frozen=True)
class RefinementResult:
    """A refined structure and what its refinement says.

    Attributes
    ----------
    xray_structure : cctbx.xray.structure
    r1, r1_all : float
        R1 on F for I > 2 sigma(I), and for all reflections.
    wr2, goof : float
        Weighted R on F^2 and goodness of fit, all reflections.
    n_observed, n_reflections, n_parameters, n_restraints : int
    weighting : Weighting
    scale_factor : float
        Fo^2 = scale_factor * Fc^2.
    f_sq : miller.array
        Intensities refined against.
    f_calc : miller.array
        Complex structure factors of the crystal (of a twin: of its first domain), absolute scale,
        no extinction.
    fc_sq : miller.array
        Calculated intensities, absolute scale, extinction and twinning included.
    extinction, extinction_esd : float or None
        SHELXL's EXTI coefficient.
    twin : Twin or None
        The second domain as refined.
    max_shift_over_esd : float
        Of the last cycle; nan where the undamped matrix was not asked for.
    covariance : smtbx covariance_matrix_and_annotations or None
    n_cycles : int
    reparametrisation : smtbx reparametrisation
        The constraints as refined.
    """

    xray_structure: xray.structure
    r1: float
    r1_all: float
    wr2: float
    goof: float
    n_observed: int
    n_reflections: int
    n_parameters: int
    n_restraints: int
    weighting: Weighting
    scale_factor: float
    f_sq: miller.array
    f_calc: miller.array
    fc_sq: miller.array
    extinction: float | None
    extinction_esd: float | None
    twin: Twin | None
    max_shift_over_esd: float
    covariance: object | None
    n_cycles: int
    reparametrisation: object


FORM_FACTOR_TABLES = {"xray": "it1992", "electron": "electron", "neutron": "neutron"}
"""Scattering factors by radiation: IT C (1992), IT C electron factors, neutron lengths."""


def prepare_scattering(
    structure: xray.structure,
    radiation: str = "xray",
    wavelength: float | None = None,
    imaginary: bool = True,
) -> None:
    """Set the scattering factors of a structure in place: table, f' and f''.

    Parameters
    ----------
    structure : xray.structure
    radiation : {"xray", "electron", "neutron"}
    wavelength : float, optional
        A; f' and f'' (Sasaki, or Henke outside its range) are set for X-rays where it is given.
    imaginary : bool
        Whether f'' is set too: not for averages of Friedel mates of acentric crystals, as SHELXL.

    Raises
    ------
    Sorry
        If the radiation is unknown, or the table lacks an element.
    """
    table = FORM_FACTOR_TABLES.get(radiation)
    if table is None:
        raise Sorry(
            f"Unknown radiation {radiation!r}: choose one of {', '.join(FORM_FACTOR_TABLES)}."
        )
    structure.scattering_type_registry(table=table)
    for scatterer in structure.scatterers():
        scatterer.fp = scatterer.fdp = 0
        if radiation == "xray" and wavelength:
            scatterer.fp, scatterer.fdp = dispersion(scatterer.element_symbol(), wavelength)
            scatterer.fdp *= imaginary
        scatterer.flags.set_use_fp_fdp(scatterer.fp != 0 or scatterer.fdp != 0)


def dispersion(element: str, wavelength: float) -> tuple[float, float]:
    """f' and f'' (electrons) of an element at a wavelength (A); 0, 0 for H and outside the tables.

    Sasaki (KEK Report 88-14, 1989) where it has the element, else Henke et al. (1993).
    """
    if element.capitalize() in ("H", "D"):
        return 0.0, 0.0
    for table in (sasaki, henke):
        try:
            factors = table.table(element).at_angstrom(wavelength)
        except (RuntimeError, ValueError):
            continue
        if factors.is_valid_fp() and factors.is_valid_fdp():
            return factors.fp(), factors.fdp()
    return 0.0, 0.0


def set_refinement_flags(structure: xray.structure, occupancies=()) -> None:
    """Refine sites and U of every scatterer, occupancies of those listed by index."""
    occupancies = set(occupancies)
    for i, scatterer in enumerate(structure.scatterers()):
        scatterer.flags.set_grads(False)
        scatterer.flags.set_grad_site(True)
        scatterer.flags.set_grad_u_iso(scatterer.flags.use_u_iso())
        scatterer.flags.set_grad_u_aniso(scatterer.flags.use_u_aniso())
        scatterer.flags.set_grad_occupancy(i in occupancies)


def _limit_step(ls, structure: xray.structure) -> None:
    """Shorten the step where a site or U would move further than is sane."""
    jacobian = ls.reparametrisation.jacobian_transpose_matching_grad_fc()
    shifts = np.array(jacobian.transpose() * ls.step())
    unit_cell = structure.unit_cell()
    lengths = unit_cell.parameters()[:3]
    factor = 1.0
    for name, shift in zip(ls.reparametrisation.component_annotations, shifts, strict=True):
        kind = name.rsplit(".", 1)[-1]
        if kind in ("x", "y", "z"):
            limit = MAX_SITE_SHIFT / lengths["xyz".index(kind)]
        elif kind == "uiso":
            limit = MAX_U_SHIFT
        else:
            continue
        if abs(shift) * factor > limit:
            factor = limit / abs(shift)
    if factor < 1:
        step = ls.step()
        step *= factor


def _bound_displacements(structure: xray.structure) -> bool:
    """Bring U back into the range of atoms that exist; true where one had left it."""
    unit_cell = structure.unit_cell()
    changed = False
    for scatterer in structure.scatterers():
        if scatterer.flags.use_u_iso():
            u_iso = min(max(scatterer.u_iso, U_ISO_MIN), U_ISO_MAX)
            changed |= u_iso != scatterer.u_iso
            scatterer.u_iso = u_iso
        elif scatterer.flags.use_u_aniso():
            u_cart = adptbx.u_star_as_u_cart(unit_cell, scatterer.u_star)
            values = adptbx.eigenvalues(u_cart)
            if min(values) < U_EIGENVALUE_MIN or max(values) > U_EIGENVALUE_MAX:
                u_cart = adptbx.eigenvalue_filtering(u_cart, U_EIGENVALUE_MIN, U_EIGENVALUE_MAX)
                scatterer.u_star = adptbx.u_cart_as_u_star(unit_cell, u_cart)
                changed = True
    return changed


def at_lower_bound(structure: xray.structure) -> list[str]:
    """Labels of the atoms whose U cannot become smaller, however the data call for it."""
    unit_cell = structure.unit_cell()
    labels = []
    for scatterer in structure.scatterers():
        bound = U_EIGENVALUE_MIN if scatterer.flags.use_u_aniso() else U_ISO_MIN
        if min(principal_u(scatterer, unit_cell)) <= 1.001 * bound:
            labels.append(scatterer.label)
    return labels


def refine(
    xray_structure: xray.structure,
    f_sq: miller.array,
    weighting: Weighting | None = None,
    n_cycles: int = 8,
    occupancies=(),
    extinction: float | None = None,
    twin: Twin | None = None,
    wavelength: float | None = None,
    constraints=(),
    restraints=None,
    connectivity=None,
    temperature: float = 20.0,
    with_covariance: bool = False,
    convergence: float = CONVERGED_SHIFT_OVER_ESD,
    table_file_name: str | None = None,
    halve_steps: bool = False,
) -> RefinementResult:
    """Refine a structure against intensities.

    Parameters
    ----------
    xray_structure : xray.structure
        Start; scattering factors set (`prepare_scattering`). It is not changed.
    f_sq : miller.array
        Merged intensities with sigmas.
    weighting : Weighting, optional
        SHELXL weights; a = 0.1, b = 0 where not given.
    n_cycles : int
        Largest number of cycles.
    occupancies : iterable of int
        Scatterers whose occupancy is refined.
    extinction : float, optional
        Start of SHELXL's EXTI, which is then refined. Needs `wavelength`.
    twin : Twin, optional
        A second domain, the fraction of which is refined from where it stands.
    wavelength : float, optional
        A.
    constraints : sequence of smtbx constraints
    restraints : smtbx restraints manager, optional
    connectivity : callable, optional
        structure -> smtbx connectivity table, the bonds that geometrical constraints rely on.
    temperature : float
        Degrees Celsius; it sets the X-H distances of riding hydrogens.
    with_covariance : bool
        Build the undamped matrix at the end: esds, shift/esd.
    convergence : float
        Largest shift relative to its esd that ends the cycles.
    table_file_name : str, optional
        A validated form-factor table (.tsc) that replaces the spherical atoms.
    halve_steps : bool
        Make half of each step once steps go to and fro over a minimum, as they do where two places
        of an atom are close.

    Returns
    -------
    RefinementResult

    Raises
    ------
    Sorry
        If there are fewer reflections than parameters or the normal matrix cannot be inverted.
    """
    structure = xray_structure.deep_copy_scatterers()
    weighting = weighting or Weighting()
    set_refinement_flags(structure, occupancies)
    components = () if twin is None else (twin.component(),)
    observations = f_sq.as_xray_observations(twin_components=components)
    correction = None
    if extinction is not None:
        correction = xray.shelx_extinction_correction(
            structure.unit_cell(), wavelength, max(extinction, EXTINCTION_START)
        )
        correction.grad = True

    def normal_equations():
        table = (connectivity or smtbx.utils.connectivity_table)(structure)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", smtbx_constraints.ConflictingConstraintWarning)
            reparametrisation = smtbx_constraints.reparametrisation(
                structure,
                list(constraints),
                table,
                temperature=temperature,
                extinction=correction,
                twin_fractions=components,
            )
        if f_sq.size() <= reparametrisation.n_independents:
            raise Sorry(
                f"{f_sq.size()} reflections cannot determine {reparametrisation.n_independents} "
                "parameters: collect more data or refine fewer parameters."
            )
        return least_squares.crystallographic_ls(
            observations,
            reparametrisation,
            one_h_linearisation=direct.f_calc_modulus_squared(
                structure, table_file_name=table_file_name
            ),
            restraints_manager=restraints,
            weighting_scheme=weighting.scheme(),
            may_parallelise=True,
        )

    ls = normal_equations()
    part, last = 1.0, math.inf
    for cycle in range(1, n_cycles + 1):
        largest = _one_cycle(ls, structure, part)
        if halve_steps and cycle > FREE_CYCLES and largest > STALLED * last:
            part = PART_OF_STEP
        last = largest
        if _bound_displacements(structure):
            ls = normal_equations()
        elif largest < convergence:
            break
    ls.build_up(objective_only=not with_covariance)
    max_shift, covariance, scalar_esds = float("nan"), None, ()
    if with_covariance:
        max_shift, covariance, scalar_esds = _uncertainties(ls)
    scalar_esds = list(scalar_esds) or [None, None]
    r1, n_observed = ls.r1_factor(OBSERVED_I_OVER_SIGMA)
    r1_all, _ = ls.r1_factor()
    refined = structure.deep_copy_scatterers()
    return RefinementResult(
        xray_structure=refined,
        r1=r1,
        r1_all=r1_all,
        wr2=math.sqrt(max(2 * ls.objective_data_only, 0.0)),
        goof=math.sqrt(max(ls.chi_sq_data_only, 0.0)),
        n_observed=n_observed,
        n_reflections=f_sq.size(),
        n_parameters=ls.reparametrisation.n_independents,
        n_restraints=ls.n_restraints if restraints is not None else 0,
        weighting=weighting,
        scale_factor=ls.scale_factor(),
        f_sq=f_sq,
        f_calc=ls.f_calc,
        fc_sq=ls.fc_sq,
        extinction=correction.value if correction is not None else None,
        extinction_esd=scalar_esds[-1] if correction is not None else None,
        twin=twin and replace(twin, fraction=components[0].value, esd=scalar_esds[0]),
        max_shift_over_esd=max_shift,
        covariance=covariance,
        n_cycles=cycle,
        reparametrisation=ls.reparametrisation,
    )


def _one_cycle(ls, structure: xray.structure, part: float = 1.0) -> float:
    """A part of a damped Gauss-Newton step; the largest shift, if whole, over its esd (about)."""
    damping = DAMPING
    while True:
        ls.build_up()
        matrix = ls.normal_matrix_packed_u()
        diagonal = matrix.matrix_packed_u_diagonal()
        matrix.matrix_packed_u_diagonal_add_in_place(
            damping * diagonal + SINGULAR_FLOOR * flex.max(diagonal)
        )
        chi_sq, sum_w_yo_sq = ls.chi_sq_data_only, ls.sum_w_yo_sq()
        try:
            ls.solve()
            break
        except RuntimeError as error:
            if damping > 1:
                raise Sorry(f"The normal matrix of the refinement is singular: {error}") from error
            damping *= 30
    _limit_step(ls, structure)
    esd = flex.sqrt(chi_sq / (diagonal * sum_w_yo_sq + 1e-300))
    step = ls.step()
    largest = flex.max(flex.abs(step) / esd) if esd.size() else 0.0
    step *= part
    ls.step_forward()
    return largest


def _uncertainties(ls):
    """Largest undamped shift/esd, the covariance matrix, esds of twin fraction and extinction."""
    try:
        ls.solve()
        independent = np.array(ls.covariance_matrix().matrix_packed_u_diagonal())
    except (RuntimeError, ValueError) as error:
        logger.warning("No standard uncertainties: the normal matrix is singular (%s)", error)
        return float("nan"), None, ()
    esd = np.sqrt(np.maximum(independent, 0))
    shifts = np.abs(np.array(ls.step()))
    known = esd > 0
    max_shift = float(np.max(shifts[known] / esd[known])) if known.any() else 0.0
    scalars = ls.covariance_matrix(
        jacobian_transpose=ls.reparametrisation.jacobian_transpose_matching(
            ls.reparametrisation.mapping_to_grad_fc_independent_scalars
        )
    ).matrix_packed_u_diagonal()
    scalar_esds = np.sqrt(np.maximum(np.array(scalars), 0)).tolist()
    return max_shift, ls.covariance_matrix_and_annotations(), scalar_esds
