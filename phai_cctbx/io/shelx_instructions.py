"""SHELX instruction files (.ins, .res): what stands before the atoms, and HKLF.

Instruction names and their meaning are those of the SHELX-97 manual and of
G. M. Sheldrick, Acta Cryst. C71 (2015) 3-8.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

from cctbx import crystal, sgtbx, uctbx
from cctbx.eltbx import tiny_pse

from phai_cctbx.io.hkl_file import HKLF_AMPLITUDES, HKLF_INTENSITIES
from phai_cctbx.io.text_file import bad_input

_CENTRING = "*PIRFABC"
_N_LONG_SFAC = 15
# Element labels of a long SFAC instruction may carry a charge, e.g. FE3+.
_ELEMENT = re.compile(r"\$?([A-Za-z]{1,2})\d*[+-]?\d*$")
_ATOM_LINE = re.compile(r"[A-Za-z]\S{0,3}\s+\d+(\s+[-+\d.]+){3,}")
_INSTRUCTIONS = frozenset(
    """ABIN ACTA AFIX ANIS ANSC ANSR BASF BIND BLOC BOND BUMP CELL CGLS CHIV CONF CONN DAMP DANG
    DEFS DELU DFIX DISP EADP END EQIV EXTI EXYZ FEND FLAT FMAP FRAG FREE FVAR GRID HFIX HKLF HTAB
    ISOR LATT LAUE LIST L.S. MERG MOLE MORE MOVE MPLA NCSY NEUT OMIT PART PLAN PRIG REM RESI RIGU
    RTAB SADI SAME SFAC SHEL SIMU SIZE SPEC STIR SUMP SWAT SYMM TEMP TITL TREF TWIN TWST UNIT WGHT
    WIGL WPDB XNPD ZERR""".split()
)
# Instructions that a .res writer sets itself, or that name atoms that will not exist.
_NOT_KEPT = frozenset(
    """AFIX ANIS BASF BIND BLOC CHIV CONN DANG DELU DFIX EADP END EQIV EXYZ FEND FLAT FRAG FREE
    FVAR HFIX HKLF HTAB ISOR MOLE MOVE MPLA NCSY PART PRIG RESI RIGU RTAB SADI SAME SIMU SUMP
    TREF WGHT""".split()
)


@dataclass
class Instruction:
    """One instruction: upper-case name, arguments, its lines as written, and where it starts."""

    name: str
    arguments: list[str]
    lines: list[str]
    number: int


@dataclass
class ShelxInstructions:
    """What an .ins or .res file says before its atoms, and in HKLF.

    Attributes
    ----------
    source : str
    title : str
    crystal_symmetry : cctbx.crystal.symmetry
    wavelength : float or None
        In A; None where CELL gives 0.
    z : int or None
    elements : list of str
        In the order of SFAC.
    unit : list of float or None
        Atoms per cell, in the order of `elements`; None where UNIT is absent.
    unit_line, cell_line : int or None
    neutron : bool
        NEUT is given.
    hklf, hklf_scale, hklf_matrix, hklf_sigma_scale, hklf_line
        The HKLF instruction.
    header : tuple of str
        Lines to keep for a .res.
    notes : list of str
    """

    source: str
    title: str
    crystal_symmetry: crystal.symmetry
    wavelength: float | None
    z: int | None
    elements: list[str]
    unit: list[float] | None
    unit_line: int | None
    cell_line: int
    neutron: bool
    hklf: int
    hklf_scale: float
    hklf_matrix: tuple[float, ...] | None
    hklf_sigma_scale: float
    hklf_line: int
    header: tuple[str, ...]
    notes: list[str] = field(default_factory=list)


def parse_instructions(text: str, source, first_line: int = 1) -> ShelxInstructions:
    """Parse the text of an .ins or .res file.

    Raises
    ------
    Sorry
        If an instruction that is needed is absent or cannot be used.
    """
    instructions = list(_instructions(text, source, first_line))
    notes = []
    by_name: dict[str, list[Instruction]] = {}
    for instruction in instructions:
        by_name.setdefault(instruction.name, []).append(instruction)
    wavelength, unit_cell, cell_line = _cell(by_name, source)
    space_group = _space_group(by_name, source, notes)
    if not space_group.is_compatible_unit_cell(unit_cell):
        raise bad_input(
            source,
            f"the cell {_cell_text(unit_cell)} does not fit the space group"
            f" {sgtbx.space_group_info(group=space_group)} of LATT and SYMM",
            "Correct CELL, or LATT and SYMM",
            cell_line,
        )
    elements = _elements(by_name, source)
    unit, unit_line = _unit(by_name, elements, source)
    hklf, scale, matrix, sigma_scale, hklf_line = _hklf(by_name, source, instructions)
    for name in ("TWIN", "BASF"):
        if name in by_name:
            notes.append(
                f"{source}, line {by_name[name][0].number}: {name} is not used for phasing"
            )
    titles = by_name.get("TITL")
    return ShelxInstructions(
        source=str(source),
        title=" ".join(titles[0].arguments) if titles else "",
        crystal_symmetry=crystal.symmetry(
            unit_cell=unit_cell, space_group=space_group, assert_is_compatible_unit_cell=False
        ),
        wavelength=wavelength,
        z=_z(by_name, source),
        elements=elements,
        unit=unit,
        unit_line=unit_line,
        cell_line=cell_line,
        neutron="NEUT" in by_name,
        hklf=hklf,
        hklf_scale=scale,
        hklf_matrix=matrix,
        hklf_sigma_scale=sigma_scale,
        hklf_line=hklf_line,
        header=_header(instructions),
        notes=notes,
    )


def _instructions(text, source, first_line):
    """Yield the instructions of a file, continuation lines joined, up to HKLF.

    Atoms are yielded under the name ``"(atom)"``. Lines that start with a
    blank are comments, as in SHELX.
    """
    current = None
    continued = False
    for i, line in enumerate(text.splitlines()):
        number = first_line + i
        line = line.replace("\t", " ").rstrip()
        if continued:
            current.lines.append(line)
            content, continued = _content(line)
            current.arguments.extend(content.split())
            if not continued:
                yield current
            continue
        if not line or line[0].isspace() or line[0] in "!+":
            continue
        word = re.match(r"[^\s_!=]*", line).group().upper()
        if word in ("TITL", "REM") or word.startswith("REM"):
            word = "REM" if word.startswith("REM") else word
            yield Instruction(word, line[len(word) :].split(), [line], number)
            continue
        content, continued = _content(line)
        name = _name(word, content)
        if name is None:
            raise bad_input(
                source,
                f"{line[:60]!r} is neither a SHELX instruction nor an atom",
                "Correct or remove the line",
                number,
            )
        current = Instruction(name, content.split()[1:], [line], number)
        if not continued:
            yield current
            if name == "HKLF":
                return
    if continued:
        raise bad_input(
            source,
            "the file ends after a continuation mark (=)",
            "Copy or export it again",
            number,
        )


def _content(line):
    """Return the line without comment and continuation mark, and if it goes on."""
    content = line.split("!", 1)[0]
    if "=" in content:
        return content.split("=", 1)[0], True
    return content, False


def _name(word, content):
    if word in _INSTRUCTIONS:
        return word
    if word[:4] in _INSTRUCTIONS and not _ATOM_LINE.match(content):
        return word[:4]
    if _ATOM_LINE.match(content):
        return "(atom)"
    return None


def _numbers(instruction, source):
    """Return the arguments as finite floats."""
    values = []
    for argument in instruction.arguments:
        try:
            value = float(argument)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            hint = " (a decimal comma)" if re.fullmatch(r"[+-]?\d+,\d+", argument) else ""
            raise bad_input(
                source,
                f"{instruction.name} holds {argument!r}{hint}, not a number",
                "Write a number with a decimal point",
                instruction.number,
            )
        values.append(value)
    return values


def _cell(by_name, source):
    if "CELL" not in by_name:
        raise bad_input(source, "no CELL instruction", "Add CELL wavelength a b c alpha beta gamma")
    cell = by_name["CELL"][0]
    values = _numbers(cell, source)
    if len(values) != 7:
        raise bad_input(
            source,
            f"CELL has {len(values)} numbers where wavelength and six cell constants are needed",
            "Write CELL wavelength a b c alpha beta gamma",
            cell.number,
        )
    wavelength = values[0]
    if wavelength < 0:
        raise bad_input(
            source,
            f"the wavelength {wavelength:g} is negative",
            "Give it in A, e.g. 0.71073",
            cell.number,
        )
    try:
        unit_cell = uctbx.unit_cell(values[1:])
    except ValueError as error:
        raise bad_input(
            source,
            f"{_cell_text(values[1:])} is no unit cell ({str(error).rstrip('.').lower()})",
            "Correct the cell constants, in A and degrees",
            cell.number,
        ) from None
    return wavelength or None, unit_cell, cell.number


def _cell_text(unit_cell):
    parameters = unit_cell.parameters() if hasattr(unit_cell, "parameters") else unit_cell
    return " ".join(f"{value:g}" for value in parameters)


def _space_group(by_name, source, notes):
    """Return the space group of LATT and SYMM, in the setting of the file."""
    space_group = sgtbx.space_group()
    lattice = 1
    if "LATT" in by_name:
        latt = by_name["LATT"][0]
        values = _numbers(latt, source)
        lattice = int(values[0]) if len(values) == 1 else 0
        if not values or lattice != values[0] or not 1 <= abs(lattice) <= 7:
            raise bad_input(
                source,
                f"LATT {' '.join(latt.arguments)} is no lattice type",
                "Give 1 to 7 (P I R F A B C), negative where there is no centre of symmetry",
                latt.number,
            )
    else:
        notes.append(f"{source}: no LATT, so LATT 1 (primitive, centrosymmetric) as in SHELX")
    for symm in by_name.get("SYMM", ()):
        operator = "".join(symm.arguments)
        try:
            space_group.expand_smx(sgtbx.rt_mx(operator))
        except (ValueError, RuntimeError) as error:
            raise bad_input(
                source,
                f"SYMM {operator} cannot be used ({str(error).splitlines()[0].rstrip('.:')})",
                "Give an operator such as -X, 0.5+Y, 0.5-Z",
                symm.number,
            ) from None
    if lattice > 0:
        space_group.expand_inv(sgtbx.tr_vec((0, 0, 0)))
    space_group.expand_conventional_centring_type(_CENTRING[abs(lattice)])
    return space_group


def element_symbol(label: str) -> str | None:
    """Return the element of a scattering-factor label, or None; deuterium is given as H."""
    match = _ELEMENT.match(label)
    if not match:
        return None
    try:
        symbol = tiny_pse.table(match.group(1).capitalize(), True).symbol()
    except (RuntimeError, ValueError):
        return None
    return "H" if symbol in ("D", "T") else symbol


def _elements(by_name, source):
    elements = []
    for sfac in by_name.get("SFAC", ()):
        arguments = sfac.arguments
        labels = arguments
        if len(arguments) > 1 and re.match(r"[-+]?\.?\d", arguments[1]):
            if len(arguments) != _N_LONG_SFAC:
                raise bad_input(
                    source,
                    f"SFAC {arguments[0]} is followed by {len(arguments) - 1} numbers, not 14",
                    "Write SFAC label a1 b1 a2 b2 a3 b3 a4 b4 c f' f\" mu r wt",
                    sfac.number,
                )
            _numbers(Instruction("SFAC", arguments[1:], sfac.lines, sfac.number), source)
            labels = arguments[:1]
        for label in labels:
            element = element_symbol(label)
            if element is None:
                raise bad_input(
                    source,
                    f"SFAC names {label!r}, which is no chemical element",
                    "Correct the symbol",
                    sfac.number,
                )
            elements.append(element)
    return elements


def _unit(by_name, elements, source):
    if "UNIT" not in by_name:
        return None, None
    unit = by_name["UNIT"][0]
    values = _numbers(unit, source)
    if len(values) != len(elements):
        raise bad_input(
            source,
            f"UNIT has {len(values)} numbers, SFAC names {len(elements)} elements",
            "Give one number of atoms per cell for each element of SFAC",
            unit.number,
        )
    if any(value < 0 for value in values):
        raise bad_input(
            source, "UNIT has a negative number of atoms", "Correct the number", unit.number
        )
    return values, unit.number


def _z(by_name, source):
    if "ZERR" not in by_name:
        return None
    values = _numbers(by_name["ZERR"][0], source)
    return int(round(values[0])) if values and values[0] >= 1 else None


def _hklf(by_name, source, instructions):
    """Return code, scale, matrix, scale of sigma and line of the HKLF instruction."""
    if "HKLF" not in by_name:
        raise bad_input(
            source,
            "the file ends without an HKLF instruction",
            "Copy it again if it was cut, or add HKLF 4 (intensities) or HKLF 3 (amplitudes)",
            instructions[-1].number if instructions else 1,
        )
    hklf = by_name["HKLF"][0]
    values = _numbers(hklf, source)
    code = values[0] if values else 0
    if code not in (HKLF_AMPLITUDES, HKLF_INTENSITIES):
        twin = " (overlapping reflections of a twin)" if code in (5, 6) else ""
        raise bad_input(
            source,
            f"HKLF {' '.join(hklf.arguments[:1])}{twin} is not supported",
            "Export an HKLF 4 file" + (" of the detwinned data" if twin else ""),
            hklf.number,
        )
    scale = values[1] if len(values) > 1 else 1.0
    if scale <= 0:
        raise bad_input(
            source, f"the HKLF scale {scale:g} is not positive", "Correct it", hklf.number
        )
    matrix = None
    if len(values) > 2:
        if len(values) < 11:
            raise bad_input(
                source,
                f"the HKLF matrix has {len(values) - 2} of 9 elements",
                "Write HKLF code scale r11 r12 r13 r21 r22 r23 r31 r32 r33",
                hklf.number,
            )
        matrix = tuple(values[2:11])
        (a, b, c, d, e, f, g, h, i) = matrix
        determinant = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
        if determinant <= 1e-3:
            raise bad_input(
                source,
                f"the HKLF matrix has the determinant {determinant:g}",
                "Give a matrix with a positive determinant",
                hklf.number,
            )
    sigma_scale = values[11] if len(values) > 11 else 1.0
    return int(code), scale, matrix, sigma_scale or 1.0, hklf.number


def _header(instructions):
    """Return the lines before the first atom that a .res can keep, and HKLF on one line."""
    header = []
    before_atoms = True
    for instruction in instructions:
        if instruction.name == "HKLF":
            header.append(" ".join(["HKLF", *instruction.arguments]))
        before_atoms = before_atoms and instruction.name != "(atom)"
        if not before_atoms:
            continue
        if instruction.name == "OMIT" and not _is_number(instruction.arguments[:1]):
            continue
        if instruction.name not in _NOT_KEPT:
            header.extend(line for line in instruction.lines if line.strip())
    return tuple(header)


def _is_number(arguments):
    try:
        float(arguments[0])
    except (ValueError, IndexError):
        return False
    return True
