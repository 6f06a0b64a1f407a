"""What stands in the crystallographic result files, for a built structure and for phases alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# cctbx
from cctbx import miller, sgtbx, xray
from cctbx.array_family import flex

from phai_cctbx.building.fragment_placement import OVERLAP, PlacedFragment
from phai_cctbx.building.peaks import find_peaks
from phai_cctbx.io.write_cif import write_cif
from phai_cctbx.io.write_fcf import write_fcf
from phai_cctbx.io.write_map import write_map
from phai_cctbx.io.write_mtz import write_mtz
from phai_cctbx.io.write_res import write_res
from phai_cctbx.refinement.completion import expected_atoms
from phai_cctbx.refinement.maps import (
    difference_coefficients,
    friedel_average,
    observed_coefficients,
)

#: Difference peaks that follow the atoms in a .res.
N_DIFFERENCE_PEAKS = 20
#: Displacement parameter (A^2) of the point-like atoms that stand for the peaks of a map.
U_PEAK = 0.05


def write_structure(paths, data, prepared, phasing, solution, items=None, remarks=()) -> None:
    """Write .res, .cif, .fcf, .mtz and .ccp4 of a built structure.

    Parameters
    ----------
    paths : dict of str to path
        Extension -> file.
    data : CrystalData
    prepared : PreparedData
    phasing : PhasingResult
    solution : Solution
    items : dict of str, optional
        Further CIF items.
    remarks : sequence of str
        REM lines of the .res.
    """
    refinement = solution.refinement
    f_sq = refinement.f_sq
    difference = difference_coefficients(refinement, f_sq)
    observed = observed_coefficients(refinement)
    peaks = find_peaks(difference, N_DIFFERENCE_PEAKS)
    write_res(
        paths["res"],
        data,
        solution,
        peaks=list(zip(peaks.sites, peaks.heights)),
        remarks=remarks,
    )
    write_cif(paths["cif"], data, solution, prepared, extra_items=items)
    _write_reflections(
        paths,
        data,
        prepared,
        phasing,
        f_sq,
        refinement.fc_sq,
        solution.scale_factor,
        f_calc=friedel_average(refinement.f_calc),
        map_coefficients=observed,
        difference_coefficients=difference,
    )
    write_map(paths["ccp4"], observed, label="F(obs) with the phases of the refined structure")


@dataclass(frozen=True)
class PeakStructure:
    """The peaks of a phased map, and the fragments that it shows: nothing refined.

    Attributes
    ----------
    xray_structure : xray.structure
        The atoms of the fragments, none where none is placed.
    peaks : list of (site, height)
        Those that are no atom of a fragment; fractional, and in electrons per A^3; highest first.
    sigma : float
        Root mean square of the map, electrons per A^3.
    n_expected : int
        Non-hydrogen atoms of the asymmetric unit by the composition.
    fc_sq : miller.array
        Intensities of point-like carbon atoms on the peaks, weighted by their heights.
    scale_factor : float
        F_obs^2 = scale_factor * fc_sq.
    fragments : tuple of PlacedFragment
        Their atoms follow one another in `xray_structure`.
    r1 : None
    weighting : tuple of 2 floats
        SHELXL's own, to begin with.
    """

    xray_structure: xray.structure
    peaks: list
    sigma: float
    n_expected: int
    fc_sq: miller.array
    scale_factor: float
    fragments: tuple[PlacedFragment, ...] = ()
    r1: None = None
    weighting: tuple[float, float] = (0.1, 0.0)

    def summary(self) -> list[dict]:
        """The peaks for the .json file."""
        return [
            {"site": list(site), "height": height, "over_sigma": height / self.sigma}
            for site, height in self.peaks
        ]

    def labels(self, number: int) -> list[str]:
        """Labels of the atoms of a fragment."""
        begin = sum(len(each.elements) for each in self.fragments[:number])
        chosen = self.xray_structure.scatterers()[begin:][: len(self.fragments[number].elements)]
        return [scatterer.label for scatterer in chosen]

    def fragment_summary(self) -> list[dict]:
        """The fragments for the .json file."""
        return [
            {
                "name": each.name,
                "atoms": self.labels(number),
                "correlation": each.correlation,
                "significance": each.significance,
                "log_likelihood_gap": each.gap,
                "or_with_elements_of": list(each.rivals),
            }
            for number, each in enumerate(self.fragments)
        ]

    def fragment_lines(self) -> list[str]:
        """The fragments in words, one line each."""
        return [
            f"{each.name}: {' '.join(self.labels(number))}, map correlation"
            f" {each.correlation:.2f}, {each.significance:.1f} deviations above chance"
            + (f"; or with the elements of {', '.join(each.rivals)}" if each.rivals else "")
            for number, each in enumerate(self.fragments)
        ]

    def not_determined(self, reason: str) -> str:
        """What a run without a structure leaves open, and what it gives instead."""
        placed = ""
        if self.fragments:
            n_atoms = sum(len(each.elements) for each in self.fragments)
            names = ", ".join(each.name for each in self.fragments)
            placed = (
                f" {n_atoms} atoms are those of fragments that stand out in the map ({names}); they"
                " are placed as they are, not refined."
            )
        return (
            f"No structure: {reason}. The result is the phases, their map (.mtz, .ccp4) and its"
            f" {len(self.peaks)} highest{' other' if placed else ''} peaks (Q in the .res),"
            f" {self.n_expected} atoms being expected.{placed} Which peak is which atom, bonds,"
            " hydrogens and displacements are not determined; where the molecule is known,"
            " molecule= places it."
        )


def peak_structure(prepared, phasing, composition, fragments=()) -> PeakStructure:
    """Positive peaks of the map of F(obs), phases and confidence, at most as many as there are
    atoms expected, but for those of fragments.

    Parameters
    ----------
    prepared : PreparedData
    phasing : PhasingResult
    composition : dict of str to float
        Element -> atoms per unit cell: how many peaks.
    fragments : sequence of PlacedFragment
    """
    coefficients = phased_map(prepared, phasing)
    n_peaks = expected_atoms(prepared.f_obs.crystal_symmetry(), composition)
    peaks = find_peaks(coefficients, n_peaks)
    atoms = fragment_atoms(prepared.f_obs.crystal_symmetry(), fragments)
    structure = atoms.deep_copy_scatterers()
    positive = [
        (site, h)
        for site, h in zip(peaks.sites, peaks.heights)
        if h > 0 and not _is_near(site, atoms)
    ]
    typical = np.median([height for _, height in positive]) if positive else 1.0
    for i, (site, height) in enumerate(positive):
        structure.add_scatterer(
            xray.scatterer(
                f"Q{i + 1}", site=site, u=U_PEAK, occupancy=height / typical, scattering_type="C"
            )
        )
    f_sq = prepared.f_sq.map_to_asu()
    fc_sq = f_sq.structure_factors_from_scatterers(structure, algorithm="direct").f_calc().norm()
    fo, fc = f_sq.data(), fc_sq.data()
    return PeakStructure(
        xray_structure=atoms,
        fragments=tuple(fragments),
        peaks=positive,
        sigma=peaks.sigma,
        n_expected=n_peaks,
        fc_sq=fc_sq,
        scale_factor=flex.sum(fo * fc) / max(flex.sum(fc * fc), 1e-12),
    )


def fragment_atoms(crystal_symmetry, fragments) -> xray.structure:
    """The atoms of fragments, numbered by element."""
    structure = xray.structure(crystal_symmetry=crystal_symmetry)
    counts: dict[str, int] = {}
    for fragment in fragments:
        for element, site in zip(fragment.elements, fragment.sites, strict=True):
            counts[element] = counts.get(element, 0) + 1
            structure.add_scatterer(
                xray.scatterer(
                    f"{element}{counts[element]}",
                    site=structure.unit_cell().fractionalize(tuple(site)),
                    u=fragment.placement.u_iso,
                    scattering_type=element,
                )
            )
    return structure


def _is_near(site, atoms) -> bool:
    """True where an atom or an image of it claims a peak."""
    equivalents = sgtbx.sym_equiv_sites(atoms.space_group(), site, atoms.unit_cell())
    return any(
        sgtbx.min_sym_equiv_distance_info(equivalents, other).dist() < OVERLAP
        for other in atoms.sites_frac()
    )


def phased_map(prepared, phasing) -> miller.array:
    """Map coefficients: F(obs) times confidence with the phases, on the Wilson scale."""
    f_phased = phasing.f_phased
    scale = 1 / np.sqrt(prepared.wilson_scale)
    return f_phased.customized_copy(data=f_phased.data() * (phasing.confidence.data() * scale))


def write_phases(paths, data, prepared, phasing, trial: PeakStructure) -> None:
    """Write .res, .cif, .fcf, .mtz and .ccp4 of phases without a structure.

    The .res holds the peaks as Q, the .fcf compares with these peaks as point atoms; atoms of
    fragments stand in all of them, the .cif has no others. `trial` holds the peaks, the other
    parameters are as in `write_structure`.
    """
    coefficients = phased_map(prepared, phasing)
    write_res(paths["res"], data, trial, peaks=trial.peaks, remarks=trial.fragment_lines())
    write_cif(paths["cif"], data, trial, prepared)
    _write_reflections(
        paths,
        data,
        prepared,
        phasing,
        prepared.f_sq.map_to_asu(),
        trial.fc_sq,
        trial.scale_factor,
        map_coefficients=coefficients,
    )
    write_map(paths["ccp4"], coefficients, label="F(obs) times confidence, phases by phai_cctbx")


def _write_reflections(paths, data, prepared, phasing, f_sq, fc_sq, scale_factor, **coefficients):
    """Write .fcf and .mtz: observed and calculated intensities, phases, map coefficients."""
    write_fcf(paths["fcf"], data.title, f_sq, fc_sq, scale_factor, data.wavelength)
    write_mtz(
        paths["mtz"],
        data.title,
        data.wavelength,
        f_sq=prepared.f_sq,
        f_obs=prepared.f_obs,
        f_phased=phasing.f_phased,
        confidence=phasing.confidence,
        **coefficients,
    )
