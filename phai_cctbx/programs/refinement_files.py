"""Result files of a refinement with spherical or aspherical scatterers."""

from __future__ import annotations

from dataclasses import dataclass

# cctbx
from cctbx import xray

from phai_cctbx.aspherical.deformation import deformation_coefficients, draw_section
from phai_cctbx.aspherical.molecules import orthogonalization
from phai_cctbx.aspherical.residual_density import ResidualDensity
from phai_cctbx.aspherical.tables import spherical_table, write_tsc
from phai_cctbx.building.peaks import find_peaks
from phai_cctbx.io.write_cif import write_cif
from phai_cctbx.io.write_fcf import write_fcf
from phai_cctbx.io.write_map import write_map
from phai_cctbx.io.write_mtz import write_mtz
from phai_cctbx.io.write_res import write_res
from phai_cctbx.refinement.least_squares import RefinementResult
from phai_cctbx.refinement.maps import difference_coefficients
from phai_cctbx.version import __version__

#: Difference peaks that follow the atoms in the .res.
N_DIFFERENCE_PEAKS = 20


@dataclass(frozen=True)
class RefinedStructure:
    """A refinement as the writers of .res and .cif take it."""

    refinement: RefinementResult
    residual: ResidualDensity
    max_shift_over_esd: float

    def __getattr__(self, name):
        return getattr(self.refinement, name)

    @property
    def xray_structure(self) -> xray.structure:
        """The refined structure."""
        return self.refinement.xray_structure

    @property
    def weighting(self) -> tuple[float, float]:
        """a and b of the SHELXL weights."""
        return self.refinement.weighting.a, self.refinement.weighting.b

    @property
    def difference_peak(self) -> float:
        """e/A^3."""
        return self.residual.peak

    @property
    def difference_hole(self) -> float:
        """e/A^3."""
        return self.residual.hole

    @property
    def difference_rms(self) -> float:
        """e/A^3."""
        return self.residual.rms


def write_refinement(paths, data, prepared, refined: RefinedStructure, table=None, items=None):
    """Write the files of a refinement.

    Parameters
    ----------
    paths : dict of str to path
        Extension -> file; the picture and map of the deformation density where they are named.
    data : CrystalData
    prepared : PreparedData
    refined : RefinedStructure
    table : FormFactorTable, optional
        Aspherical form factors.
    items : dict of str, optional
        CIF items on the scatterers.
    """
    refinement = refined.refinement
    f_sq = prepared.f_sq.map_to_asu()
    difference = difference_coefficients(refinement, f_sq)
    f_calc = refinement.f_calc
    observed = f_calc.customized_copy(data=f_calc.data() + difference.data())
    peaks = find_peaks(difference, N_DIFFERENCE_PEAKS)
    remarks = []
    if table is not None:
        remarks.append(f"aspherical scatterers: {table.title}"[:72])
    write_res(
        paths["res"], data, refined, list(zip(peaks.sites, peaks.heights, strict=True)), remarks
    )
    write_cif(paths["cif"], data, refined, prepared, extra_items=items)
    write_fcf(
        paths["fcf"], data.title, f_sq, refinement.fc_sq, refinement.scale_factor, data.wavelength
    )
    write_mtz(
        paths["mtz"],
        data.title,
        data.wavelength,
        f_sq=f_sq,
        f_calc=f_calc,
        map_coefficients=observed,
        difference_coefficients=difference,
    )
    write_map(paths["ccp4"], difference, label="F(obs) - F(calc), residual density")
    if table is not None:
        write_aspherical(paths, refinement, f_sq, table)


def write_aspherical(paths, refinement: RefinementResult, f_sq, table) -> None:
    """Write the table of form factors, and map and picture of the deformation density.

    Parameters
    ----------
    paths : dict of str to path
        Extension -> file.
    refinement : RefinementResult
    f_sq : miller.array
        The intensities it was refined against.
    table : FormFactorTable
    """
    structure = refinement.xray_structure
    write_tsc(paths["tsc"], table)
    spherical = spherical_table(structure, f_sq.indices())
    deformation = deformation_coefficients(structure, table, spherical, f_sq.set())
    write_map(paths["deformation.ccp4"], deformation, label="dynamic deformation density, e/A^3")
    draw_section(paths["deformation.png"], deformation, structure, plane_atoms(structure))


def plane_atoms(structure: xray.structure):
    """Cartesian positions of the bonded atom with the most neighbours and two of these."""
    from phai_cctbx.building.connectivity import HYDROGENS, bonds, element_of

    neighbours = bonds(structure)
    scatterers = structure.scatterers()
    matrix = orthogonalization(structure)

    def rank(i):
        heavy = [n for n in neighbours[i] if element_of(scatterers[n.index]) not in HYDROGENS]
        return (len(heavy) == 3, min(len(neighbours[i]), 3), len(heavy))

    centre = max(range(scatterers.size()), key=rank)
    sites = structure.sites_frac()
    near = sorted(
        neighbours[centre],
        key=lambda n: (element_of(scatterers[n.index]) in HYDROGENS, n.distance),
    )
    positions = [matrix @ sites[centre]]
    positions += [matrix @ (n.operator * sites[n.index]) for n in near[:2]]
    while len(positions) < 3:
        positions.append(positions[0] + matrix[:, len(positions) % 3])
    return positions


def aspherical_items(result, quantum) -> dict[str, str]:
    """CIF items on non-spherical scatterers, which checkCIF and referees ask for.

    Parameters
    ----------
    result : HirshfeldResult
    quantum : Quantum
    """
    method = quantum.method
    cluster = result.cluster_radius
    surroundings = (
        f"point charges and dipoles of all molecules within {cluster:g} A, self-consistent"
        if cluster
        else "isolated molecules"
    )
    relativity = "scalar X2C" if method.relativity == "x2c" else "none (ECP from Rb on)"
    treatment = (
        "restraints to the\ngeometry of the molecule, hydrogens riding at internuclear distances, "
        "form factors fixed to its frame."
        if result.fixed
        else "all atomic positions,\nhydrogen included, refined without geometrical constraints "
        "unless listed; X-H distances are those\nbetween nuclei."
    )
    return {
        "_aspheric_ffs.source": "quantum chemistry, calculated for this structure",
        "_aspheric_ffs_partitioning.name": "Hirshfeld",
        "_aspheric_ffs_partitioning.software": f"phai_cctbx {__version__}",
        "_wfns.software": "PySCF",
        "_wfns.method": method.method,
        "_wfns.basis_set": method.basis,
        "_wfns.relativistic_treatment": relativity,
        "_computing_structure_refinement": f"smtbx of cctbx and PySCF, by phai_cctbx {__version__}",
        "_refine_special_details": (
            "\nRefinement with aspherical atomic form factors (Hirshfeld atom refinement) and "
            "not with\nthe independent atom model. Form factors: Hirshfeld partition of the "
            f"electron density\nof {', '.join(result.molecules)} at "
            f"{method.description()},\nBecke grid level {method.grid_level}; crystal field: "
            f"{surroundings}.\nModel: {treatment}\n{len(result.cycles)} cycles of calculation and "
            "refinement, "
            f"{'converged' if result.converged else 'NOT converged'}.\n"
        ),
    }
