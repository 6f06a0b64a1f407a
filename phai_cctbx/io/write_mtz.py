"""Observations, phases and figures of merit to an MTZ file."""

from __future__ import annotations

from pathlib import Path

import iotbx.mtz
from cctbx import miller
from libtbx.utils import Sorry

from phai_cctbx.io.atomic_file import replacing

# Column labels, as other programs of macromolecular and chemical crystallography know them.
LABELS = {
    "f_sq": "I",
    "f_obs": "F",
    "f_phased": "FPHAI",
    "confidence": "FOM",
    "f_calc": "FC",
    "map_coefficients": "FWT",
    "difference_coefficients": "DELFWT",
}
# A figure of merit is a weight; the types of all other columns follow from their data.
COLUMN_TYPES = {"confidence": "W"}
PHASE_LABELS = {"FPHAI": "PHIPHAI", "FC": "PHIC", "FWT": "PHWT", "DELFWT": "PHDELWT"}


class _LabelDecorator(iotbx.mtz.label_decorator):
    """Labels of phases as they are customary for the amplitudes they belong to."""

    def phases(self, root_label, anomalous_sign=None):
        return self.anomalous(PHASE_LABELS[root_label], anomalous_sign)


def write_mtz(path, title: str = "", wavelength: float | None = None, **arrays) -> Path:
    """Write miller arrays of one crystal to an MTZ file.

    Parameters
    ----------
    path : path-like
    title : str
    wavelength : float, optional
        In A.
    **arrays : miller.array or None
        ``f_sq`` (I, SIGI), ``f_obs`` (F, SIGF), ``f_phased`` (FPHAI, PHIPHAI),
        ``confidence`` (FOM), ``f_calc`` (FC, PHIC), ``map_coefficients`` (FWT,
        PHWT) and ``difference_coefficients`` (DELFWT, PHDELWT); merged, in any
        setting, indices in any asymmetric unit. Those that are None are left out.

    Raises
    ------
    Sorry
        If there is nothing to write, or the file cannot be written.
    """
    unknown = set(arrays) - set(LABELS)
    if unknown:
        raise TypeError(f"write_mtz has no argument {', '.join(sorted(unknown))}")
    dataset = None
    for name, label in LABELS.items():
        array = arrays.get(name)
        if array is None:
            continue
        array = _unique(array)
        if dataset is None:
            dataset = array.as_mtz_dataset(
                column_root_label=label,
                column_types=COLUMN_TYPES.get(name),
                label_decorator=_LabelDecorator(),
                title=title[:70],
                wavelength=wavelength or 0.0,
            )
        else:
            dataset.add_miller_array(
                array,
                column_root_label=label,
                column_types=COLUMN_TYPES.get(name),
                label_decorator=_LabelDecorator(),
            )
    if dataset is None:
        raise Sorry(f"{path}: no array to write. Give at least one.")
    with replacing(path) as temporary:
        dataset.mtz_object().write(str(temporary))
    return Path(path)


def _unique(array: miller.array) -> miller.array:
    """Return the array in the standard asymmetric unit, once per reflection."""
    return array.map_to_asu().sort("packed_indices")
