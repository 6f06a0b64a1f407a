"""SHELX reflection files: HKLF 3 (amplitudes) and HKLF 4 (intensities).

The columns are those of the SHELX-97 manual, FORMAT(3I4,2F8.2,I4), read as
Fortran reads them: values may touch, and a number without a decimal point has
two implied decimals. A list in free format is recognised and reported.
"""

from __future__ import annotations

import math
import re

import numpy as np

from phai_cctbx.io.reflections import Reflections
from phai_cctbx.io.text_file import bad_input

HKLF_AMPLITUDES = 3
HKLF_INTENSITIES = 4

# Fields of FORMAT(3I4,2F8.2,I4).
_INDEX_FIELDS = (slice(0, 4), slice(4, 8), slice(8, 12))
_VALUE_FIELD = slice(12, 20)
_SIGMA_FIELD = slice(20, 28)
_BATCH_FIELD = slice(28, 32)
_IMPLIED_DECIMALS = 0.01
# An HKLF 5 group repeats intensity and sigma on each of its lines; an HKLF 4
# list with negative batch numbers (free set of SHELXL) repeats them by chance only.
_OVERLAP_SHARE = 0.5

_CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f]")
_ZERO_INDICES = re.compile(r"\s*[+-]?0\s+[+-]?0\s+[+-]?0(\s|$)")


def parse_hkl(
    text: str,
    source,
    hklf: int = HKLF_INTENSITIES,
    scale: float = 1.0,
    matrix: tuple[float, ...] | None = None,
    sigma_scale: float = 1.0,
    first_line: int = 1,
) -> Reflections:
    """Parse the text of a SHELX reflection file.

    Parameters
    ----------
    text : str
    source : path-like
        Named in messages.
    hklf : {3, 4}
        Format code of the HKLF instruction.
    scale, sigma_scale : float
        Factor on value and sigma, further factor on sigma.
    matrix : tuple of 9 float, optional
        Rows of the index transformation, with a positive determinant.
    first_line : int
        Line of the file on which `text` starts.

    Raises
    ------
    Sorry
        If a line cannot be read, no reflection comes before the end mark, or
        the list is one of overlapping reflections (HKLF 5).
    """
    lines = [
        (first_line + i, _CONTROL_CHARACTERS.sub(" ", line))
        for i, line in enumerate(text.splitlines())
    ]
    body, n_trailing, marked = _data_lines(lines)
    if not body:
        raise bad_input(
            source,
            "no reflection before the end mark (0 0 0 or a blank line)",
            "Export the reflection file again",
            first_line,
        )
    notes = []
    if n_trailing:
        notes.append(f"{source}: {n_trailing} lines after the 0 0 0 line were not read")
    records, free = _records(body, source)
    if free:
        notes.append(f"{source}: read in free format, not in the columns of SHELX")
    elif not marked and not text.endswith("\n"):
        _refuse_cut_line(body, source)
    _refuse_overlaps(records, body, source)
    with_sigma = [record[4] is not None for record in records]
    if any(with_sigma) and not all(with_sigma):
        i = with_sigma.index(False)
        raise bad_input(
            source,
            f"no sigma in {body[i][1].rstrip()!r}, while other reflections have one",
            "Copy or export the file again, this one is cut or damaged",
            body[i][0],
        )
    if not any(with_sigma):
        notes.append(f"{source}: no sigmas")
    reflections = Reflections(
        source=str(source),
        indices=np.array([record[:3] for record in records], dtype=np.int64),
        values=np.array([record[3] for record in records]) * scale,
        sigmas=np.array([record[4] for record in records]) * abs(scale * sigma_scale)
        if any(with_sigma)
        else None,
        amplitudes=hklf == HKLF_AMPLITUDES,
        places=np.array([number for number, _ in body]),
        notes=notes,
    )
    return reflections if matrix is None else _transform(reflections, matrix)


