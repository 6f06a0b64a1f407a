"""The structure in the making: its atoms, the one way to refine it, and the record of steps.

What a crystal of this volume and composition should hold is said here too.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

# cctbx
from cctbx import xray
from cctbx.array_family import flex
from smtbx.refinement.restraints import manager

from phai_cctbx.building.connectivity import HYDROGENS, element_of
from phai_cctbx.building.disorder import DisorderedGroup, parts
from phai_cctbx.building.elements import CERTAIN_CONTENTS, COUNT_COST, scattering_power
from phai_cctbx.building.hydrogens import HydrogenGroup
from phai_cctbx.building.peaks import fourier_map
from phai_cctbx.refinement.analysis import AbsoluteStructure
from phai_cctbx.refinement.least_squares import RefinementResult, prepare_scattering, refine
from phai_cctbx.refinement.parts import (
    disordered_atoms,
    distance_restraints,
    occupancy_constraints,
)
from phai_cctbx.refinement.riding import (
    CovalentBonds,
    checked_groups,
    hydrogen_restraints,
    riding_constraints,
)
from phai_cctbx.refinement.twinning import Twin
from phai_cctbx.refinement.weighting import Weighting

logger = logging.getLogger(__name__)

FIT_DECIDES_D_MIN = 1 / (2 * 0.55)
"""Resolution (A) beyond which the fit is not enough: sin(theta)/lambda 0.55, alert A of checkCIF's
THETM01."""

VOLUME_PER_ATOM = 18.0
"""Usual volume of a non-hydrogen atom in molecular crystals, A^3 (Kempster & Lipson, 1972)."""

LEAST_FILLED, MOST_FILLED = 0.6, 2.0
"""Atoms that a composition may claim, over those the volume suggests; beyond, it is wrong."""

ATOMS_PER_HEAVY_ATOM = 2.0
"""All atoms of a molecular crystal over those that are not hydrogen, about."""

ROUGH_CONVERGENCE = 0.3
"""Shift over esd at which a refinement on the way is good enough."""

U_START = 0.04
"""U_iso (A^2) of new atoms."""

MIN_R1 = 1e-6
"""Smaller ones are those of data without errors."""

HALF_ATOM = 0.5
"""Difference of atoms in the asymmetric unit that is one."""

BOND_REACH = 2.1
"""Distance (A) within which neighbours speak about an element."""


@dataclass(frozen=True)
class Step:
    """One line of the history: what was done, and where the model stood after it."""

    action: str
    r1: float
    n_atoms: int


class TrialModel:
    """The structure in the making, with the one way to refine it and the record of steps.

    Parameters
    ----------
    f_sq : miller.array
        Merged intensities with sigmas.
    composition : dict or None
        Atoms per unit cell.
    radiation : {"xray", "electron", "neutron"}
    wavelength : float or None
        A.
    temperature : float
        Of the measurement, degrees Celsius.

    Attributes
    ----------
    structure : xray.structure or None
        As it stands; atoms may have come or gone since the last refinement.
    result : RefinementResult or None
        The last refinement.
    riding : list of HydrogenGroup
    disorder : list of DisorderedGroup
    twin : Twin or None
        The second domain, where there is one.
    twin_fractions : dict
        Law -> (fraction, esd) of the second domains that were tried.
    imaginary : bool
        Whether f'' counts: not while Friedel mates of an acentric crystal are averaged.
    history : list of Step
    warnings : list of str
    """

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
        self.disorder: list[DisorderedGroup] = []
        self.temperature = temperature
        self.extinction: float | None = None
        self.twin: Twin | None = None
        self.twin_fractions: dict[str, tuple[float, float]] = {}
        self.imaginary = True
        self.r1_without_hydrogens = float("nan")
        self.absolute_structure: AbsoluteStructure | None = None

    def refine(self, action: str, **kwargs) -> RefinementResult:
        """Least squares of the structure as it stands; `kwargs` go to `least_squares.refine`."""
        self.prepare_scattering()
        self.result = refine(
            self.structure,
            self.f_sq,
            weighting=self.weighting,
            wavelength=self.wavelength,
            extinction=self.extinction,
            twin=self.twin,
            temperature=self.temperature,
            **self.dependent_arguments(),
            **{"convergence": ROUGH_CONVERGENCE, **kwargs},
        )
        self.extinction = self.result.extinction
        self.twin = self.result.twin
        self.structure = self.result.xray_structure.deep_copy_scatterers()
        self.record(action)
        return self.result

    def prepare_scattering(self) -> None:
        """Scattering factors of the structure as it stands."""
        prepare_scattering(self.structure, self.radiation, self.wavelength, self.imaginary)

    def record(self, action: str) -> None:
        """Note what was done and where the model stands."""
        step = Step(action, self.result.r1, self.structure.scatterers().size())
        self.history.append(step)
        logger.info("%-40s R1 %.4f, %d atoms", step.action, step.r1, step.n_atoms)

    @property
    def few_reflections(self) -> bool:
        """True where the data end too early for the fit alone to decide."""
        return self.f_sq.d_min() > FIT_DECIDES_D_MIN

    @property
    def certainty_of_contents(self) -> float:
        """How much the composition counts in the choice of elements (`assign_elements`)."""
        return CERTAIN_CONTENTS if self.few_reflections else 1.0

    def contents_that_fit(self) -> dict[str, float]:
        """Atoms of each element per asymmetric unit that the composition names; empty where none
        was given, or one that the volume forbids."""
        composition = self.composition or {}
        unseen = frozenset() if self.radiation == "neutron" else HYDROGENS
        n_seen = sum(n for element, n in composition.items() if element not in unseen) / self.order
        if round(n_seen) != expected_atoms(self.f_sq, composition, self.radiation):
            return {}
        return {element: n / self.order for element, n in composition.items()}

    def differences_from_composition(self) -> dict[str, tuple[float, float]]:
        """Element -> (found, given) atoms per asymmetric unit, where they differ by half an atom.

        Empty as well where no composition was given, or one that the volume forbids. Hydrogen
        counts for neutrons alone.
        """
        given = self.contents_that_fit()
        if not given:
            return {}
        unseen = frozenset() if self.radiation == "neutron" else HYDROGENS
        found = {e: n / self.order for e, n in cell_contents(self.structure).items()}
        given, found = (
            {e: n for e, n in contents.items() if e not in unseen} for contents in (given, found)
        )
        return {
            element: (found.get(element, 0.0), given.get(element, 0.0))
            for element in sorted({*found, *given})
            if abs(found.get(element, 0.0) - given.get(element, 0.0)) >= HALF_ATOM
        }

    def contents_cost(self) -> float:
        """Cost (nats) of atoms that are not those of the composition."""
        differences = self.differences_from_composition().values()
        return CERTAIN_CONTENTS * COUNT_COST * sum(abs(a - b) for a, b in differences)

    def badness(self) -> float:
        """n ln(R1), and the cost of atoms other than the composition's where reflections are few.

        Minus the logarithm of the likelihood of the refined model, but for a constant.
        """
        badness = self.f_sq.size() * np.log(max(self.result.r1, MIN_R1))
        return badness + (self.contents_cost() if self.few_reflections else 0.0)

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

    @property
    def parts(self) -> list[int] | None:
        """SHELX PART of each scatterer; None without disorder."""
        if not self.disorder:
            return None
        return parts(self.structure.scatterers().size(), self.disorder)

    def dependent_arguments(self) -> dict:
        """What `refine` needs to know about hydrogens and disordered groups."""
        if not self.riding and not self.disorder:
            return {}
        internuclear = self.radiation != "xray"
        self.riding = checked_groups(self.structure, self.riding, self.parts)
        restraints = hydrogen_restraints(self.structure, self.riding, internuclear)
        constraints = riding_constraints(self.structure, self.riding, internuclear)
        result = {"connectivity": CovalentBonds(self.structure, self.parts)}
        if self.disorder:
            restraints = restraints or manager()
            restraints.bond_similarity_proxies = distance_restraints(self.structure, self.disorder)
            constraints = occupancy_constraints(self.disorder) + constraints
            result["halve_steps"] = True
            result["occupancies"] = disordered_atoms(self.disorder)
        return {**result, "constraints": constraints, "restraints": restraints}

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


def expected_atoms(
    crystal_symmetry, composition: dict[str, float] | None, radiation: str = "xray"
) -> int:
    """Atoms expected in the asymmetric unit, from composition and volume.

    Hydrogen counts with neutrons only, which see it like other atoms.

    Parameters
    ----------
    crystal_symmetry : crystal.symmetry
    composition : dict or None
        Atoms per unit cell; followed as far as the volume allows.
    radiation : {"xray", "electron", "neutron"}

    Returns
    -------
    int
        At least 1.
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


def build_structure(crystal_symmetry, sites, elements, u_iso: float) -> xray.structure:
    """Isotropic atoms (U in A^2) on fractional sites; those near a special position lie on it."""
    structure = xray.structure(crystal_symmetry=crystal_symmetry)
    for i, (site, element) in enumerate(zip(sites, elements, strict=True)):
        structure.add_scatterer(
            xray.scatterer(f"{element}{i + 1}", site=site, u=u_iso, scattering_type=element)
        )
    return structure


def with_elements(structure: xray.structure, elements) -> xray.structure:
    """Copy with other elements on the same sites, occupancies 1."""
    result = xray.structure(special_position_settings=structure)
    for i, (scatterer, element) in enumerate(zip(structure.scatterers(), elements, strict=True)):
        result.add_scatterer(
            scatterer.customized_copy(
                label=f"{element}{i + 1}", scattering_type=element, occupancy=1.0
            )
        )
    return result


def without_atoms(structure: xray.structure, unwanted) -> xray.structure:
    """Copy without the scatterers listed by index."""
    unwanted = set(unwanted)
    keep = [i for i in range(structure.scatterers().size()) if i not in unwanted]
    return structure.select(flex.size_t(keep))
