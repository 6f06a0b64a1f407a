"""A refined structure to a CIF with the items of the core dictionary.

What a structure report needs (S. R. Hall, F. H. Allen & I. D. Brown, Acta
Cryst. A47 (1991) 655), with the embedded .res and .hkl of SHELXL.
"""

from __future__ import annotations

import math
from pathlib import Path
from string import ascii_uppercase

from cctbx import adptbx, covariance, xray
from cctbx.eltbx import tiny_pse
from iotbx.cif import model
from scitbx import matrix

from phai_cctbx.building.disorder import parts
from phai_cctbx.io.atomic_file import write_text
from phai_cctbx.io.cif_geometry import geometry_loops
from phai_cctbx.io.cif_items import block_name, cell_items, symmetry_items, with_uncertainty
from phai_cctbx.io.composition import HYDROGEN
from phai_cctbx.io.shelx_header import cell_esds, header_numbers
from phai_cctbx.io.write_hkl import hkl_text
from phai_cctbx.io.write_res import res_text
from phai_cctbx.version import __version__

PROBES = {"xray": "x-ray", "electron": "electron", "neutron": "neutron"}
# Density in g cm^-3 = mass of the cell in u / volume in A^3 * this (1 / (N_A * 1e-24)).
DALTON_PER_CUBIC_ANGSTROM = 1.66053907
ZERO_CELSIUS = 273.15
_SOFTWARE = f"phai_cctbx {__version__}"
_WEIGHTS = "w=1/[\\s^2^(Fo^2^)+({a:.4f}P)^2^+{b:.4f}P] where P=(Fo^2^+2Fc^2^)/3"
_EXTINCTION = "Fc^*^=kFc[1+0.001xFc^2^\\l^3^/sin(2\\q)]^-1/4^"


def cif_text(
    data, solution, prepared=None, geometry: bool = True, name: str = "", extra_items=None
) -> str:
    """Return the text of the CIF.

    Parameters
    ----------
    data : CrystalData
    solution : Solution
        As for `write_res.res_text`; its ``covariance`` (smtbx, of the refined
        parameters of ``xray_structure``) gives the standard uncertainties.
    prepared : PreparedData, optional
        Merging statistics.
    geometry : bool
        Whether bond lengths and angles are listed.
    name : str
        Of the data block; the first word of the title where it is not given.
    extra_items : dict of str, optional
        Further items, or other values of those here.
    """
    structure = solution.xray_structure
    covariances = _Covariances(structure, getattr(solution, "covariance", None))
    esds = cell_esds(data.shelx_header or ())
    block = model.block()
    items = {
        "_audit_creation_method": _SOFTWARE,
        "_computing_structure_solution": _SOFTWARE,
        "_computing_structure_refinement": f"smtbx of cctbx, by {_SOFTWARE}",
        **_chemical_items(data, structure),
        **symmetry_items(structure.space_group()),
        **cell_items(structure.unit_cell(), esds),
        **_diffraction_items(data, prepared),
        **_refinement_items(data, solution),
        **(extra_items or {}),
    }
    for tag, value in items.items():
        block[tag] = value
    operators = model.loop(header=("_space_group_symop_id", "_space_group_symop_operation_xyz"))
    for i, operator in enumerate(structure.space_group(), start=1):
        operators.add_row((str(i), operator.as_xyz()))
    block.add_loop(operators)
    for loop in (
        _atom_types(structure),
        _atom_sites(structure, covariances, solution),
        _displacements(structure, covariances),
    ):
        if loop.n_rows():
            block.add_loop(loop)
    if geometry:
        for loop in geometry_loops(structure, covariances, esds, _parts(solution)):
            block.add_loop(loop)
    block["_shelx_res_file"] = _text_field(res_text(data, solution, hklf_line=_hklf_line(data)))
    if data.observations.sigmas() is not None:
        block["_shelx_hkl_file"] = _text_field(hkl_text(data.observations))
    cif = model.cif()
    cif[block_name(name or data.title)] = block
    return str(cif)


def write_cif(path, data, solution, prepared=None, geometry=True, extra_items=None) -> Path:
    """Write the CIF in one step, its data block named as the file; see `cif_text`."""
    text = cif_text(data, solution, prepared, geometry, Path(path).stem, extra_items)
    return write_text(path, text)


