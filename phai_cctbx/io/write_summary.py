"""The .json summary of a run and the .eff that repeats it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

from phai_cctbx.io.atomic_file import write_text


def plain(value):
    """Return `value` with numpy numbers as Python ones, and nan and infinity as None."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(item) for item in value]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, str):
        return value
    return str(value)


def write_json(path, summary: dict) -> Path:
    """Write the summary of a run as JSON (null where a number is not known)."""
    return write_text(path, json.dumps(plain(summary), indent=2, allow_nan=False) + "\n")


def write_eff(path, parameters) -> Path:
    """Write phil `parameters` (a ``libtbx.phil.scope``) so that they repeat the run."""
    return write_text(path, parameters.as_str())
