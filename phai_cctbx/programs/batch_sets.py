"""The data sets of a batch: which files below a folder, and what each is called."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

# cctbx
from libtbx.utils import Sorry

#: Base names of what phai_cctbx.solve writes end so: they are no data.
RESULT_SUFFIX = "_phai"


@dataclass(frozen=True)
class DataSet:
    """One data set of a batch.

    Attributes
    ----------
    id : str
        Path below the folder without the extension (``"x"`` for ``x/x.ins``), and with it where
        two sets would be called the same.
    path : pathlib.Path
        The file to solve, absolute.
    """

    id: str
    path: Path


def list_sets(folder, pattern, results=None) -> list[DataSet]:
    """Data sets below a folder, ordered by their names.

    Parameters
    ----------
    folder : path
    pattern : str
        Of the file names, such as ``"*.ins"``; case does not matter.
    results : path, optional
        Folder of results, not searched.

    Raises
    ------
    libtbx.utils.Sorry
        If the folder does not exist or holds no such file.
    """
    folder = Path(folder).resolve()
    if not folder.is_dir():
        raise Sorry(f"{folder}: no such folder. Name the one that the data sets lie below.")
    results = results and Path(results).resolve()
    paths = [
        path
        for path in sorted(folder.rglob("*"))
        if fnmatch(path.name.lower(), pattern.lower())
        and path.is_file()
        and not path.stem.endswith(RESULT_SUFFIX)
        and (results in (None, folder) or results not in path.parents)
    ]
    if not paths:
        raise Sorry(f"{folder}: no {pattern} in it or below. Name other files by pattern=.")
    names = {path: path.relative_to(folder) for path in paths}
    count = Counter(_short(name) for name in names.values())
    return [
        DataSet(id=(short if count[short := _short(name)] == 1 else name).as_posix(), path=path)
        for path, name in names.items()
    ]


def _short(name):
    """A relative path without the extension, and without a last part that says nothing new."""
    return name.parent if name.parent.name == name.stem else name.with_suffix("")
