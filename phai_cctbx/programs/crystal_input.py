"""What every command that works on one crystal is given: its files, and how far its data go."""

from __future__ import annotations

import math
from pathlib import Path

# cctbx
from libtbx.utils import Sorry

from phai_cctbx.io.crystal_data import CrystalData
from phai_cctbx.phasing.normalisation import PreparedData, prepare

#: Endings of files that hold reflections and may stand beside a file with the cell.
REFLECTION_FILES = (".hkl", ".fcf")


def crystal_files(arguments: list[str]) -> dict[str, str]:
    """File arguments as parameters: one file, or one with the cell and one with reflections.

    Raises
    ------
    libtbx.utils.Sorry
        For the files of more than one crystal.
    """
    if not arguments:
        return {}
    if len(arguments) == 1:
        return {"input.path": arguments[0]}
    reflections = [name for name in arguments if Path(name).suffix.lower() in REFLECTION_FILES]
    others = [name for name in arguments if name not in reflections]
    if len(reflections) != 1 or len(others) != 1:
        raise Sorry(
            f"One crystal at a time: found {' '.join(arguments)}. Give one file, or one with"
            " the cell and one with the reflections."
        )
    return {"input.path": others[0], "input.hkl": reflections[0]}


def check_crystal_input(path, d_min: float | None, expected: str) -> None:
    """Refuse what no run can mean.

    Parameters
    ----------
    path : path-like or None
    d_min : float or None
        A.
    expected : str
        What kinds of file `path` may be, for the message.

    Raises
    ------
    libtbx.utils.Sorry
    """
    if not path or not Path(path).name:
        raise Sorry(f"No input: name {expected}.")
    if d_min is not None and not (math.isfinite(d_min) and d_min > 0):
        raise Sorry(f"d_min={d_min}: a resolution in A is expected, such as d_min=1.2.")


def prepare_crystal(data: CrystalData, d_min: float | None) -> PreparedData:
    """Merged intensities and amplitudes of what was read, with its own contents and radiation.

    Parameters
    ----------
    data : CrystalData
    d_min : float or None
        Resolution limit in A, all data where None.

    Raises
    ------
    libtbx.utils.Sorry
        If no usable reflections are left.
    """
    return prepare(
        data.observations,
        d_min=d_min,
        composition=data.composition.unit_cell_contents,
        radiation=data.radiation,
    )
