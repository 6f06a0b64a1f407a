"""Phases to a finished structure, with no hand on it.

Peaks become trial atoms; cycles of least squares, element assignment, pruning and
difference maps go on until nothing changes; then anisotropic displacements, hydrogens,
weights and extinction. The result says itself whether it is a solution.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

# cctbx
from cctbx import adptbx, miller, xray
from cctbx.array_family import flex
from libtbx.utils import Sorry

from phai_cctbx.building.connectivity import (
    HYDROGENS,
    assemble,
    atomic_number,
    bonded,
    closest_approach,
    contacts,
    element_of,
    is_metal,
    u_equivalent,
)
from phai_cctbx.building.elements import Site, assign_elements, scattering_power
from phai_cctbx.building.hydrogens import HydrogenGroup, HydrogenPlacer, add_hydrogens
from phai_cctbx.building.naming import rename
from phai_cctbx.building.peaks import find_peaks, fourier_map
from phai_cctbx.refinement.analysis import (
    AbsoluteStructure,
    absolute_structure,
    change_hand,
    missed_symmetry,
)
from phai_cctbx.refinement.least_squares import (
    CONVERGED_SHIFT_OVER_ESD,
    RefinementResult,
    prepare_scattering,
    refine,
)
from phai_cctbx.refinement.maps import difference_coefficients
from phai_cctbx.refinement.recycling import recycle
from phai_cctbx.refinement.riding import (
    CovalentBonds,
    checked_groups,
    hydrogen_restraints,
    riding_constraints,
)
from phai_cctbx.refinement.weighting import Weighting, optimise_weighting

logger = logging.getLogger(__name__)

VOLUME_PER_ATOM = 18.0
"""Usual volume of a non-hydrogen atom in molecular crystals, A^3 (Kempster & Lipson, 1972)."""

R1_SOLVED = 0.20
"""A complete small-molecule structure has a lower R1; wrong ones seldom come below 0.35."""

R1_SOLVED_KINEMATIC = 0.30
"""The same for electrons and neutrons, where multiple scattering and absorption add their share."""

MIN_BONDED_SHARE = 0.75
"""Least share of atoms with sensible surroundings in a solution; disorder costs some."""

LONGEST_CONTACT = 3.2
"""Distance (A) beyond which nothing is bonded."""

CONVERGED = 0.05
"""Largest shift/esd of a refinement that has converged (IUCr)."""

R1_OF_DISORDER = 0.01
"""Rise of R1 without an atom that shows it to be there, however spread out."""

DISORDER_U, DISORDER_RATIO = 0.20, 3.5
"""Largest principal U (A^2), and over the median, beyond which an atom may be disordered."""

EXTINCTION_TRIAL = 0.005
"""Start of the extinction coefficient."""

EXTINCTION_SIGNIFICANCE, EXTINCTION_WR2_GAIN = 3.0, 0.0005
"""Extinction is kept where it exceeds so many esds and lowers wR2 by this."""

MIN_REFLECTIONS_PER_PARAMETER = 3.5
"""Fewest reflections per parameter for anisotropic displacements."""

ANISOTROPIC_LIGHT = 10
"""Elements up to this atomic number stay isotropic first where reflections are few."""

RECYCLING_TURNS = 20
"""Most turns of peaks and phases."""

R1_GOOD_START = 0.30
"""Isotropic R1 of a start that needs no other beside it."""

ROUGH_CONVERGENCE = 0.3
"""Shift over esd at which a refinement on the way is good enough."""

R1_HOPELESS = 0.45
"""Isotropic R1 above which a model that no longer improves is given up."""


LEAST_FILLED, MOST_FILLED = 0.6, 2.0
"""Atoms that a composition may claim, over those the volume suggests; beyond, it is wrong."""

ATOMS_PER_HEAVY_ATOM = 2.0
"""All atoms of a molecular crystal over those that are not hydrogen, about."""

U_START = 0.04
"""U_iso (A^2) of new atoms."""

MIN_TRIAL_HEIGHT = 0.45
"""Lowest peak, over the median of expected atoms, that becomes a trial atom."""

BOND_REACH = 2.1
"""Distance (A) within which neighbours speak about an element."""

POWER_ERROR = 0.1
"""Standard uncertainty (electrons) of refined scattering powers besides the relative one."""

POWER_ERROR_PER_R1, MIN_POWER_ERROR = 0.75, 0.02
"""Relative error of refined scattering powers, over R1 (measured on correct models), and least."""

MIN_POWER = 0.45
"""Scattering power, over the median, below which there is no atom."""

U_PRUNE, U_PRUNE_FACTOR = 0.15, 3.0
"""An atom has no density when its U exceeds both this (A^2) and this many times the median."""

PRUNE_SHARE = 0.25
"""Largest part of the model that is removed at a time."""

MIN_HYDROGEN_DISTANCE = 0.75
"""Closest approach (A) of a nucleus of hydrogen to another."""

HYDROGEN_REACH = 1.25
"""Distance (A) from an atom within which a difference peak may be its hydrogen."""

RIPPLE_DISTANCE, RIPPLE_RATIO = 1.35, 3.0
"""A peak this close (A) to one so many times higher is a ripple of the series."""

MEAN_POWER_OVER_CARBON = 1.08
"""Median scattering power of the atoms of most molecular crystals over that of carbon."""

MIN_NEW_DISTANCE = 1.1
"""Closest approach of a new atom to one of the model, A."""

MIN_NEW_DENSITY = 0.45
"""Difference density, over that of a typical carbon atom of the model, that makes a new atom."""


@dataclass(frozen=True)
class Step:
    """One line of the history: what was done, and where the model stood after it."""

    action: str
    r1: float
    n_atoms: int


@dataclass(frozen=True)
class Solution:
    """A finished structure (or the best that could be made) and the evidence for it.

    Attributes
    ----------
    xray_structure : xray.structure
        Molecules put together, atoms named, hydrogens after their parents.
    solved : bool
        Its own judgement; `warnings` say why not.
    r1, r1_all, wr2, goof : float
        R1 on F for I > 2 sigma(I) and for all, wR2 on F^2 and goodness of fit.
    weighting : (float, float)
        a and b of the SHELXL weights.
    n_reflections, n_observed, n_parameters, n_restraints : int
    difference_peak, difference_hole, difference_rms : float
        e/A^3 (scattering length for neutrons).
    max_shift_over_esd : float
    covariance : smtbx covariance_matrix_and_annotations or None
    scale_factor : float
        Fo^2 = scale_factor * Fc^2.
    extinction, extinction_esd : float or None
        SHELXL's EXTI.
    composition : dict
        Atoms of each element per unit cell, as found.
    history : tuple of Step
    warnings : tuple of str
    refinement : RefinementResult
        The last one.
    r1_without_hydrogens : float
        Before they were placed; nan where none were.
    riding : tuple of HydrogenGroup
        Hydrogen groups with scatterer numbers of `xray_structure`.
    absolute_structure : AbsoluteStructure or None
        Of acentric crystals whose Friedel mates were given apart.
    """

    xray_structure: xray.structure
    solved: bool
    r1: float
    r1_all: float
    wr2: float
    goof: float
    weighting: tuple[float, float]
    n_reflections: int
    n_observed: int
    n_parameters: int
    n_restraints: int
    difference_peak: float
    difference_hole: float
    difference_rms: float
    max_shift_over_esd: float
    covariance: object | None
    scale_factor: float
    extinction: float | None
    extinction_esd: float | None
    composition: dict[str, float]
    history: tuple[Step, ...] = ()
    warnings: tuple[str, ...] = ()
    refinement: RefinementResult | None = None
    r1_without_hydrogens: float = float("nan")
    riding: tuple = ()
    absolute_structure: AbsoluteStructure | None = None


def expected_atoms(
    crystal_symmetry, composition: dict[str, float] | None, radiation: str = "xray"
) -> int:
    """Atoms expected in the asymmetric unit, from composition and volume.

    Hydrogen counts with neutrons only, which see it like other atoms.
    """
    order = crystal_symmetry.space_group().order_z()
    by_volume = crystal_symmetry.unit_cell().volume() / order / VOLUME_PER_ATOM
    unseen = HYDROGENS
    if radiation == "neutron":
        by_volume *= ATOMS_PER_HEAVY_ATOM
        unseen = frozenset()
    expected = by_volume
    if composition:
        given = sum(n for element, n in composition.items() if element not in unseen) / order
        expected = min(max(given, LEAST_FILLED * by_volume), MOST_FILLED * by_volume)
    return max(1, round(expected))


def cell_contents(structure: xray.structure) -> dict[str, float]:
    """Atoms of each element per unit cell."""
    order = structure.space_group().order_z()
    contents: dict[str, float] = {}
    for scatterer in structure.scatterers():
        element = element_of(scatterer)
        contents[element] = contents.get(element, 0.0) + order * scatterer.weight()
    return contents


class _Model:
    """The structure in the making, with the one way to refine it and the record of steps."""

    def __init__(self, f_sq, composition, radiation, wavelength, temperature=20.0):
        self.f_sq = f_sq
        self.composition = composition
        self.radiation = radiation
        self.wavelength = wavelength
        self.order = f_sq.space_group().order_z()
        self.weighting = Weighting()
        self.history: list[Step] = []
        self.warnings: list[str] = []
        self.structure: xray.structure | None = None
        self.result: RefinementResult | None = None
        self.riding: list[HydrogenGroup] = []
        self.temperature = temperature
        self.extinction: float | None = None
        self.r1_without_hydrogens = float("nan")
        self.absolute_structure: AbsoluteStructure | None = None

    def refine(self, action: str, **kwargs) -> RefinementResult:
        prepare_scattering(self.structure, self.radiation, self.wavelength)
        self.result = refine(
            self.structure,
            self.f_sq,
            weighting=self.weighting,
            wavelength=self.wavelength,
            extinction=self.extinction,
            temperature=self.temperature,
            **self.riding_arguments(),
            **{"convergence": ROUGH_CONVERGENCE, **kwargs},
        )
        self.extinction = self.result.extinction
        self.structure = self.result.xray_structure.deep_copy_scatterers()
        self.record(action)
        return self.result

    def record(self, action: str) -> None:
        """Note what was done and where the model stands."""
        step = Step(action, self.result.r1, self.structure.scatterers().size())
        self.history.append(step)
        logger.info("%-40s R1 %.4f, %d atoms", step.action, step.r1, step.n_atoms)

    @property
    def changed(self) -> bool:
        """True where atoms were added or removed since the last refinement."""
        refined = self.result.xray_structure.scatterers().size()
        return refined != self.structure.scatterers().size()

    def power(self, element: str) -> float:
        """Scattering power of an element for the radiation at hand."""
        return scattering_power(element, self.radiation)

    def heavy_atoms(self) -> list[int]:
        """Scatterers other than hydrogen; with neutrons, which see it like others, all."""
        if self.radiation == "neutron":
            return list(range(self.structure.scatterers().size()))
        return [
            i for i, s in enumerate(self.structure.scatterers()) if element_of(s) not in HYDROGENS
        ]

    def riding_arguments(self) -> dict:
        """What `refine` needs to know about the hydrogens."""
        if not self.riding:
            return {}
        internuclear = self.radiation != "xray"
        self.riding = checked_groups(self.structure, self.riding)
        return {
            "constraints": riding_constraints(self.structure, self.riding, internuclear),
            "restraints": hydrogen_restraints(self.structure, self.riding, internuclear),
            "connectivity": CovalentBonds(self.structure),
        }

    def density_of_carbon(self) -> float:
        """Typical peak density of a carbon atom of the model, units of the map."""
        fft_map = fourier_map(self.result.f_calc)
        density = fft_map.real_map_unpadded()
        ratios = [
            density.eight_point_interpolation(s.site) / (s.occupancy * self.power(element_of(s)))
            for s in self.structure.scatterers()
            if s.occupancy > 0.1
        ]
        return self.power("C") * float(np.median(ratios))


def _build(crystal_symmetry, sites, elements, u_iso: float) -> xray.structure:
    """Isotropic atoms on sites; those close to a special position lie on it."""
    structure = xray.structure(crystal_symmetry=crystal_symmetry)
    for i, (site, element) in enumerate(zip(sites, elements, strict=True)):
        structure.add_scatterer(
            xray.scatterer(f"{element}{i + 1}", site=site, u=u_iso, scattering_type=element)
        )
    return structure


def _with_elements(structure: xray.structure, elements) -> xray.structure:
    """Copy with other elements on the same sites, occupancies 1."""
    result = xray.structure(special_position_settings=structure)
    for i, (scatterer, element) in enumerate(zip(structure.scatterers(), elements, strict=True)):
        result.add_scatterer(
            scatterer.customized_copy(
                label=f"{element}{i + 1}", scattering_type=element, occupancy=1.0
            )
        )
    return result


def _element_sites(structure: xray.structure, z) -> list[Site]:
    """What is known about the elements of a structure's atoms."""
    near = contacts(structure, BOND_REACH)
    order = structure.space_group().order_z()
    return [
        Site(
            z=float(z[i]),
            z_esd=POWER_ERROR,
            weight=scatterer.multiplicity() / order,
            neighbours=tuple((n.index, n.distance) for n in near[i]),
        )
        for i, scatterer in enumerate(structure.scatterers())
    ]