def _data_lines(lines):
    """Return the numbered reflection lines, how many lines follow the end mark, and if it is there.

    Blank lines before the first reflection do not count as an end mark.
    """
    body = []
    for i, (number, line) in enumerate(lines):
        blank = not line.strip()
        if blank and not body:
            continue
        fixed_zero = line[:12].strip() and not line[:12].replace("0", " ").strip()
        if blank or fixed_zero or _ZERO_INDICES.match(line):
            n_trailing = sum(1 for _, rest in lines[i + 1 :] if rest.strip())
            return body, n_trailing, True
        body.append((number, line))
    return body, 0, False


def _records(body, source):
    """Return the records of the lines, and whether they are in free format.

    A record is (h, k, l, value, sigma or None, batch).
    """
    records = []
    for number, line in body:
        record = _fixed_record(line)
        if record is None:
            free = [_free_record(text) for _, text in body]
            if None not in free:
                return free, True
            raise bad_input(
                source,
                f"{line.strip()[:60]!r} where h k l, intensity and sigma should stand",
                "Give finite numbers in the columns of SHELX (3I4,2F8.2), or export the file again",
                number,
            )
        records.append(record)
    return records, False


def _fixed_record(line):
    try:
        indices = [int(line[field]) for field in _INDEX_FIELDS]
        value = _fortran_float(line[_VALUE_FIELD])
        sigma = line[_SIGMA_FIELD]
        sigma = _fortran_float(sigma) if sigma.strip() else None
    except ValueError:
        return None
    try:
        batch = int(line[_BATCH_FIELD])
    except ValueError:
        batch = 0
    return *indices, value, sigma, batch


def _free_record(line):
    fields = line.replace(",", " ").split()
    try:
        indices = [int(field) for field in fields[:3]]
        value = _finite(fields[3])
        sigma = _finite(fields[4]) if len(fields) > 4 else None
    except (ValueError, IndexError):
        return None
    try:
        batch = int(fields[5]) if len(fields) > 5 else 0
    except ValueError:
        batch = 0
    return *indices, value, sigma, batch


def _fortran_float(field: str) -> float:
    """Read an F8.2 field: two implied decimals where there is no decimal point."""
    value = _finite(field)
    if field.strip().lstrip("+-").isdigit():
        return value * _IMPLIED_DECIMALS
    return value


def _finite(field: str) -> float:
    value = float(field)
    if not math.isfinite(value):
        raise ValueError(field)
    return value


def _refuse_cut_line(body, source):
    """Refuse a list whose last line is shorter than all others and has no line end."""
    if len(body) < 2:
        return
    number, last = body[-1]
    if len(last.rstrip()) < min(len(line.rstrip()) for _, line in body[:-1]):
        raise bad_input(
            source,
            f"the file stops inside a reflection ({last.rstrip()!r})",
            "Copy or export it again",
            number,
        )


def _refuse_overlaps(records, body, source):
    """Refuse a list of overlapping reflections (HKLF 5), whatever its format code says."""
    negative = [i for i, record in enumerate(records[:-1]) if record[5] < 0]
    repeated = [i for i in negative if records[i][3:5] == records[i + 1][3:5]]
    if negative and len(repeated) > _OVERLAP_SHARE * len(negative):
        raise bad_input(
            source,
            f"{len(repeated)} overlapping reflections of a twin (HKLF 5 list, the first one here)",
            "Export a detwinned HKLF 4 file",
            body[repeated[0]][0],
        )


def _transform(reflections: Reflections, matrix) -> Reflections:
    """Return the list with indices h' = R h; those with fractional indices are left out."""
    transformed = reflections.indices @ np.array(matrix).reshape(3, 3).T
    indices = np.rint(transformed)
    # SHELX matrices are given to a few decimals, e.g. 0.3333.
    integral = np.all(np.abs(transformed - indices) < 0.1, axis=1)
    reflections.indices = indices.astype(np.int64)
    reflections.notes.append(f"{reflections.source}: indices transformed by the HKLF matrix")
    return reflections.select(integral, "fractional indices after the HKLF matrix")
