"""Hirshfeld atom refinement: form factors and least squares in turn, until both stand still.

Jayatilaka & Dittrich, Acta Cryst. A64, 383 (2008); Capelli et al., IUCrJ 1, 361 (2014).
Each cycle calculates the molecules in the field of their neighbours' Hirshfeld charges
and dipoles of the cycle before, so that positions and charges converge together. Every
stage comes from the cache where it is there: a run that was killed goes on from its last
finished stage.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field, replace

import numpy as np

# cctbx
from cctbx import miller, xray
from libtbx.utils import Sorry

from phai_cctbx.aspherical import tables
from phai_cctbx.aspherical.disorder import Configuration, configurations
from phai_cctbx.aspherical.form_factors import form_factor_table, orientation
from phai_cctbx.aspherical.fragments import Fragment, charges_around, fragments_of, join
from phai_cctbx.aspherical.molecules import (
    Molecule,
    assign_charges,
    grow_molecules,
    likely_charge,
    scatterer_moments,
    surroundings,
)
from phai_cctbx.aspherical.quantum import Quantum
from phai_cctbx.building.connectivity import HYDROGENS, element_of
from phai_cctbx.refinement.least_squares import RefinementResult, refine
from phai_cctbx.refinement.weighting import Weighting, optimise_weighting

logger = logging.getLogger(__name__)

ANISOTROPIC_HYDROGEN_D_MIN = 0.6
"""Resolution (A) from which hydrogen displacements are refined anisotropically by default
(Woinska et al., Sci. Adv. 2, e1600192, 2016, find them unreliable at 0.8 A)."""

MIN_DATA_PER_PARAMETER = 8
"""Fewest reflections per parameter for anisotropic hydrogens (checkCIF asks for 8)."""

LEAST_SQUARES_CYCLES = 30
"""Largest number of least-squares cycles per table."""


@dataclass(frozen=True)
class HirshfeldSettings:
    """How a Hirshfeld atom refinement goes.

    Attributes
    ----------
    hydrogens : str
        ``"auto"``, ``"isotropic"`` or ``"anisotropic"``; positions are free in all cases.
    cluster_radius : float
        A; molecules nearer than this surround the calculated one as point charges and
        dipoles. 0 calculates isolated molecules.
    max_cycles : int
    shift_over_esd : float
        Largest change of a position between cycles, over its esd, at convergence.
    form_factor_change : float
        Largest change of a form factor between cycles at convergence, e.
    weighting : str
        ``"optimise"`` (SHELXL scheme made flat over Fc) or ``"keep"`` (as given).
    extinction : str
        ``"auto"`` (refined, and kept where it exceeds 3 esds), ``"yes"`` or ``"no"``.
    charges : dict
        Formula -> (charge, multiplicity), where they are not to be worked out.
    rigid : bool
        Each molecule is calculated once in its surroundings, and its form factors turn with it:
        for data that do not determine its shape.
    fragment_atoms : int
        Molecules with more atoms are calculated as overlapping fragments.
    """

    hydrogens: str = "auto"
    cluster_radius: float = 8.0
    max_cycles: int = 12
    shift_over_esd: float = 0.03
    form_factor_change: float = 0.005
    weighting: str = "optimise"
    extinction: str = "auto"
    charges: dict = field(default_factory=dict)
    rigid: bool = False
    fragment_atoms: int = 120


@dataclass(frozen=True)
class Cycle:
    """One turn of form factors and least squares."""

    number: int
    r1: float
    wr2: float
    shift_over_esd: float
    form_factor_change: float
    charge_change: float
    seconds_form_factors: float
    seconds_refinement: float


@dataclass(frozen=True)
class HirshfeldResult:
    """A structure refined with aspherical scatterers.

    Attributes
    ----------
    refinement : RefinementResult
    independent_atoms : RefinementResult
        The same model with spherical atoms.
    table : FormFactorTable
    cycles : tuple of Cycle
    converged : bool
    charges : numpy.ndarray, (n_scatterers,), e
        Hirshfeld charges.
    cluster_radius : float
        A.
    molecules : tuple of str
        Formula and charge of each kind.
    warnings : tuple of str
    seconds : dict[str, float]
    fixed : bool
        Whether the form factors were fixed to the frame of the molecule, restraints kept.
    """

    refinement: RefinementResult
    independent_atoms: RefinementResult
    table: tables.FormFactorTable
    cycles: tuple
    converged: bool
    charges: np.ndarray
    cluster_radius: float
    molecules: tuple
    warnings: tuple
    seconds: dict
    fixed: bool = False


class LeastSquares:
    """Refinement of one crystal with fixed conventions: weights, extinction, constraints.

    Parameters
    ----------
    f_sq : miller.array
    wavelength : float
    settings : HirshfeldSettings
    weighting : Weighting, optional
    restraints, temperature, connectivity
        As `phai_cctbx.refinement.least_squares.refine` takes them.
    """

    def __init__(self, f_sq, wavelength, settings, weighting=None, extinction=None, **keywords):
        self.f_sq = f_sq
        self.wavelength = wavelength
        self.settings = settings
        self.weighting = weighting or Weighting(0.0, 0.0)
        self.extinction = extinction
        if settings.extinction == "yes":
            self.extinction = extinction or 0.0
        elif settings.extinction == "no":
            self.extinction = None
        self.keywords = keywords

    def __call__(self, structure, table_file_name=None) -> RefinementResult:
        """Refine to convergence, then once more with the weights made flat."""
        result = self._refine(structure, table_file_name)
        if self.settings.weighting == "optimise":
            self.weighting = self._optimised(result)
            result = self._refine(result.xray_structure, table_file_name)
        if result.extinction is not None:
            self.extinction = result.extinction
        return result

    def try_extinction(self, result, table_file_name=None) -> RefinementResult:
        """Refine extinction once, and keep it where it is significant."""
        if self.settings.extinction != "auto" or self.extinction is not None:
            return result
        self.extinction = 0.0
        trial = self._refine(result.xray_structure, table_file_name)
        if trial.extinction_esd and trial.extinction > 3 * trial.extinction_esd:
            self.extinction = trial.extinction
            logger.info("Extinction %.5f(%.5f) is refined.", trial.extinction, trial.extinction_esd)
            return trial
        self.extinction = None
        return result

    def _refine(self, structure, table_file_name):
        return refine(
            structure,
            self.f_sq,
            self.weighting,
            n_cycles=LEAST_SQUARES_CYCLES,
            extinction=self.extinction,
            wavelength=self.wavelength,
            with_covariance=True,
            table_file_name=table_file_name,
            **self.keywords,
        )

    def _optimised(self, result):
        scale = result.scale_factor
        return optimise_weighting(
            np.array(self.f_sq.data()) / scale,
            np.array(self.f_sq.sigmas()) / scale,
            np.array(result.fc_sq.data()),
            result.n_parameters,
        )


def free_hydrogens(structure: xray.structure, anisotropic: bool) -> xray.structure:
    """Copy with the hydrogens isotropic or anisotropic, the other atoms anisotropic."""
    result = structure.deep_copy_scatterers()
    unit_cell = result.unit_cell()
    for scatterer in result.scatterers():
        if element_of(scatterer) in HYDROGENS:
            if anisotropic and scatterer.flags.use_u_iso():
                scatterer.convert_to_anisotropic(unit_cell)
            elif not anisotropic and scatterer.flags.use_u_aniso():
                scatterer.convert_to_isotropic(unit_cell)
    return result


def anisotropic_hydrogens(structure, f_sq, hydrogens: str) -> bool:
    """Whether hydrogen displacements are refined anisotropically."""
    if hydrogens != "auto":
        return hydrogens == "anisotropic"
    if f_sq.d_min() > ANISOTROPIC_HYDROGEN_D_MIN:
        return False
    n_parameters = 9 * structure.scatterers().size()
    return f_sq.size() >= MIN_DATA_PER_PARAMETER * n_parameters


class FormFactors:
    """Form factors of one crystal as its model moves: molecules, charges, table.

    Parameters
    ----------
    quantum : Quantum
    settings : HirshfeldSettings
    conformers : sequence of int, optional
        SHELX PART number of each scatterer (0: in all parts).
    """

    def __init__(self, quantum: Quantum, settings: HirshfeldSettings, conformers=None):
        self.quantum = quantum
        self.settings = settings
        self.conformers = conformers
        self.moments = None
        self.charges = None
        self.molecules = ()
        self._guesses = {}
        self._rigid = {}

    def __call__(self, structure, indices, title=""):
        """Table for a structure; the surroundings carry the moments of the last call.

        The first call has none and calculates isolated molecules.

        Returns
        -------
        table : FormFactorTable
        charge_change : float, e
        """
        parts = configurations(structure, self.conformers)
        values, n = 0, structure.scatterers().size()
        charges, dipoles = np.zeros(n), np.zeros((n, 3))
        names = []
        for part in parts:
            table, own_charges, own_dipoles, part_names = self._configuration(part, indices, title)
            weights = part.weights[part.selection]
            full = np.zeros((len(table.indices), n), dtype=complex)
            full[:, part.selection] = table.values * weights
            values = values + full
            charges[part.selection] += weights * own_charges
            dipoles[part.selection] += weights[:, None] * own_dipoles
            names.extend(name for name in part_names if name not in names)
        change = np.inf if self.charges is None else float(np.abs(charges - self.charges).max())
        self.charges, self.moments, self.molecules = charges, (charges, dipoles), tuple(names)
        labels = tuple(s.label for s in structure.scatterers())
        return tables.FormFactorTable(labels, table.indices, values, title), change

    def _configuration(self, part: Configuration, indices, title):
        structure = part.structure
        molecules = assign_charges(grow_molecules(structure), self.settings.charges)
        densities, orientations = [], []
        for molecule in molecules:
            key = (part.number, tuple(i for i, _ in molecule.members), molecule.charge)
            if key in self._rigid:
                density, coordinates = self._rigid[key]
                orientations.append(orientation(coordinates, molecule.coordinates))
            else:
                density = self._calculate(part, molecules, molecule, key)
                orientations.append(np.eye(3))
                if self.settings.rigid and self._surrounded:
                    self._rigid[key] = (density, molecule.coordinates)
            densities.append(density)
        charges, dipoles = scatterer_moments(structure, molecules, densities)
        table = form_factor_table(
            structure, molecules, densities, indices, self.quantum, title, orientations
        )
        return table, charges, dipoles, [m.name() for m in molecules]

    @property
    def _surrounded(self) -> bool:
        """Whether calculations see the surroundings that they are to see."""
        return self.moments is not None or self.settings.cluster_radius == 0

    def _calculate(self, part, molecules, molecule, key):
        positions = charges = None
        if self.moments is not None and self.settings.cluster_radius > 0:
            positions, charges = self._embedding(part, molecules, molecule)
        if len(molecule.numbers) > self.settings.fragment_atoms:
            return self._by_fragments(part, molecule, key, positions, charges)
        return self._density(molecule, key, positions, charges)

    def _density(self, molecule, key, positions, charges):
        density = self.quantum.molecule(
            molecule.numbers,
            molecule.coordinates,
            molecule.charge,
            molecule.multiplicity,
            positions,
            charges,
            self._guesses.get(key),
            molecule.name(),
        )
        check_electrons(molecule, density)
        self._guesses[key] = density.density_matrix
        return density

    def _by_fragments(self, part, molecule, key, positions, charges):
        """Density of a large molecule; the rest of it surrounds each fragment as charges."""
        fragments = fragments_of(molecule)
        densities = []
        for number, fragment in enumerate(fragments):
            around, strengths = positions, charges
            if positions is not None:
                rest = charges_around(fragment, molecule)
                owners = [molecule.members[i][0] for i in rest]
                around = np.concatenate([positions, molecule.coordinates[rest]])
                strengths = np.concatenate([charges, self.moments[0][part.selection][owners]])
            densities.append(
                self._density(as_calculated(fragment), (*key, number), around, strengths)
            )
        return join(molecule, fragments, densities)

    def _embedding(self, part, molecules, molecule):
        charges, dipoles = (m[part.selection] for m in self.moments)
        positions, point_charges, point_dipoles = surroundings(
            part.structure, molecules, molecule, charges, dipoles, self.settings.cluster_radius
        )
        return with_dipoles(positions, point_charges, point_dipoles)


class Turns:
    """Form factors and least squares in turn: the table of the last turn, and a record of all.

    Parameters
    ----------
    form_factors : FormFactors
    indices : flex.miller_index
    table_path : path-like
        Where the table of the last turn is kept.
    """

    def __init__(self, form_factors: FormFactors, indices, table_path):
        self.form_factors = form_factors
        self.indices = indices
        self.table_path = str(table_path)
        self.table = None
        self.cycles = []
        self.warnings = []
        self.seconds = {}
        self._began = time.time()

    def renew_table(self, structure: xray.structure) -> str:
        """Calculate, check and write the table for a structure; the path of the file."""
        self._turn_began, previous = time.time(), self.table
        title = f"Hirshfeld atoms, {self.form_factors.quantum.method.description()}"
        if self.form_factors.settings.rigid:
            title += ", fixed"
        self.table, self._charge_change = self.form_factors(structure, self.indices, title)
        self.warnings = tables.validate(
            self.table, structure, self.indices, "Hirshfeld form factors"
        )
        tables.write_tsc(self.table_path, self.table)
        self._change = np.inf
        if previous is not None:
            self._change = float(np.abs(self.table.values - previous.values).max())
        self._refinement_began = time.time()
        return self.table_path

    def record(self, refinement: RefinementResult, shift_over_esd: float = float("nan")) -> Cycle:
        """Note what the least squares with the present table led to."""
        cycle = Cycle(
            number=len(self.cycles) + 1,
            r1=refinement.r1,
            wr2=refinement.wr2,
            shift_over_esd=shift_over_esd,
            form_factor_change=self._change,
            charge_change=self._charge_change,
            seconds_form_factors=self._refinement_began - self._turn_began,
            seconds_refinement=time.time() - self._refinement_began,
        )
        self.cycles.append(cycle)
        return cycle

    def result(self, refinement, independent_atoms, converged: bool) -> HirshfeldResult:
        """All turns, with the refinements after the last and before the first."""
        settings = self.form_factors.settings
        return HirshfeldResult(
            refinement=refinement,
            independent_atoms=independent_atoms,
            table=self.table,
            cycles=tuple(self.cycles),
            converged=converged,
            charges=self.form_factors.charges,
            cluster_radius=settings.cluster_radius,
            molecules=self.form_factors.molecules,
            warnings=tuple(self.warnings),
            seconds={
                **self.seconds,
                "form_factors": sum(c.seconds_form_factors for c in self.cycles),
                "least_squares": sum(c.seconds_refinement for c in self.cycles),
                "total": time.time() - self._began,
            },
            fixed=settings.rigid,
        )


def as_calculated(fragment: Fragment) -> Molecule:
    """A fragment with the charge that its valences ask for, and the lowest multiplicity."""
    molecule = fragment.molecule()
    charge = likely_charge(molecule) or 0
    return replace(
        molecule, charge=charge, multiplicity=1 + (int(molecule.numbers.sum()) - charge) % 2
    )


DIPOLE_SEPARATION = 0.02
"""Distance (A) between the two charges that stand for a point dipole."""


def with_dipoles(positions, charges, dipoles):
    """Point charges that stand for charges and dipoles (e A).

    Returns
    -------
    positions : numpy.ndarray, (3 n, 3), A
    charges : numpy.ndarray, (3 n,), e
    """
    size = np.linalg.norm(dipoles, axis=1)
    direction = dipoles / np.maximum(size, 1e-12)[:, None]
    half = 0.5 * DIPOLE_SEPARATION * direction
    strength = size / DIPOLE_SEPARATION
    return (
        np.concatenate([positions, positions + half, positions - half]),
        np.concatenate([charges, strength, -strength]),
    )


ELECTRON_TOLERANCE = 0.01
"""Largest error of the electron count on the grid, e per molecule."""


def check_electrons(molecule, density):
    """Refuse a partition that loses electrons."""
    expected = int(molecule.numbers.sum() - density.n_core.sum()) - molecule.charge
    if abs(density.n_electrons - expected) > ELECTRON_TOLERANCE:
        raise Sorry(
            f"{molecule.name()}: {density.n_electrons:.4f} electrons on the grid instead of "
            f"{expected}. Give a higher grid_level."
        )


def refine_hirshfeld(
    structure: xray.structure,
    f_sq: miller.array,
    quantum: Quantum,
    settings: HirshfeldSettings | None = None,
    table_path="hirshfeld.tsc",
    wavelength: float | None = None,
    weighting: Weighting | None = None,
    extinction: float | None = None,
    conformers=None,
    progress=None,
    **keywords,
) -> HirshfeldResult:
    """Refine a structure with Hirshfeld atoms.

    Parameters
    ----------
    structure : xray.structure
        Start, hydrogens included, scattering factors set.
    f_sq : miller.array
        Merged intensities with sigmas.
    quantum : Quantum
    settings : HirshfeldSettings, optional
    table_path : path-like
        Where the form-factor table of the last cycle is kept.
    wavelength : float
    weighting : Weighting, optional
        Start; statistical weights where not given.
    extinction : float, optional
        Start of EXTI, where the model has it.
    conformers : sequence of int, optional
        SHELX PART numbers.
    progress : callable(str), optional
    keywords
        Passed to `refine` (restraints, temperature, connectivity, constraints).

    Returns
    -------
    HirshfeldResult

    Raises
    ------
    Sorry
        Where the model has no molecules, or a calculation fails.
    """
    settings = settings or HirshfeldSettings()
    tell = progress or logger.info
    turns = Turns(FormFactors(quantum, settings, conformers), f_sq.indices(), table_path)
    started = time.time()
    least_squares = LeastSquares(f_sq, wavelength, settings, weighting, extinction, **keywords)
    spherical = least_squares(free_hydrogens(structure, anisotropic=False))
    spherical = least_squares.try_extinction(spherical)
    tell(
        f"independent atoms: R1 {spherical.r1:.4f}, wR2 {spherical.wr2:.4f}, "
        f"GooF {spherical.goof:.2f}"
    )
    turns.seconds["independent_atoms"] = time.time() - started
    anisotropic = anisotropic_hydrogens(structure, f_sq, settings.hydrogens)
    model = free_hydrogens(spherical.xray_structure, anisotropic)
    result, converged = spherical, False
    for number in range(1, settings.max_cycles + 1):
        path = turns.renew_table(model)
        result = least_squares(model, path)
        if number == 2:
            result = least_squares.try_extinction(result, path)
        shift = largest_shift_over_esd(model, result)
        change = turns.record(result, shift).form_factor_change
        tell(
            f"HAR cycle {number}: R1 {result.r1:.4f}, wR2 {result.wr2:.4f}, GooF "
            f"{result.goof:.2f}, shift/esd {shift:.3f}, change of f {change:.4f} e"
        )
        model = result.xray_structure
        if shift <= settings.shift_over_esd and change <= settings.form_factor_change:
            converged = True
            break
    if not converged:
        turns.warnings.append(
            f"HAR did not converge in {settings.max_cycles} cycles: shift/esd "
            f"{shift:.3f}, change of f {change:.4f} e"
        )
    return turns.result(result, spherical, converged)


def largest_shift_over_esd(before: xray.structure, after: RefinementResult) -> float:
    """Largest change of a coordinate, over its esd."""
    if after.covariance is None:
        return float("nan")
    annotations = set(after.covariance.annotations)
    largest = 0.0
    for old, new in zip(before.scatterers(), after.xray_structure.scatterers(), strict=True):
        for k, axis in enumerate("xyz"):
            name = f"{new.label}.{axis}"
            if name in annotations:
                esd = np.sqrt(max(after.covariance.variance_of(name), 0.0))
                if esd > 1e-12:
                    largest = max(largest, abs(new.site[k] - old.site[k]) / esd)
    return float(largest)