def _drop(structure: xray.structure, unwanted) -> xray.structure:
    """Copy without the scatterers listed by index."""
    unwanted = set(unwanted)
    keep = [i for i in range(structure.scatterers().size()) if i not in unwanted]
    return structure.select(flex.size_t(keep))


def scattering_powers(model: _Model, n_cycles: int = 4) -> np.ndarray:
    """Scattering power of each non-hydrogen atom, from refined occupancies.

    All occupancies are refined together with U, so that their common scale is free; it is
    returned as it comes out. The model itself is not changed.
    """
    structure = model.structure
    heavy = model.heavy_atoms()
    prepare_scattering(structure, model.radiation, model.wavelength)
    result = refine(
        structure,
        model.f_sq,
        weighting=model.weighting,
        n_cycles=n_cycles,
        convergence=ROUGH_CONVERGENCE,
        occupancies=heavy,
        wavelength=model.wavelength,
        temperature=model.temperature,
        **model.riding_arguments(),
    )
    scatterers = structure.scatterers()
    refined = result.xray_structure.scatterers()
    return np.array(
        [
            model.power(element_of(scatterers[i]))
            * refined[i].occupancy
            / max(scatterers[i].occupancy, 0.01)
            for i in heavy
        ]
    )


def _best_start(model: _Model, f_obs: miller.array, phasing_result) -> None:
    """Isotropic model from recycled phases or, where that fails, from the phases as they are."""
    n_atoms = expected_atoms(model.f_sq, model.composition, model.radiation)
    starts = []
    for n_turns in (RECYCLING_TURNS, 1):
        trial = recycle(
            f_obs,
            phasing_result.f_phased,
            phasing_result.confidence,
            n_atoms,
            n_turns=n_turns,
            both_signs=model.radiation == "neutron",
        )
        model.history.append(
            Step(
                f"peaks after {trial.n_turns} turns, correlation of E {trial.cc:.3f}",
                float("nan"),
                len(trial.peaks),
            )
        )
        _first_model(model, trial)
        _isotropic(model)
        starts.append((model.result.r1, model.structure, model.result))
        if model.result.r1 < R1_GOOD_START:
            break
    _, model.structure, model.result = min(starts, key=lambda start: start[0])


