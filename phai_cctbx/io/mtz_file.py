"""MTZ files: the observations in them, with their symmetry."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import iotbx.mtz
from cctbx import crystal, miller

from phai_cctbx.io.mtz_header import check_header
from phai_cctbx.io.reflections import Reflections
from phai_cctbx.io.text_file import bad_input, check_readable

_CALCULATED = ("FC", "FMODEL", "F-MODEL", "FWT", "DELFWT", "FCALC", "IC")


@dataclass
class MtzContents:
    """What an MTZ file says of a crystal."""

    title: str
    crystal_symmetry: crystal.symmetry
    reflections: Reflections
    wavelength: float | None


def read_mtz(path) -> MtzContents:
    """Read the observations of an MTZ file.

    Intensities are taken before amplitudes, Bijvoet mates apart before their mean.

    Raises
    ------
    Sorry
        If the file is damaged, holds no observations, or holds several sets.
    """
    path = check_readable(path)
    check_header(path, path.read_bytes())
    try:
        mtz = iotbx.mtz.object(str(path))
        arrays = mtz.as_miller_arrays(merge_equivalents=False)
    except RuntimeError as error:
        raise bad_input(
            path,
            f"damaged or cut ({str(error).splitlines()[-1].strip().rstrip('.')})",
            "Copy or export it again",
        ) from None
    array = _observed(arrays, path)
    wavelength = array.info().wavelength
    if array.unit_cell() is None or array.space_group() is None:
        raise bad_input(path, "no cell or no space group in its header", "Export it again")
    label = ",".join(array.info().labels)
    # The dataset of an MTZ made without a wavelength says 0 or exactly 1.
    known = wavelength is not None and wavelength > 0 and wavelength != 1.0
    notes = [f"{path}: {label}"]
    if not known:
        notes.append(f"{path}: no wavelength")
    finite = np.isfinite(array.data().as_numpy_array())
    sigmas = array.sigmas()
    if sigmas is not None:
        sigmas = sigmas.as_numpy_array()
        finite &= np.isfinite(sigmas)
    reflections = Reflections(
        source=f"{path}, {label}",
        indices=np.array(list(array.indices())),
        values=array.data().as_numpy_array(),
        sigmas=sigmas,
        amplitudes=array.is_xray_amplitude_array(),
        notes=notes,
    ).select(finite, "value or sigma is not a finite number")
    return MtzContents(
        title=mtz.title().strip(),
        crystal_symmetry=array.crystal_symmetry(),
        reflections=reflections,
        wavelength=wavelength if known else None,
    )


def _rank(array: miller.array) -> tuple[bool, bool, bool]:
    return (
        array.sigmas() is not None,
        array.is_xray_intensity_array(),
        bool(array.anomalous_flag()),
    )


def _observed(arrays, path):
    """Return the observations among the arrays of a file."""
    candidates = [
        array
        for array in arrays
        if (array.is_xray_intensity_array() or array.is_xray_amplitude_array())
        and (array.sigmas() is not None or not _is_calculated(array))
    ]
    if not candidates:
        labels = " ".join(label for array in arrays for label in array.info().labels)
        raise bad_input(
            path,
            f"no measured intensities or amplitudes among the columns {labels or '(none)'}",
            "Give a file with I and SIGI, or F and SIGF",
        )
    best = max(_rank(array) for array in candidates)
    chosen = [array for array in candidates if _rank(array) == best]
    if len(chosen) > 1:
        labels = " and ".join(",".join(array.info().labels) for array in chosen)
        raise bad_input(path, f"several sets of observations ({labels})", "Keep one of them")
    return chosen[0]


def _is_calculated(array):
    label = array.info().labels[0].upper()
    return label.startswith(_CALCULATED) or "CALC" in label