class _Covariances:
    """Variances of the parameters of a structure; 0 where they were not refined."""

    def __init__(self, structure: xray.structure, annotated):
        self.structure = structure
        self.parameter_map = structure.parameter_map()
        self.matrix = None if annotated is None else annotated.matrix
        if self.matrix is not None:
            n = self.parameter_map.n_parameters
            if self.matrix.size() != n * (n + 1) // 2:
                raise ValueError("the covariance matrix does not belong to this structure")
            self.diagonal = self.matrix.matrix_packed_u_diagonal()

    def site(self, i: int) -> tuple[float, ...]:
        """Return the variances of x, y, z."""
        return self._diagonal(self.parameter_map[i].site, 3)

    def occupancy(self, i: int) -> float:
        """Return the variance of the occupancy."""
        return self._diagonal(self.parameter_map[i].occupancy, 1)[0]

    def u_cif(self, i: int) -> tuple[float, ...]:
        """Return the variances of U11 U22 U33 U12 U13 U23."""
        factors = self.structure.unit_cell().u_star_to_u_cif_linear_map()
        variances = self._diagonal(self.parameter_map[i].u_aniso, 6)
        return tuple(v * f**2 for v, f in zip(variances, factors, strict=True))

    def u_equivalent(self, i: int) -> float:
        """Return the variance of U_iso or U_eq."""
        if self.matrix is None:
            return 0.0
        parameters = self.parameter_map[i]
        if parameters.u_iso >= 0:
            return self._diagonal(parameters.u_iso, 1)[0]
        if parameters.u_aniso < 0:
            return 0.0
        of_u_star = matrix.sqr(
            covariance.extract_covariance_matrix_for_u_aniso(
                i, self.matrix, self.parameter_map
            ).matrix_packed_u_as_symmetric()
        )
        form = matrix.row(self.structure.unit_cell().u_star_to_u_iso_linear_form())
        return (form * of_u_star).dot(form)

    def _diagonal(self, start: int, n: int) -> tuple[float, ...]:
        if self.matrix is None or start < 0:
            return (0.0,) * n
        return tuple(self.diagonal[start : start + n])


def _chemical_items(data, structure) -> dict[str, str]:
    """Return formula, mass, density and F(000) of the given composition, or else of the model."""
    given = not data.composition.source.startswith("estimated")
    contents = data.composition.unit_cell_contents if given else _model_contents(structure)
    z = data.z or structure.space_group().order_z()
    mass = sum(n * tiny_pse.table(element).weight() for element, n in contents.items())
    electrons = sum(n * tiny_pse.table(element).atomic_number() for element, n in contents.items())
    volume = structure.unit_cell().volume()
    items = {
        "_chemical_formula_sum": formula({e: n / z for e, n in contents.items()}),
        "_chemical_formula_weight": f"{mass / z:.2f}",
        "_cell_formula_units_Z": str(z),
        "_exptl_crystal_density_diffrn": f"{mass / volume * DALTON_PER_CUBIC_ANGSTROM:.3f}",
    }
    if data.radiation == "xray":
        items["_exptl_crystal_F_000"] = f"{electrons:.0f}"
    return items


def _model_contents(structure) -> dict[str, float]:
    contents: dict[str, float] = {}
    for scatterer in structure.scatterers():
        element = scatterer.element_symbol()
        element = HYDROGEN if element == "D" else element
        n = scatterer.occupancy * scatterer.multiplicity()
        contents[element] = contents.get(element, 0.0) + n
    return contents


def formula(contents: dict[str, float]) -> str:
    """Return a formula in the order of Hill (C, H, then the alphabet)."""
    first = [e for e in ("C", "H") if e in contents and "C" in contents]
    order = first + sorted(set(contents) - set(first))
    parts = []
    for element in order:
        n = round(contents[element], 2)
        parts.append(element if n == 1 else f"{element}{n:g}")
    return " ".join(parts)


def _diffraction_items(data, prepared) -> dict[str, str]:
    observations = data.observations
    items = {
        "_diffrn_radiation_probe": PROBES[data.radiation],
        "_diffrn_reflns_number": str(observations.size()),
        "_reflns_threshold_expression": "I > 2\\s(I)",
    }
    for axis, (low, high) in zip(
        "hkl", zip(*observations.min_max_indices(), strict=True), strict=True
    ):
        items[f"_diffrn_reflns_limit_{axis}_min"] = str(low)
        items[f"_diffrn_reflns_limit_{axis}_max"] = str(high)
    d_max, d_min = observations.d_max_min()
    if data.wavelength:
        items["_diffrn_radiation_wavelength"] = f"{data.wavelength:.5f}"
        for name, d in (("min", d_max), ("max", d_min)):
            sine = min(1.0, data.wavelength / (2 * d))
            items[f"_diffrn_reflns_theta_{name}"] = f"{math.degrees(math.asin(sine)):.3f}"
    items.update(_crystal_items(data.shelx_header or ()))
    if prepared is not None:
        statistics = prepared.statistics
        if statistics.r_int is not None:
            items["_diffrn_reflns_av_R_equivalents"] = f"{statistics.r_int:.4f}"
        items["_diffrn_measured_fraction_theta_max"] = f"{statistics.completeness:.3f}"
        items["_reflns_d_resolution_high"] = f"{statistics.d_min:.3f}"
        items["_reflns_d_resolution_low"] = f"{statistics.d_max:.3f}"
    return items