def _first_model(model: _Model, trial) -> None:
    """Elements of trial atoms by their heights; low peaks and ripples are left out."""
    sites, heights = trial.peaks.sites, trial.peaks.heights
    strength = np.abs(heights)
    structure = _build(model.f_sq.crystal_symmetry(), sites, ["C"] * len(heights), U_START)
    n_most = int(1.2 * expected_atoms(model.f_sq, model.composition, model.radiation)) + 2
    ripples = {
        i
        for i, near in enumerate(contacts(structure, RIPPLE_DISTANCE))
        for n in near
        if strength[n.index] > RIPPLE_RATIO * strength[i]
    }
    keep = [i for i in range(len(heights)) if strength[i] > MIN_TRIAL_HEIGHT and i not in ripples]
    keep = keep[:n_most]
    structure = structure.select(flex.size_t(keep))
    z = MEAN_POWER_OVER_CARBON * model.power("C") * heights[keep]
    elements = assign_elements(
        _element_sites(structure, z),
        model.composition,
        model.order,
        fit_scale=True,
        relative_error=0.18,
        radiation=model.radiation,
    )
    model.structure = _with_elements(structure, elements)


def _isotropic(model: _Model, n_rounds: int = 8) -> None:
    """Least squares, pruning, elements and difference maps in turns until nothing changes."""
    previous = float("inf")
    for round_number in range(1, n_rounds + 1):
        model.refine(f"isotropic, round {round_number}", n_cycles=6)
        changes = _prune(model)
        if changes:
            model.refine("without atoms of no density", n_cycles=4)
        r1 = model.result.r1
        hopeless = r1 > R1_HOPELESS
        if hopeless and round_number > 2 and r1 > previous - 0.02:
            break
        if not hopeless:
            changes += _relabel(model, "isotropic, other elements")
        added = _add_atoms(model)
        if not (changes or added) or (not added and r1 > previous - 0.001):
            break
        previous = r1
    if model.changed:
        model.refine("isotropic, last", n_cycles=6)


