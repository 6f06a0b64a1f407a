"""Observations to a SHELX reflection file, FORMAT(3I4,2F8.2), to as many digits as fit."""

from __future__ import annotations

from pathlib import Path

from cctbx import miller
from cctbx.array_family import flex

from phai_cctbx.io.atomic_file import write_text

# Widest value of an F8 field that keeps a blank before it, and a decimal point.
MAX_VALUE = 99999.0
MAX_DECIMALS = 4
_WIDTH = 8


def hkl_text(observations: miller.array) -> str:
    """Return the text of a .hkl file (HKLF 3 for amplitudes, HKLF 4 for intensities).

    All values are divided by one number where the largest would not fit.

    Raises
    ------
    ValueError
        If the observations have no sigmas, which the format needs.
    """
    if observations.sigmas() is None:
        raise ValueError("a SHELX reflection file needs sigmas")
    largest = max(
        flex.max(flex.abs(observations.data())), flex.max(flex.abs(observations.sigmas()))
    )
    factor = MAX_VALUE / largest if largest > MAX_VALUE else 1.0
    lines = [
        f"{h[0]:4d}{h[1]:4d}{h[2]:4d}{_field(value * factor)}{_field(sigma * factor)}"
        for h, value, sigma in observations
    ]
    lines.append("   0   0   0    0.00    0.00")
    return "\n".join(lines) + "\n"


def write_hkl(path, observations: miller.array) -> Path:
    """Write the .hkl file in one step; see `hkl_text`."""
    return write_text(path, hkl_text(observations))


def _field(value: float) -> str:
    """Return `value` in eight columns, with a decimal point and a blank before it."""
    for decimals in range(MAX_DECIMALS, -1, -1):
        text = f"{value:.{decimals}f}" + ("" if decimals else ".")
        if len(text) < _WIDTH:
            break
    return text.rjust(_WIDTH)
