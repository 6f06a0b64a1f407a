"""The part of a .res file before the atoms, kept from an .ins or made new."""

from __future__ import annotations

import re

from cctbx import sgtbx, uctbx
from cctbx.eltbx import tiny_pse

from phai_cctbx.io.shelx_instructions import element_symbol

_CENTRING = "PIRFABC"
# Wavelengths (A) whose f' and f'' SHELXL knows: Cu, Mo and Ag K alpha.
SHELXL_WAVELENGTHS = (1.54178, 0.71073, 0.56083)
_WAVELENGTH_TOLERANCE = 0.001
# What users of SHELXL expect in a .res to go on from; left out where the .ins has its own.
DEFAULT_INSTRUCTIONS = (
    ("L.S.", "L.S. 10"),
    ("BOND", "BOND $H"),
    ("LIST", "LIST 4"),
    ("FMAP", "FMAP 2"),
    ("PLAN", "PLAN 20"),
    ("CONF", "CONF"),
    ("ACTA", "ACTA"),
)
# Written in the order that SHELXL asks for, or at the end of the file.
_PLACED = ("TITL", "CELL", "ZERR", "LATT", "SYMM", "NEUT", "SFAC", "DISP", "UNIT", "HKLF")


def _grouped(header):
    """Return (name, lines) of the instructions in a header; continuation lines stay together."""
    groups: list[tuple[str, list[str]]] = []
    continued = False
    for line in header:
        if continued and groups:
            groups[-1][1].append(line)
        else:
            name = re.match(r"[^\s_]*", line).group().upper()[:4]
            groups.append((name, [line]))
        name = groups[-1][0]
        continued = name not in ("TITL", "REM") and line.split("!")[0].rstrip().endswith("=")
    return groups


def lattice_lines(space_group: sgtbx.space_group) -> list[str]:
    """Return LATT and SYMM of a space group with its centre of symmetry, if any, at the origin."""
    symbol = space_group.conventional_centring_type_symbol()
    centred = symbol in _CENTRING
    lattice = 1 + _CENTRING.index(symbol) if centred else 1
    operators = [space_group(0, 0, i) for i in range(space_group.n_smx())]
    if not centred:
        operators = [
            space_group(j, 0, i)
            for j in range(space_group.n_ltr())
            for i in range(space_group.n_smx())
        ]
    lines = [f"LATT {lattice if space_group.is_origin_centric() else -lattice}"]
    lines += [f"SYMM {op.as_xyz().upper()}" for op in operators if not op.is_unit_mx()]
    return lines


def sfac_elements(header) -> list[str]:
    """Return the elements of the SFAC lines of a header, in their order."""
    elements = []
    for name, lines in _grouped(header):
        if name != "SFAC":
            continue
        labels = " ".join(line.split("!")[0].replace("=", " ") for line in lines).split()[1:]
        if len(labels) > 1 and re.match(r"[-+]?\.?\d", labels[1]):
            labels = labels[:1]
        elements.extend(element_symbol(label) for label in labels)
    return elements


def _has_long_sfac(groups) -> bool:
    """Return whether an SFAC gives scattering factors in numbers."""
    return any(name == "SFAC" and re.search(r"\s[-+]?\d*\.\d", lines[0]) for name, lines in groups)


def header_numbers(header, instruction: str) -> tuple[float, ...]:
    """Return the numbers after the first such instruction of a header, none where it is absent."""
    values = []
    for name, lines in _grouped(header):
        if name == instruction:
            for text in lines[0].split("!")[0].split()[1:]:
                try:
                    values.append(float(text))
                except ValueError:
                    break
            break
    return tuple(values)


def cell_esds(header) -> tuple[float, ...]:
    """Return the standard uncertainties of the cell that ZERR gives, 0 where it gives none."""
    numbers = header_numbers(header, "ZERR")
    return numbers[1:7] if len(numbers) >= 7 else (0.0,) * 6