def _prune(model: _Model) -> int:
    """Remove atoms that have no density, by U and by closeness to others; their number.

    The worst first, and no more than a part of the model at a time: a false atom raises
    the U of the others.
    """
    structure = model.structure
    unit_cell = structure.unit_cell()
    u_values = np.array([u_equivalent(s, unit_cell) for s in structure.scatterers()])
    limit = max(U_PRUNE_FACTOR * np.median(u_values), U_PRUNE)
    unwanted = {i for i in range(len(u_values)) if u_values[i] > limit}
    elements = [element_of(s) for s in structure.scatterers()]
    for i, near in enumerate(contacts(structure, BOND_REACH)):
        for n in near:
            if n.index == i or n.distance > closest_approach(elements[i], elements[n.index]):
                continue
            if i in unwanted or n.index in unwanted:
                continue
            power = [atomic_number(elements[k]) / (u_values[k] + U_START) for k in (i, n.index)]
            unwanted.add(i if power[0] < power[1] else n.index)
    n_most = max(1, int(PRUNE_SHARE * len(u_values)))
    unwanted = sorted(unwanted, key=lambda i: -u_values[i])[:n_most]
    if unwanted and len(unwanted) < len(u_values):
        model.structure = _drop(structure, unwanted)
        return len(unwanted)
    return 0


