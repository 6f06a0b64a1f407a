"""Observed and calculated intensities to an .fcf file, as SHELXL's LIST 4."""

from __future__ import annotations

from pathlib import Path

from cctbx import miller
from iotbx.cif import model

from phai_cctbx.io.atomic_file import write_text
from phai_cctbx.io.cif_items import block_name, cell_items, symmetry_items

# Reflections above this many sigmas carry the status "o", the others "<".
OBSERVED = 2.0


def fcf_text(
    title: str,
    f_sq: miller.array,
    fc_sq: miller.array,
    scale_factor: float = 1.0,
    wavelength: float | None = None,
) -> str:
    """Return the text of an .fcf file.

    Parameters
    ----------
    title : str
    f_sq : miller.array
        Merged observed intensities with sigmas.
    fc_sq : miller.array
        Calculated intensities on the absolute scale.
    scale_factor : float
        f_sq = scale_factor * fc_sq; the file is on the absolute scale.
    wavelength : float, optional
        In A.
    """
    # Both in one asymmetric unit, so that each finds its partner whatever its indices.
    observed, calculated = f_sq.map_to_asu().common_sets(fc_sq.map_to_asu())
    block = model.block()
    block["_shelx_refln_list_code"] = "4"
    block["_audit_creation_method"] = "phai_cctbx"
    for tag, value in {
        **symmetry_items(f_sq.space_group()),
        **cell_items(f_sq.unit_cell()),
    }.items():
        block[tag] = value
    if wavelength:
        block["_diffrn_radiation_wavelength"] = f"{wavelength:.5f}"
    operators = model.loop(header=("_space_group_symop_operation_xyz",))
    for operator in f_sq.space_group():
        operators.add_row((operator.as_xyz(),))
    block.add_loop(operators)
    loop = model.loop(
        header=(
            "_refln_index_h",
            "_refln_index_k",
            "_refln_index_l",
            "_refln_F_squared_calc",
            "_refln_F_squared_meas",
            "_refln_F_squared_sigma",
            "_refln_observed_status",
        )
    )
    for h, fc, fo, sigma in zip(
        observed.indices(), calculated.data(), observed.data(), observed.sigmas(), strict=True
    ):
        loop.add_row(
            (
                *(str(index) for index in h),
                f"{fc:.7g}",
                f"{fo / scale_factor:.7g}",
                f"{sigma / scale_factor:.7g}",
                "o" if fo > OBSERVED * sigma else "<",
            )
        )
    block.add_loop(loop)
    cif = model.cif()
    cif[block_name(title)] = block
    return str(cif)


def write_fcf(path, title, f_sq, fc_sq, scale_factor=1.0, wavelength=None) -> Path:
    """Write the .fcf file in one step; see `fcf_text`."""
    return write_text(path, fcf_text(title, f_sq, fc_sq, scale_factor, wavelength))