def _crystal_items(header) -> dict[str, str]:
    """Return temperature (TEMP) and crystal size (SIZE) where the .ins gives them."""
    items = {}
    temperature = header_numbers(header, "TEMP")
    if temperature:
        kelvin = f"{temperature[0] + ZERO_CELSIUS:.0f}"
        items["_cell_measurement_temperature"] = kelvin
        items["_diffrn_ambient_temperature"] = kelvin
    size = sorted(header_numbers(header, "SIZE"))
    if len(size) == 3:
        for part, value in zip(("min", "mid", "max"), size):
            items[f"_exptl_crystal_size_{part}"] = f"{value:g}"
    return items


# Attribute of a Solution, item of the core dictionary, format.
_REFINEMENT = (
    ("n_reflections", "_reflns_number_total", "d"),
    ("n_observed", "_reflns_number_gt", "d"),
    ("n_reflections", "_refine_ls_number_reflns", "d"),
    ("n_parameters", "_refine_ls_number_parameters", "d"),
    ("n_restraints", "_refine_ls_number_restraints", "d"),
    ("r1", "_refine_ls_R_factor_gt", ".4f"),
    ("r1_all", "_refine_ls_R_factor_all", ".4f"),
    ("wr2", "_refine_ls_wR_factor_ref", ".4f"),
    ("goof", "_refine_ls_goodness_of_fit_ref", ".3f"),
    ("max_shift_over_esd", "_refine_ls_shift/su_max", ".3f"),
    ("difference_peak", "_refine_diff_density_max", ".3f"),
    ("difference_hole", "_refine_diff_density_min", ".3f"),
    ("difference_rms", "_refine_diff_density_rms", ".3f"),
)


def _refinement_items(data, solution) -> dict[str, str]:
    if solution.r1 is None:
        return {}
    items = {
        "_refine_ls_structure_factor_coef": "Fsqd",
        "_refine_ls_matrix_type": "full",
        "_refine_ls_weighting_scheme": "calc",
        "_refine_ls_weighting_details": _WEIGHTS.format(
            a=solution.weighting[0], b=solution.weighting[1]
        ),
        "_atom_sites_solution_primary": "direct",
    }
    if _calculated(solution):
        items["_atom_sites_solution_hydrogens"] = "geom"
        items["_refine_ls_hydrogen_treatment"] = "constr"
    for name, tag, style in _REFINEMENT:
        value = getattr(solution, name, None)
        if value is not None and math.isfinite(value):
            items[tag] = format(value, style)
    extinction = getattr(solution, "extinction", None)
    if extinction is not None:
        esd = getattr(solution, "extinction_esd", None) or 0.0
        items["_refine_ls_extinction_method"] = _EXTINCTION
        items["_refine_ls_extinction_coef"] = with_uncertainty(extinction, esd**2, 5)
    else:
        items["_refine_ls_extinction_method"] = "none"
    items.update(_absolute_structure_items(getattr(solution, "absolute_structure", None)))
    details = _special_details(solution)
    if details:
        items["_refine_special_details"] = "\n" + "\n".join(details) + "\n"
    return items


def _special_details(solution) -> list[str]:
    """Return what is to be said of a twin and of disordered groups."""
    details = []
    twin = getattr(solution, "twin", None)
    if twin is not None:
        share = with_uncertainty(twin.fraction, (twin.esd or 0.0) ** 2, 4)
        details.append(
            f"Refined as a twin: reflections {twin.as_hkl} of a second domain, share {share}."
        )
    for group in getattr(solution, "disorder", ()):
        first, second = (" ".join(labels) for labels in group.labels(solution.xray_structure))
        esd = group.esd if math.isfinite(group.esd) else 0.0
        occupancy = with_uncertainty(group.occupancy, esd**2, 4)
        details += [
            f"Disordered over two parts: {first}, occupancy {occupancy},",
            f"and {second}; distances restrained to be the same,",
            "atoms of the second part isotropic with U(eq) of the first.",
        ]
    return details