def _relabel(model: _Model, action: str) -> int:
    """Assign elements anew from refined scattering powers; the number of changes.

    Atoms of hardly any scattering power go. Changes that do not lower R1 are taken back; then
    those with the clearest evidence are tried by themselves.
    """
    try:
        z = scattering_powers(model)
    except Sorry as error:
        logger.info("Elements stay as they are: %s", error)
        return 0
    heavy = model.structure.select(flex.size_t(model.heavy_atoms()))
    strength = np.abs(z)
    weak = [i for i in range(len(z)) if strength[i] < MIN_POWER * np.median(strength)]
    if weak and not model.riding:
        model.structure = _drop(model.structure, weak)
        model.refine("without weak atoms", n_cycles=4)
        return len(weak)
    relative_error = min(max(POWER_ERROR_PER_R1 * model.result.r1, MIN_POWER_ERROR), 0.15)
    new = assign_elements(
        _element_sites(heavy, z),
        model.composition,
        model.order,
        fit_scale=True,
        relative_error=relative_error,
        radiation=model.radiation,
    )
    old = [element_of(scatterer) for scatterer in heavy.scatterers()]
    n_changes = sum(a != b for a, b in zip(old, new, strict=True))
    if not n_changes:
        return 0
    if _try_elements(model, heavy, new, action):
        return n_changes
    clear = _clearest_changes(z, old, new, model.power)
    n_clear = sum(a != b for a, b in zip(old, clear, strict=True))
    if 0 < n_clear < n_changes and _try_elements(model, heavy, clear, f"{action}, the clearest"):
        return n_clear
    return 0


def _clearest_changes(z, old, new, power) -> list[str]:
    """Of all changes of elements those that bring scattering powers closest to their elements."""
    numbers_old = np.array([power(e) for e in old])
    numbers_new = np.array([power(e) for e in new])
    scaled = z / np.median(z / numbers_new)
    gain = np.abs(scaled / numbers_old - 1) - np.abs(scaled / numbers_new - 1)
    least = max(gain.max() / 2, MIN_POWER_ERROR)
    return [b if g >= least else a for a, b, g in zip(old, new, gain, strict=True)]


def _try_elements(model: _Model, heavy: xray.structure, elements, action: str) -> bool:
    """Refine with other elements; true where that lowers R1, else everything is as before."""
    before = (model.structure, model.result, model.riding, model.extinction)
    with_hydrogens = bool(model.riding)
    model.structure = _with_elements(heavy, elements)
    model.riding = []
    model.refine(action, n_cycles=4)
    if with_hydrogens:
        model.structure = rename(model.structure)
        _place_hydrogens(model)
        model.refine(f"{action}, hydrogens", n_cycles=5)
    if model.result.r1 < before[1].r1 - 1e-5:
        return True
    model.structure, model.result, model.riding, model.extinction = before
    model.record("taken back")
    return False


def _add_atoms(model: _Model) -> int:
    """Add carbon atoms on strong, sensibly placed peaks of the difference map; their number."""
    coefficients = difference_coefficients(model.result, model.f_sq)
    peaks = find_peaks(coefficients, 20)
    threshold = max(MIN_NEW_DENSITY * model.density_of_carbon(), 4 * peaks.sigma)
    n_new = 0
    for site, height in zip(peaks.sites, peaks.heights, strict=True):
        if height < threshold:
            break
        trial = model.structure.deep_copy_scatterers()
        trial.add_scatterer(
            xray.scatterer(f"C{900 + n_new}", site=site, u=U_START, scattering_type="C")
        )
        last = trial.scatterers().size() - 1
        near = contacts(trial, MIN_NEW_DISTANCE)[last]
        if any(n.index != last for n in near) or any(n.distance < 1.0 for n in near):
            continue
        model.structure = trial
        n_new += 1
    if model.radiation == "neutron":
        n_new += _add_negative_atoms(model, coefficients, threshold)
    return n_new