def in_shelx_order(elements) -> list[str]:
    """Return the elements with C and H first, the others by atomic number."""
    first = [element for element in ("C", "H") if element in elements]
    others = sorted(set(elements) - set(first), key=lambda e: tiny_pse.table(e).atomic_number())
    return first + others


def build_header(
    *,
    title: str,
    unit_cell: uctbx.unit_cell,
    space_group: sgtbx.space_group,
    wavelength: float | None,
    z: int | None,
    contents: dict[str, float],
    elements,
    dispersion: dict[str, tuple[float, float]],
    radiation: str = "xray",
    shelx_header=None,
    keep_symmetry: bool = True,
) -> tuple[list[str], list[str]]:
    """Return the lines TITL to the instructions, and the elements in the order of SFAC.

    Lines of `shelx_header` are kept as written; TITL, CELL, ZERR, LATT and SYMM
    are made new where it is absent or `keep_symmetry` is false, SFAC and UNIT
    where it lacks one of `elements`.

    Parameters
    ----------
    contents : dict of str to float
        Atoms per unit cell, for UNIT.
    elements : iterable of str
        Elements of the atoms that follow.
    dispersion : dict of str to (float, float)
        f', f'' of the elements, written as DISP for wavelengths SHELXL has no table for.
    """
    kept = _grouped(shelx_header or ())
    names = {name for name, _ in kept}
    known = sfac_elements(shelx_header or ())
    new_sfac = not known or bool(set(elements) - set(known)) or "UNIT" not in names
    order = known if not new_sfac else known + in_shelx_order(set(elements) - set(known))
    if not known:
        order = in_shelx_order(set(elements) | set(contents))
    lines: list[str] = []

    def keep(*wanted):
        for name, text in kept:
            if name in wanted:
                lines.extend(text)

    if keep_symmetry and {"TITL", "CELL", "LATT"} <= names:
        keep("TITL", "CELL", "ZERR", "LATT", "SYMM")
    else:
        symbol = sgtbx.space_group_info(group=space_group).type().lookup_symbol()
        cell = "{:.5f} {:.5f} {:.5f} {:.4f} {:.4f} {:.4f}".format(*unit_cell.parameters())
        lines.append(f"TITL {_one_line(title)} in {symbol}")
        lines.append(f"CELL {wavelength or 0:.5f} {cell}")
        lines.append(f"ZERR {z or space_group.order_z()} 0.0 0.0 0.0 0.0 0.0 0.0")
        lines.extend(lattice_lines(space_group))
    keep("NEUT")
    if "NEUT" not in names and radiation == "neutron":
        lines.append("NEUT")
    if _has_long_sfac(kept):
        keep("SFAC")
        if new_sfac:
            lines.append(f"SFAC {' '.join(order[len(known) :])}")
    else:
        # All elements on one line: iotbx reads only the last SFAC.
        lines.append(f"SFAC {' '.join(order)}")
    keep("DISP")
    if "DISP" not in names and radiation == "xray" and not _shelxl_knows(wavelength):
        lines += [
            f"DISP {e} {dispersion[e][0]:.4f} {dispersion[e][1]:.4f}"
            for e in order
            if e in dispersion
        ]
    if new_sfac:
        lines.append("UNIT " + " ".join(f"{contents.get(element, 0):g}" for element in order))
    else:
        keep("UNIT")
    for name, text in kept:
        if name not in _PLACED:
            lines.extend(text)
    for name, instruction in DEFAULT_INSTRUCTIONS:
        if name not in names and not (name == "L.S." and "CGLS" in names):
            lines.append(instruction)
    return lines, order


def _shelxl_knows(wavelength):
    return wavelength is None or any(
        abs(wavelength - known) < _WAVELENGTH_TOLERANCE for known in SHELXL_WAVELENGTHS
    )


def _one_line(title):
    return " ".join(title.split())[:60] or "untitled"