def _absolute_structure_items(absolute) -> dict[str, str]:
    """Return x with its standard uncertainty, and all estimates of it in words."""
    if absolute is None:
        return {}
    x, esd, method = absolute.x
    estimates = [
        f"{name} {with_uncertainty(value, uncertainty**2, 3)}"
        for name, value, uncertainty in (
            ("x refined", absolute.flack, absolute.flack_esd),
            ("Parsons z", absolute.parsons, absolute.parsons_esd),
            ("Hooft y", absolute.hooft, absolute.hooft_esd),
        )
        if math.isfinite(uncertainty)
    ]
    items = {
        "_refine_ls_abs_structure_details": (
            f"\n{method[0].upper()}{method[1:]}.\n{absolute.n_pairs} Friedel pairs,"
            f" {', '.join(estimates)}.\n"
        )
    }
    if math.isfinite(esd):
        items["_refine_ls_abs_structure_Flack"] = with_uncertainty(x, esd**2, 3)
    return items


def _calculated(solution) -> frozenset[int]:
    """Return the scatterers whose sites ride on others."""
    return frozenset(
        i
        for group in getattr(solution, "riding", ())
        if group.kind != "free"
        for i in group.hydrogens
    )


def _atom_types(structure):
    loop = model.loop(
        header=(
            "_atom_type_symbol",
            "_atom_type_scat_dispersion_real",
            "_atom_type_scat_dispersion_imag",
        )
    )
    seen = {}
    for scatterer in structure.scatterers():
        seen.setdefault(scatterer.element_symbol(), (scatterer.fp, scatterer.fdp))
    for symbol, (fp, fdp) in sorted(seen.items()):
        loop.add_row((symbol, f"{fp:.4f}", f"{fdp:.4f}"))
    return loop


def _parts(solution) -> list[int]:
    """Return the SHELX PART of each scatterer."""
    disorder = getattr(solution, "disorder", ())
    return parts(solution.xray_structure.scatterers().size(), disorder)


def _atom_sites(structure, covariances, solution):
    calculated = _calculated(solution)
    disorder = getattr(solution, "disorder", ())
    place = {
        i: (ascii_uppercase[k], number)
        for k, group in enumerate(disorder)
        for number, members in (("1", group.first), ("2", group.second))
        for i in members
    }
    loop = model.loop(
        header=(
            "_atom_site_label",
            "_atom_site_type_symbol",
            "_atom_site_fract_x",
            "_atom_site_fract_y",
            "_atom_site_fract_z",
            "_atom_site_U_iso_or_equiv",
            "_atom_site_adp_type",
            "_atom_site_occupancy",
            "_atom_site_symmetry_multiplicity",
            "_atom_site_calc_flag",
            *(("_atom_site_disorder_assembly", "_atom_site_disorder_group") if disorder else ()),
        )
    )
    unit_cell = structure.unit_cell()
    for i, scatterer in enumerate(structure.scatterers()):
        rides = i in calculated
        variances = (0.0,) * 3 if rides else covariances.site(i)
        u = scatterer.u_iso_or_equiv(unit_cell)
        u_variance = 0.0 if rides else covariances.u_equivalent(i)
        occupancy = covariances.occupancy(i)
        loop.add_row(
            (
                scatterer.label,
                scatterer.element_symbol(),
                *(with_uncertainty(x, v, 6) for x, v in zip(scatterer.site, variances)),
                with_uncertainty(u, u_variance, 5),
                "Uani" if scatterer.flags.use_u_aniso() else "Uiso",
                with_uncertainty(scatterer.occupancy, occupancy, 4)
                if occupancy
                else f"{scatterer.occupancy:g}",
                str(scatterer.multiplicity()),
                "calc" if rides else "d",
                *(place.get(i, (".", ".")) if disorder else ()),
            )
        )
    return loop


def _displacements(structure, covariances):
    parts = ("11", "22", "33", "12", "13", "23")
    loop = model.loop(
        header=("_atom_site_aniso_label", *(f"_atom_site_aniso_U_{part}" for part in parts))
    )
    for i, scatterer in enumerate(structure.scatterers()):
        if scatterer.flags.use_u_aniso():
            u_cif = adptbx.u_star_as_u_cif(structure.unit_cell(), scatterer.u_star)
            variances = covariances.u_cif(i)
            loop.add_row(
                (
                    scatterer.label,
                    *(with_uncertainty(u, v, 6) for u, v in zip(u_cif, variances)),
                )
            )
    return loop


def _hklf_line(data) -> str:
    """Return the instruction that reads the embedded .hkl, whose indices are those of the cell."""
    return f"HKLF {3 if data.observations.is_xray_amplitude_array() else 4}"


def _text_field(text: str) -> str:
    """Return `text` so that it can stand in a CIF: ASCII, and no line starts with a semicolon."""
    text = text.encode("ascii", "replace").decode("ascii")
    return (
        "\n"
        + "\n".join(" " + line if line.startswith(";") else line for line in text.splitlines())
        + "\n"
    )