def _add_negative_atoms(model: _Model, coefficients: miller.array, threshold: float) -> int:
    """Add hydrogen on holes of a neutron difference map beside an atom; their number."""
    least = threshold * abs(model.power("H") / model.power("C"))
    holes = find_peaks(coefficients, 20, MIN_HYDROGEN_DISTANCE, negative=True)
    n_new = 0
    for site, height in zip(holes.sites, holes.heights, strict=True):
        if -height < least:
            break
        trial = model.structure.deep_copy_scatterers()
        trial.add_scatterer(
            xray.scatterer(f"H{900 + n_new}", site=site, u=U_START, scattering_type="H")
        )
        last = trial.scatterers().size() - 1
        near = [n.distance for n in contacts(trial, HYDROGEN_REACH)[last] if n.index != last]
        if near and min(near) > MIN_HYDROGEN_DISTANCE:
            model.structure = trial
            n_new += 1
    return n_new


def complete_structure(
    f_sq: miller.array,
    phasing_result,
    composition: dict[str, float] | None = None,
    radiation: str = "xray",
    wavelength: float | None = None,
    hydrogens: bool = True,
    temperature: float = 20.0,
    anisotropic: bool = True,
    f_sq_anomalous: miller.array | None = None,
) -> Solution:
    """Complete and refine a structure from phases.

    Parameters
    ----------
    f_sq : miller.array
        Merged intensities with sigmas, all resolution.
    phasing_result : PhasingResult
        Phases of some or all of these reflections.
    composition : dict, optional
        Atoms per unit cell; a hint, not a law.
    radiation : {"xray", "electron", "neutron"}
    wavelength : float, optional
        A.
    hydrogens : bool
        Place hydrogens.
    temperature : float
        Of the measurement, degrees Celsius.
    f_sq_anomalous : miller.array, optional
        The intensities with Friedel mates apart; they decide on the hand of acentric crystals.
    anisotropic : bool
        Refine anisotropic displacements where the data carry them.

    Returns
    -------
    Solution
        `solved` tells whether it is one.
    """
    f_sq = f_sq.map_to_asu()
    model = _Model(f_sq, composition, radiation, wavelength, temperature)
    f_obs = f_sq.customized_copy(
        data=flex.sqrt(flex.double(np.maximum(np.array(f_sq.data()), 0))), sigmas=None
    ).set_observation_type_xray_amplitude()
    _best_start(model, f_obs, phasing_result)
    model.structure = rename(assemble(model.structure))
    if model.result.r1 < R1_HOPELESS:
        _refine_fully(model, hydrogens, anisotropic)
        if f_sq_anomalous is not None:
            _settle_hand(model, f_sq_anomalous.map_to_asu())
    return _finish(model)


def _refine_fully(model: _Model, hydrogens: bool, anisotropic: bool) -> None:
    """Anisotropic displacements, elements once more, then hydrogens."""
    if anisotropic:
        _convert_to_anisotropic(model)
        model.refine("anisotropic", n_cycles=6)
        before = (model.structure, model.result)
        if _prune(model):
            model.refine("without atoms of no density", n_cycles=4)
            if model.result.r1 > before[1].r1 + R1_OF_DISORDER:
                model.structure, model.result = before
                model.record("taken back")
        _relabel(model, "anisotropic, other elements")
    _update_weights(model)
    model.structure = rename(assemble(model.structure))
    model.refine("weights", n_cycles=5)
    if hydrogens and model.radiation != "neutron":
        model.r1_without_hydrogens = model.result.r1
        _place_hydrogens(model)
        model.refine("hydrogens", n_cycles=6)
        for _ in range(2):
            if not _relabel(model, "other elements"):
                break
    _update_weights(model)
    model.refine("weights", n_cycles=6)
    _try_extinction(model)
    _update_weights(model)


def _try_extinction(model: _Model) -> None:
    """Refine an extinction coefficient and keep it where the data call for it."""
    if model.wavelength is None or model.radiation == "electron":
        return
    before = (model.structure, model.result)
    model.extinction = EXTINCTION_TRIAL
    result = model.refine("extinction", n_cycles=6, with_covariance=True)
    esd = result.extinction_esd
    if (
        esd
        and result.extinction > EXTINCTION_SIGNIFICANCE * esd
        and result.wr2 < before[1].wr2 - EXTINCTION_WR2_GAIN
    ):
        return
    model.structure, model.result = before
    model.extinction = None
    model.record("no extinction")


def _convert_to_anisotropic(model: _Model) -> None:
    """Anisotropic U for all atoms, or for the heavier ones where reflections are few."""
    structure = model.structure
    n_reflections = model.f_sq.size()
    elements = [element_of(s) for s in structure.scatterers()]
    for z_least in (1, ANISOTROPIC_LIGHT + 1):
        chosen = [atomic_number(element) >= z_least for element in elements]
        n_parameters = 4 * len(elements) + 5 * sum(chosen)
        if n_reflections > MIN_REFLECTIONS_PER_PARAMETER * n_parameters:
            break
    else:
        chosen = [False] * len(elements)
    if not all(chosen):
        model.warnings.append(
            f"{len(elements) - sum(chosen)} non-hydrogen atoms are refined isotropically: "
            f"{n_reflections} reflections do not carry more parameters."
        )
    structure.convert_to_anisotropic(selection=flex.bool(chosen))


