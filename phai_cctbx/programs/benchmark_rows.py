"""One row per structure of a benchmark, and the JSON file that keeps them."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path

# cctbx
from libtbx.utils import Sorry


@dataclass(frozen=True)
class Row:
    """What a benchmark says of one structure; None where a figure does not apply.

    Attributes
    ----------
    id, job, kind, space_group : str
        `kind` is ``"calculated"`` or ``"measured"``; the space group is in the setting of the file.
    volume : float
        Of the unit cell, A^3.
    d_min : float
        Resolution of the data used, A; job=phasing: of the reflections that were phased.
    r : float
        Correlation with the true map (`phai_cctbx.phasing.scoring.score_r`).
    confidence : float
        The r that the method itself promises.
    solved : bool
        job=phasing: r > 0.95. job=solve: what the program says of its result.
    r1, r1_published, wr2, goof : float
    rmsd : float
        Of the atoms found from the reference model, A.
    wrong_elements : int
    seconds : float
    message : str
        What else is to be said: why there is no result, or how many atoms were found.
    details : dict
        Figures of one job alone; in the file only where there are any.
    """

    id: str
    job: str
    kind: str
    space_group: str | None = None
    volume: float | None = None
    d_min: float | None = None
    r: float | None = None
    confidence: float | None = None
    solved: bool | None = None
    r1: float | None = None
    r1_published: float | None = None
    wr2: float | None = None
    goof: float | None = None
    rmsd: float | None = None
    wrong_elements: int | None = None
    seconds: float | None = None
    message: str | None = None
    details: dict | None = None


def write_rows(path, rows) -> None:
    """Write rows as a JSON list, one row a line; the file is complete at every moment."""
    path = Path(path)
    lines = ",\n".join(json.dumps(_as_written(row)) for row in rows)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(f"[\n{lines}\n]\n" if rows else "[]\n", encoding="utf-8")
    os.replace(beside, path)


def read_rows(path) -> list[Row]:
    """Rows that `write_rows` wrote.

    Raises
    ------
    libtbx.utils.Sorry
        If the file holds anything else.
    """
    names = {field.name for field in fields(Row)}
    try:
        rows = json.loads(Path(path).read_text(encoding="utf-8"))
        rows = [{"details": None, **row} for row in rows]
        return [Row(**{name: row[name] for name in names}) for row in rows]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise Sorry(f"{path}: not a file of benchmark rows ({error}), name another.") from error


def _as_written(row):
    values = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in asdict(row).items()
    }
    if values["details"] is None:
        del values["details"]
    return values
