"""Whether the header of an MTZ file is whole.

The CCP4 library that reads MTZ stops the process on some damaged headers, so
that they are refused before it sees them. Layout: CCP4 documentation, "MTZ format".
"""

from __future__ import annotations

import struct

from phai_cctbx.io.text_file import bad_input

_RECORD = 80
_WORD = 4
_FIRST_DATA_WORD = 21
_LITTLE_ENDIAN = 4
_KEYWORDS = frozenset(
    """VERS TITLE NCOL CELL SORT SYMINF SYMM RESO VALM COLUMN COLSRC COLGRP NDIF PROJECT CRYSTAL
    DATASET DCELL DWAVEL BATCH END""".split()
)
# Keyword -> (position, type) of the words that the library takes as numbers.
_NUMBERS = {
    "NCOL": (int, range(1, 4)),
    "CELL": (float, range(1, 7)),
    "SORT": (int, range(1, 6)),
    "SYMINF": (int, range(1, 3)),
    "RESO": (float, range(1, 3)),
    "COLUMN": (float, range(3, 5)),
    "NDIF": (int, range(1, 2)),
    "PROJECT": (int, range(1, 2)),
    "CRYSTAL": (int, range(1, 2)),
    "DATASET": (int, range(1, 2)),
    "DCELL": (float, range(1, 8)),
    "DWAVEL": (float, range(1, 3)),
}
_LAST = b"MTZENDOFHEADERS"
_MAX_LABEL = 30
_MAX_SYMMETRY_OPERATORS = 192


def check_header(path, content: bytes) -> None:
    """Raise ``Sorry`` if the header of an MTZ file is cut or damaged."""
    if content[:3] != b"MTZ":
        raise bad_input(path, "no MTZ mark at its start", "Give an MTZ file")
    if len(content) < _FIRST_DATA_WORD * _WORD:
        raise _damaged(path, f"it has {len(content)} bytes")
    order = "<" if content[8] >> 4 == _LITTLE_ENDIAN else ">"
    (position,) = struct.unpack(order + "i", content[4:8])
    if position == -1:
        (position,) = struct.unpack(order + "q", content[12:20])
    start = (position - 1) * _WORD
    if not _FIRST_DATA_WORD * _WORD <= start < len(content):
        raise _damaged(path, f"its header should start at byte {start} of {len(content)}")
    n_words = position - _FIRST_DATA_WORD
    symmetry_operators = 0
    n_columns = 0
    expected_columns = None
    for record in range(start, len(content), _RECORD):
        text = content[record : record + _RECORD].decode("ascii", "replace")
        words = text.split()
        keyword = words[0].upper() if words else ""
        if keyword == "END":
            break
        if len(text) < _RECORD or not text.isprintable() or keyword not in _KEYWORDS:
            raise _damaged(path, f"the header record {text[:30].strip()!r} at byte {record}")
        if not _numbers_are_right(keyword, words):
            raise _damaged(path, f"the header record {text.strip()[:60]!r} at byte {record}")
        symmetry_operators += keyword == "SYMM"
        if keyword == "COLUMN":
            n_columns += 1
            if len(words[1]) > _MAX_LABEL:
                raise _damaged(path, f"the column label {words[1][:40]!r}")
        if keyword == "NCOL":
            expected_columns, n_reflections = int(words[1]), int(words[2])
            if expected_columns * n_reflections != n_words:
                raise _damaged(
                    path,
                    f"{expected_columns} columns of {n_reflections} reflections do not fit into"
                    f" {n_words} numbers",
                )
    else:
        raise _damaged(path, "its header has no END")
    last = range(record + _RECORD, len(content), _RECORD)
    if not any(content[i : i + len(_LAST)] == _LAST for i in last):
        raise _damaged(path, f"its header has no {_LAST.decode()}")
    if n_columns != expected_columns or symmetry_operators > _MAX_SYMMETRY_OPERATORS:
        raise _damaged(path, f"{n_columns} column records for {expected_columns} columns")


def _numbers_are_right(keyword: str, words: list[str]) -> bool:
    if keyword == "COLUMN" and not (len(words) > 4 and len(words[2]) == 1 and words[2].isalpha()):
        return False
    kind, positions = _NUMBERS.get(keyword, (str, ()))
    try:
        values = [kind(words[i]) for i in positions]
    except (ValueError, IndexError):
        return keyword == "COLUMN" and _is_missing(words)
    return kind is not int or all(0 <= value < 2**31 for value in values) or keyword == "SORT"


def _is_missing(words: list[str]) -> bool:
    """Return whether the range of a column is given as NaN, as for columns without values."""
    return len(words) > 4 and {words[3].lower(), words[4].lower()} <= {"nan", "-nan", "?"}


def _damaged(path, found):
    return bad_input(path, f"damaged or cut: {found}", "Copy or export it again")