def _place_hydrogens(model: _Model) -> None:
    """Hydrogens by geometry and difference density, refined with the rest."""
    fft_map = fourier_map(difference_coefficients(model.result, model.f_sq))
    density = fft_map.real_map_unpadded()
    fractionalize = model.f_sq.unit_cell().fractionalize

    def density_at(site):
        return density.eight_point_interpolation(fractionalize(tuple(site)))

    placer = HydrogenPlacer(model.structure, density_at, _peaks_around(model))
    groups = placer.groups()
    model.structure, model.riding = add_hydrogens(model.structure, groups)


def _peaks_around(model: _Model) -> dict[int, list[np.ndarray]]:
    """Difference peaks within bonding distance of each atom, as Cartesian sites."""
    n_atoms = model.structure.scatterers().size()
    coefficients = difference_coefficients(model.result, model.f_sq)
    peaks = find_peaks(coefficients, 2 * n_atoms + 20)
    trial = model.structure.deep_copy_scatterers()
    for k, site in enumerate(peaks.sites):
        trial.add_scatterer(xray.scatterer(f"Q{k}", site=site, u=U_START, scattering_type="H"))
    sites = trial.sites_frac()
    orthogonalize = trial.unit_cell().orthogonalize
    around: dict[int, list[np.ndarray]] = {}
    for i, near in enumerate(contacts(trial, HYDROGEN_REACH)[:n_atoms]):
        found = sorted((n for n in near if n.index >= n_atoms), key=lambda n: n.index)
        around[i] = [np.array(orthogonalize(n.operator * sites[n.index])) for n in found]
    return around


def _update_weights(model: _Model) -> None:
    """SHELXL weights from the last refinement."""
    result = model.result
    scale = result.scale_factor
    model.weighting = optimise_weighting(
        np.array(model.f_sq.data()) / scale,
        np.array(model.f_sq.sigmas()) / scale,
        np.array(result.fc_sq.data()),
        result.n_parameters,
    )


def bonded_share(structure: xray.structure) -> float:
    """Share of the non-hydrogen atoms with a sensible surrounding.

    An atom counts that has a bond, or is a metal, halogen or oxygen (ions, water), and that no
    other atom is too close to.
    """
    elements = [element_of(s) for s in structure.scatterers()]
    heavy = [i for i, element in enumerate(elements) if element not in HYDROGENS]
    near = contacts(structure, LONGEST_CONTACT)
    sensible = 0
    for i in heavy:
        distances = [(elements[n.index], n.distance) for n in near[i] if n.index in set(heavy)]
        close = any(d < closest_approach(elements[i], e) for e, d in distances)
        alone = not any(bonded(elements[i], e, d) for e, d in distances)
        may_be_alone = is_metal(elements[i]) or elements[i] in ("O", "F", "Cl", "Br", "I")
        sensible += not close and (may_be_alone or not alone)
    return sensible / len(heavy) if heavy else 0.0


def _verdict(model: _Model, result: RefinementResult, peak: float) -> tuple[bool, list[str]]:
    """Whether the structure is a solution, and what speaks against it."""
    doubts = []
    freedom = result.n_observed / max(result.n_observed - result.n_parameters, 1)
    r1 = result.r1 * np.sqrt(freedom)
    limit = R1_SOLVED if model.radiation == "xray" else R1_SOLVED_KINEMATIC
    if r1 > limit:
        doubts.append(f"R1 {result.r1:.3f}, {r1:.3f} for the degrees of freedom")
    share = bonded_share(model.structure)
    if share < MIN_BONDED_SHARE:
        doubts.append(f"only {share:.0%} of the atoms have sensible surroundings")
    unit_cell = model.structure.unit_cell()
    u_values = [u_equivalent(s, unit_cell) for s in model.structure.scatterers()]
    if np.median(u_values) > U_PRUNE:
        doubts.append(f"median displacement {np.median(u_values):.2f} A^2")
    return not doubts, doubts


