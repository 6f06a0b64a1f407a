"""Items that every CIF of a crystal begins with, under their names in the core dictionary."""

from __future__ import annotations

import math
import re

from cctbx import sgtbx, uctbx
from libtbx.utils import format_float_with_standard_uncertainty

_CELL = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")


def block_name(title: str) -> str:
    """Return a name for a data block: the first word of the title, of letters, digits, - and _."""
    words = re.sub(r"[^A-Za-z0-9_-]+", " ", title).split()
    return words[0][:70] if words else "phai"


def with_uncertainty(value: float, variance: float, digits: int) -> str:
    """Return ``value(su)``, or `value` to `digits` decimals where the variance is none."""
    if math.isfinite(variance) and variance > 10.0 ** (-2 * digits - 4):
        return format_float_with_standard_uncertainty(value, math.sqrt(variance))
    return f"{value:.{digits}f}"


def symmetry_items(space_group: sgtbx.space_group) -> dict[str, str]:
    """Return crystal system, number and symbols of a space group."""
    group_type = space_group.type()
    tabulated = space_group.match_tabulated_settings()
    hall = tabulated.hall() if tabulated.number() else group_type.hall_symbol()
    return {
        "_space_group_crystal_system": space_group.crystal_system().lower(),
        "_space_group_IT_number": str(group_type.number()),
        "_space_group_name_H-M_alt": group_type.lookup_symbol(),
        "_space_group_name_Hall": hall.strip(),
    }


def cell_items(unit_cell: uctbx.unit_cell, esds=(0.0,) * 6) -> dict[str, str]:
    """Return the cell constants and the volume, with their standard uncertainties if known.

    Parameters
    ----------
    unit_cell : uctbx.unit_cell
    esds : sequence of 6 float
        In A and degrees; 0 where not known.
    """
    items = {
        f"_cell_{part}": with_uncertainty(value, esd**2, 4)
        for part, value, esd in zip(_CELL, unit_cell.parameters(), esds, strict=True)
    }
    slopes = unit_cell.d_volume_d_params()
    variance = sum((slope * esd) ** 2 for slope, esd in zip(slopes, esds, strict=True))
    items["_cell_volume"] = with_uncertainty(unit_cell.volume(), variance, 1)
    return items
