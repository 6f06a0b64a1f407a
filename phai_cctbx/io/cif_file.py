"""CIF and .fcf: symmetry, observations and composition of one crystal.

Item names are those of the core CIF dictionary (DDL1 and DDLm spelling alike),
with the embedded files of SHELXL and Olex2.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np

from cctbx import crystal, sgtbx, uctbx

from phai_cctbx.io import composition
from phai_cctbx.io.cif_syntax import CifBlock, parse_cif
from phai_cctbx.io.crystal_data import Composition
from phai_cctbx.io.hkl_file import parse_hkl
from phai_cctbx.io.reflections import Reflections
from phai_cctbx.io.shelx_instructions import ShelxInstructions, parse_instructions
from phai_cctbx.io.text_file import bad_input

_CELL = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
_SYMOPS = (
    "_space_group_symop_operation_xyz",
    "_symmetry_equiv_pos_as_xyz",
    "_symmetry_equiv_as_xyz",
)
_HALL = ("_space_group_name_hall", "_symmetry_space_group_name_hall")
_HERMANN_MAUGUIN = (
    "_space_group_name_h-m_alt",
    "_space_group_name_h-m_full",
    "_symmetry_space_group_name_h-m",
    "_space_group_name_h-m_ref",
)
_GROUP_NUMBER = ("_space_group_it_number", "_symmetry_int_tables_number")
_HKL_TEXT = (
    "_shelx_hkl_file",
    "_shelxl_hkl_file",
    "_iucr_refine_reflections_details",
    "_iucr_refine_reflection_details",
)
_RES_TEXT = ("_shelx_res_file", "_shelxl_res_file", "_iucr_refine_instructions_details")
# Observed value, its standard uncertainty, and whether it is an amplitude; best first.
_OBSERVED = (
    ("_refln_f_squared_meas", ("_refln_f_squared_sigma", "_refln_f_squared_meas_su"), False),
    ("_refln_intensity_meas", ("_refln_intensity_sigma", "_refln_intensity_meas_su"), False),
    ("_refln_f_meas", ("_refln_f_sigma", "_refln_f_meas_sigma", "_refln_f_meas_su"), True),
    ("_refln_f_meas_au", ("_refln_f_meas_sigma_au", "_refln_f_sigma"), True),
    (
        "_diffrn_refln_intensity_net",
        (
            "_diffrn_refln_intensity_sigma",
            "_diffrn_refln_intensity_net_su",
            "_diffrn_refln_intensity_u",
        ),
        False,
    ),
)
_STATUS = ("_refln_include_status", "_refln_observed_status", "_refln_status")
UNRELIABLE = "x"

_NUMBER = re.compile(r"([-+]?\d*\.?\d+(?:[eEdD][-+]?\d+)?|[-+]?\d+\.)(?:\((\d+)\))?$")


@dataclass
class CifContents:
    """What a CIF says of a crystal; `reflections` is None where it holds none."""

    title: str
    crystal_symmetry: crystal.symmetry
    reflections: Reflections | None
    composition: Composition | None
    composition_line: int | None
    z: int | None
    wavelength: float | None
    radiation: str | None
    instructions: ShelxInstructions | None
    notes: list[str]


def parse_crystal(text: str, source) -> CifContents:
    """Return what a CIF says of the one crystal in it.

    Raises
    ------
    Sorry
        If cell or space group are absent or wrong, or if several data blocks
        hold reflections.
    """
    blocks = parse_cif(text, source)
    with_cell = [block for block in blocks if block.value("_cell_length_a")]
    if not with_cell:
        raise bad_input(
            source,
            f"no cell (_cell_length_a) in {_names(blocks)}",
            "Add the cell, or give an .ins with this file as hkl=",
        )
    data = [block for block in blocks if _has_reflections(block)]
    if len(data) > 1:
        raise bad_input(
            source,
            f"{len(data)} data blocks with reflections ({_names(data)})",
            "Keep the one to use in a file of its own",
            data[1].line,
        )
    model = data[0] if data and data[0] in with_cell else with_cell[0]
    if not data and len(with_cell) > 1 or data and model is not data[0] and len(with_cell) > 1:
        raise bad_input(
            source,
            f"{len(with_cell)} data blocks with a cell ({_names(with_cell)})",
            "Keep the one to use in a file of its own",
            with_cell[1].line,
        )
    notes: list[str] = []
    symmetry = crystal_symmetry(model, source)
    instructions = _embedded_instructions(model, source)
    reflections = read_reflections(data[0], source, instructions) if data else None
    wavelength = _wavelength(model, source)
    z = _z(model, source)
    contents, line = _composition(model, source, symmetry, z, notes)
    name = model.value("_chemical_name_common")
    return CifContents(
        title=name[0].strip() if name else model.name[len("data_") :],
        crystal_symmetry=symmetry,
        reflections=reflections,
        composition=contents,
        composition_line=line,
        z=z,
        wavelength=wavelength,
        radiation=_radiation(model),
        instructions=instructions,
        notes=notes,
    )


def parse_reflections(text: str, source) -> tuple[Reflections, crystal.symmetry | None]:
    """Return the only reflection list of a CIF, and the symmetry where the file gives a cell."""
    blocks = parse_cif(text, source)
    data = [block for block in blocks if _has_reflections(block)]
    if len(data) != 1:
        raise bad_input(
            source,
            f"{len(data)} data blocks with reflections ({_names(data or blocks)})",
            "Give a file with one list of reflections",
            data[1].line if data else None,
        )
    block = data[0]
    symmetry = crystal_symmetry(block, source) if block.value("_cell_length_a") else None
    instructions = _embedded_instructions(block, source)
    return read_reflections(block, source, instructions), symmetry


def _names(blocks):
    return ", ".join(f"{block.name}, line {block.line}" for block in blocks)


def _has_reflections(block: CifBlock) -> bool:
    return any(block.value(tag) for tag in _HKL_TEXT) or any(
        block.column(tag) for tag, _, _ in _OBSERVED
    )


def number(text: str) -> float | None:
    """Return a CIF number such as ``12.3(4)`` without its uncertainty, or None."""
    match = _NUMBER.match(text.strip())
    if not match:
        return None
    value = float(match.group(1).replace("d", "e").replace("D", "e"))
    return value if math.isfinite(value) else None


def _required_number(block, tag, source, found):
    value = number(found[0])
    if value is None:
        raise bad_input(
            source,
            f"{tag} is {found[0].strip()[:60]!r}, not a number",
            "Write one number with a decimal point",
            found[1],
            block.name,
        )
    return value


def crystal_symmetry(block: CifBlock, source) -> crystal.symmetry:
    """Return cell and space group of a data block, in the setting of its operators."""
    parameters = []
    for part in _CELL:
        found = block.value(f"_cell_{part}")
        if found is None:
            raise bad_input(
                source, f"no _cell_{part}", "Add it to the data block", block.line, block.name
            )
        parameters.append(_required_number(block, f"_cell_{part}", source, found))
    line = block.lines["_cell_length_a"]
    try:
        unit_cell = uctbx.unit_cell(parameters)
    except ValueError as error:
        raise bad_input(
            source,
            f"{' '.join(f'{p:g}' for p in parameters)} is no unit cell"
            f" ({str(error).rstrip('.').lower()})",
            "Correct the cell constants, in A and degrees",
            line,
            block.name,
        ) from None
    space_group = _space_group(block, source)
    if not space_group.is_compatible_unit_cell(unit_cell):
        raise bad_input(
            source,
            f"the cell {' '.join(f'{p:g}' for p in parameters)} does not fit the space group"
            f" {sgtbx.space_group_info(group=space_group)}",
            "Correct the cell or the space group",
            line,
            block.name,
        )
    return crystal.symmetry(
        unit_cell=unit_cell, space_group=space_group, assert_is_compatible_unit_cell=False
    )


def _space_group(block, source):
    """Return the space group from operators, Hall symbol, name or number, in this order."""
    operators = block.column(*_SYMOPS)
    if operators and operators[0] not in ("?", "."):
        tag = next(tag for tag in _SYMOPS if tag in block.lines)
        group = sgtbx.space_group()
        for operator in operators:
            try:
                group.expand_smx(sgtbx.rt_mx(operator.strip()))
            except (ValueError, RuntimeError) as error:
                raise bad_input(
                    source,
                    f"the operator {operator.strip()!r} cannot be used"
                    f" ({str(error).splitlines()[0].rstrip('.:')})",
                    "Give an operator such as -x, y+1/2, -z+1/2",
                    block.lines[tag],
                    block.name,
                ) from None
        return group
    for tags in (_HALL, _HERMANN_MAUGUIN, _GROUP_NUMBER):
        found = block.value(*tags)
        if found is None:
            continue
        symbol = found[0].strip()
        try:
            if tags is _HALL:
                return sgtbx.space_group(symbol)
            return sgtbx.space_group_info(symbol).group()
        except (ValueError, RuntimeError):
            raise bad_input(
                source,
                f"the space group {symbol!r} is not known",
                "Correct it, or add the loop of _space_group_symop_operation_xyz",
                found[1],
                block.name,
            ) from None
    raise bad_input(
        source,
        "no space group (neither operators nor a symbol)",
        "Add the loop of _space_group_symop_operation_xyz",
        block.line,
        block.name,
    )


def _embedded_instructions(block, source):
    """Return the embedded .res, or None where there is none."""
    found = block.value(*_RES_TEXT)
    if found is None or "CELL" not in found[0].upper():
        return None
    return parse_instructions(found[0], source, first_line=found[1])


def read_reflections(block: CifBlock, source, instructions=None) -> Reflections:
    """Return the reflections of a data block: the embedded .hkl, or the loop."""
    found = block.value(*_HKL_TEXT)
    if found is not None:
        keywords = {}
        if instructions is not None:
            keywords = {
                "hklf": instructions.hklf,
                "scale": instructions.hklf_scale,
                "matrix": instructions.hklf_matrix,
                "sigma_scale": instructions.hklf_sigma_scale,
            }
        # The text starts after the semicolon, on the line that follows the tag.
        reflections = parse_hkl(found[0], source, first_line=found[1] + 1, **keywords)
        code = instructions.hklf if instructions is not None else "4 (assumed)"
        reflections.notes.append(f"{source}: embedded .hkl of {block.name}, HKLF {code}")
        return reflections
    return _loop_reflections(block, source)


def _loop_reflections(block, source):
    tag, sigma_tags, amplitudes = next(entry for entry in _OBSERVED if block.column(entry[0]))
    prefix = "_diffrn_refln" if tag.startswith("_diffrn") else "_refln"
    columns = [block.column(f"{prefix}_index_{axis}") for axis in "hkl"]
    values = block.column(tag)
    if any(column is None or len(column) != len(values) for column in columns):
        raise bad_input(
            source,
            f"{tag} without {prefix}_index_h, _k, _l in the same loop",
            "Complete the loop",
            block.lines[tag],
            block.name,
        )
    loop = block.loop_with(tag)
    lines = np.array(loop.row_lines) if loop else np.array([block.lines[tag]])
    indices = _integers(columns, lines, block, source)
    sigmas = block.column(*sigma_tags)
    if sigmas is not None and len(sigmas) != len(values):
        sigmas = None
    reflections = Reflections(
        source=str(source),
        indices=indices,
        values=_floats(values, tag, lines, block, source),
        sigmas=None if sigmas is None else _floats(sigmas, sigma_tags[0], lines, block, source),
        amplitudes=amplitudes,
        places=lines,
        notes=[f"{source}: {tag} of {block.name}"],
    )
    status = block.column(*_STATUS)
    if status is not None and len(status) == len(values):
        reliable = np.array([flag.strip().lower() != UNRELIABLE for flag in status])
        reflections = reflections.select(reliable, "marked as unreliable (status x)")
    reflections = reflections.select(~np.isnan(reflections.values), "no value (? or .)")
    if reflections.sigmas is not None and np.all(np.isnan(reflections.sigmas)):
        reflections.sigmas = None
    if reflections.sigmas is None:
        reflections.notes.append(f"{source}: no sigmas")
        return reflections
    return reflections.select(~np.isnan(reflections.sigmas), "no sigma (? or .)")


def _integers(columns, lines, block, source):
    try:
        return np.array([[int(text) for text in column] for column in columns]).T
    except (ValueError, OverflowError):
        for row in range(len(lines)):
            for axis, column in zip("hkl", columns, strict=True):
                if not re.fullmatch(r"[-+]?\d{1,6}", column[row].strip()):
                    raise bad_input(
                        source,
                        f"the index {axis} is {column[row].strip()[:60]!r}, not a whole number",
                        "Correct the reflection",
                        int(lines[row]),
                        block.name,
                    ) from None
        raise


def _floats(texts, tag, lines, block, source):
    """Return the numbers of a column; ``?`` and ``.`` become NaN."""
    values = np.empty(len(texts))
    for i, text in enumerate(texts):
        value = number(text)
        if value is None:
            if text.strip() not in ("?", "."):
                raise bad_input(
                    source,
                    f"{tag} is {text.strip()[:60]!r}, not a number",
                    "Correct the reflection",
                    int(lines[i]),
                    block.name,
                )
            value = math.nan
        values[i] = value
    return values


def _wavelength(block, source):
    found = block.value("_diffrn_radiation_wavelength", "_diffrn_radiation_wavelength_wavelength")
    if found is None:
        return None
    value = _required_number(block, "_diffrn_radiation_wavelength", source, found)
    if value <= 0:
        raise bad_input(
            source,
            f"the wavelength {value:g} is not positive",
            "Give it in A, e.g. 0.71073",
            found[1],
            block.name,
        )
    return value


def _radiation(block):
    """Return the radiation that the file names, or None."""
    found = block.value("_diffrn_radiation_probe") or block.value("_diffrn_radiation_type")
    text = found[0].lower() if found else ""
    for name in ("neutron", "electron"):
        if name in text:
            return name
    return "xray" if text else None


def _z(block, source):
    found = block.value("_cell_formula_units_z")
    if found is None:
        return None
    value = _required_number(block, "_cell_formula_units_z", source, found)
    if value < 1:
        raise bad_input(
            source, f"Z is {value:g}", "Correct _cell_formula_units_Z", found[1], block.name
        )
    return int(round(value))


def _composition(block, source, symmetry, z, notes):
    """Return the composition from formula and Z, with the line of the formula, or (None, None)."""
    found = block.value("_chemical_formula_sum", "_chemical_formula_moiety")
    if found is None:
        return None, None
    formula = composition.parse_formula(found[0])
    if formula is None:
        notes.append(f"{source}, line {found[1]}: the formula {found[0].strip()!r} is not readable")
        return None, None
    if z is None:
        n_heavy = sum(n for element, n in formula.items() if element != composition.HYDROGEN)
        volume = symmetry.unit_cell().volume()
        z = max(1, round(volume / (composition.VOLUME_PER_ATOM * max(n_heavy, 1))))
        notes.append(f"{source}: no _cell_formula_units_Z, {z} taken from the volume")
    contents = {element: n * z for element, n in formula.items()}
    return Composition(contents, "_chemical_formula_sum"), found[1]