def _settle_hand(model: _Model, f_sq_anomalous: miller.array) -> None:
    """Estimate the absolute structure; invert the model where its hand is wrong."""
    model.absolute_structure = _absolute_structure_of(model, f_sq_anomalous)
    if model.absolute_structure is None:
        return
    if not model.absolute_structure.decisive:
        model.warnings.append(
            "The hand is not determined: Hooft y "
            f"{model.absolute_structure.hooft:.2f}({model.absolute_structure.hooft_esd:.2f})."
        )
        return
    if not model.absolute_structure.inverted:
        return
    inverted = change_hand(model.structure)
    if inverted is None:
        model.warnings.append(
            "The hand is wrong: solve again in the enantiomorphic space group "
            f"{model.structure.change_hand().space_group_info()}."
        )
        return
    model.structure = assemble(inverted)
    model.refine("inverted", n_cycles=3)
    model.absolute_structure = _absolute_structure_of(model, f_sq_anomalous)


def _absolute_structure_of(model: _Model, f_sq_anomalous: miller.array):
    """Absolute structure of the model as it stands."""
    f_calc = f_sq_anomalous.structure_factors_from_scatterers(
        model.structure, algorithm="direct"
    ).f_calc()
    return absolute_structure(f_calc, f_sq_anomalous, model.result.scale_factor)


def _report_symmetry(model: _Model, result: RefinementResult) -> None:
    """Warn of symmetry that the structure has beyond its space group."""
    try:
        missed = missed_symmetry(result.f_calc, model.f_sq)
    except (AssertionError, RuntimeError) as error:
        logger.warning("Missed symmetry was not looked for: %r", error)
        return
    if missed is not None:
        model.warnings.append(
            f"The structure has the symmetry of {missed.space_group} (in the axes of its P1 cell, "
            f"intensities agree to R {missed.r_merge:.3f}): solve it in that group."
        )


def _report_disorder(model: _Model) -> None:
    """Name the atoms whose displacements are too large for one site."""
    unit_cell = model.structure.unit_cell()
    largest = {}
    for i in model.heavy_atoms():
        scatterer = model.structure.scatterers()[i]
        largest[scatterer.label] = scatterer.u_iso
        if scatterer.flags.use_u_aniso():
            u_cart = adptbx.u_star_as_u_cart(unit_cell, scatterer.u_star)
            largest[scatterer.label] = max(adptbx.eigenvalues(u_cart))
    limit = max(DISORDER_U, DISORDER_RATIO * float(np.median(list(largest.values()))))
    spread = [label for label, u in largest.items() if u > limit]
    if spread:
        model.warnings.append(f"Large displacements, perhaps disorder: {', '.join(spread)}.")


def _report_composition(model: _Model) -> None:
    """Say what was found where no composition was given or its heavy atoms are others."""
    found = cell_contents(model.structure)
    formula = " ".join(
        f"{element}{count / model.order:.3g}" for element, count in sorted(found.items())
    )
    if not model.composition:
        model.warnings.append(f"No composition was given; found, per asymmetric unit: {formula}.")


def _finish(model: _Model) -> Solution:
    """Last refinement with esds, and the verdict."""
    result = model.refine(
        "final",
        n_cycles=15 if model.result.r1 < R1_HOPELESS else 2,
        with_covariance=True,
        convergence=CONVERGED_SHIFT_OVER_ESD,
    )
    fft_map = fourier_map(difference_coefficients(result, model.f_sq))
    statistics = fft_map.statistics()
    solved, doubts = _verdict(model, result, statistics.max())
    if doubts:
        model.warnings.append("Not a solution: " + ", ".join(doubts) + ".")
    if solved:
        _report_symmetry(model, result)
        _report_composition(model)
        _report_disorder(model)
    if solved and not result.max_shift_over_esd < CONVERGED:
        model.warnings.append(
            f"The refinement has not converged: largest shift/esd {result.max_shift_over_esd:.2f}."
        )
    return Solution(
        xray_structure=model.structure,
        solved=solved,
        r1=result.r1,
        r1_all=result.r1_all,
        wr2=result.wr2,
        goof=result.goof,
        weighting=(result.weighting.a, result.weighting.b),
        n_reflections=result.n_reflections,
        n_observed=result.n_observed,
        n_parameters=result.n_parameters,
        n_restraints=result.n_restraints,
        difference_peak=statistics.max(),
        difference_hole=statistics.min(),
        difference_rms=statistics.sigma(),
        max_shift_over_esd=result.max_shift_over_esd,
        covariance=result.covariance,
        scale_factor=result.scale_factor,
        extinction=result.extinction,
        extinction_esd=result.extinction_esd,
        composition=cell_contents(model.structure),
        history=tuple(model.history),
        warnings=tuple(model.warnings),
        refinement=result,
        r1_without_hydrogens=model.r1_without_hydrogens,
        riding=tuple(model.riding),
        absolute_structure=model.absolute_structure,
    )
