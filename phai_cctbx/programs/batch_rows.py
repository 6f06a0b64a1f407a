"""One row per data set of a batch, and the CSV file that keeps them."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import get_args, get_type_hints

# cctbx
from libtbx.utils import Sorry

from phai_cctbx.io.atomic_file import write_text

#: How a data set can end.
SOLVED, NOT_SOLVED, REFUSED, TIMED_OUT, CRASHED = STATES = (
    "solved",
    "not solved",
    "refused",
    "timed out",
    "crashed",
)
#: A resumed batch keeps the rows of sets that came to an end of their own.
KEPT = (SOLVED, NOT_SOLVED)


@dataclass(frozen=True)
class SetRow:
    """What a batch says of one data set; None where a figure does not apply.

    Attributes
    ----------
    id : str
        `DataSet.id`.
    state : str
        ``"solved"``, ``"not solved"``, ``"refused"`` (the input cannot be used), ``"timed out"``
        or ``"crashed"``.
    message : str
        Why there is no result, or the first warning.
    space_group, formula, solved_by, strategy : str
    d_min, completeness, r_int, r1, wr2, goof, confidence : float
        As in the .json of the run (docs/usage.md).
    n_unique, n_atoms, n_warnings : int
    seconds : float
        Of the run.
    attempts : int
        How often it was begun.
    results : str
        Base path of the result files, relative to the folder of the batch.
    """

    id: str
    state: str
    message: str | None = None
    space_group: str | None = None
    formula: str | None = None
    d_min: float | None = None
    n_unique: int | None = None
    completeness: float | None = None
    r_int: float | None = None
    r1: float | None = None
    wr2: float | None = None
    goof: float | None = None
    confidence: float | None = None
    solved_by: str | None = None
    strategy: str | None = None
    n_atoms: int | None = None
    n_warnings: int | None = None
    seconds: float | None = None
    attempts: int | None = None
    results: str | None = None


_CONVERTERS = {
    name: get_args(hint)[0] if get_args(hint) else hint
    for name, hint in get_type_hints(SetRow).items()
}
_NAMES = tuple(field.name for field in fields(SetRow))


def write_rows(path, rows) -> None:
    """Write the rows as CSV; the file is complete at every moment."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _NAMES, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    write_text(path, text.getvalue())


def read_rows(path) -> list[SetRow]:
    """Rows that `write_rows` wrote.

    Raises
    ------
    libtbx.utils.Sorry
        If the file holds anything else.
    """
    try:
        with Path(path).open(encoding="utf-8", newline="") as lines:
            rows = [
                SetRow(**{n: _CONVERTERS[n](row[n]) if row[n] else None for n in _NAMES})
                for row in csv.DictReader(lines)
            ]
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise Sorry(f"{path}: not the table of a batch ({error}). Move it away.") from error
    unknown = {row.state for row in rows} - set(STATES)
    if unknown:
        raise Sorry(f"{path}: not the table of a batch (state {unknown.pop()}). Move it away.")
    return rows
