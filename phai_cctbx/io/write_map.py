"""Electron density to a CCP4 map file."""

from __future__ import annotations

from pathlib import Path

from cctbx import miller

from phai_cctbx.io.atomic_file import replacing

# Grid spacing over d_min: fine enough for the interpolation that viewers do.
RESOLUTION_FACTOR = 0.25


def write_map(
    path, coefficients: miller.array, f_000: float | None = None, label: str = "phai_cctbx"
) -> Path:
    """Write the map of complex `coefficients` over one unit cell, in their unit per A^3.

    Parameters
    ----------
    path : path-like
    coefficients : miller.array
        Complex; e/A^3 where they are structure factors on the absolute scale.
    f_000 : float, optional
        Structure factor of the reflection 0 0 0; without it the mean density is 0.
    label : str
        Text in the header of the file.
    """
    fft_map = coefficients.fft_map(resolution_factor=RESOLUTION_FACTOR, f_000=f_000)
    fft_map.apply_volume_scaling()
    with replacing(path) as temporary:
        # A list of one's own: cctbx appends to the default one at each call.
        fft_map.as_ccp4_map(file_name=str(temporary), labels=[label[:80]])
    return Path(path)
