"""The structures a benchmark runs on: measured data sets and published models.

A data folder holds ``measured/<id>/`` with ``<id>.ins``, ``<id>.hkl`` and the reference model
``<id>_ref.cif``, and ``structures/<id>.cif``; an ``index.tsv`` in either tells more of each.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

# cctbx
import iotbx.cif
from cctbx import xray
from cctbx.array_family import flex
from libtbx.utils import Sorry

CALCULATED = "calculated"
MEASURED = "measured"
KINDS = (CALCULATED, MEASURED)
#: A^2: an atom that moves further than the length of a bond (2 A) is not one.
LARGEST_U = 4.0


@dataclass(frozen=True)
class Entry:
    """One structure of a benchmark.

    Attributes
    ----------
    id : str
    kind : str
        ``"measured"``, or ``"calculated"`` where amplitudes come from the model.
    model_path : pathlib.Path
        CIF of the reference model, for scoring alone (and for calculated amplitudes).
    data_path : pathlib.Path or None
        SHELX .ins of a measured data set, the .hkl beside it.
    space_group : str
        From the index, empty where it says nothing.
    r1_published : float or None
    r1_model : float or None
        R1 of the reference model as recalculated, where the index gives it.
    """

    id: str
    kind: str
    model_path: Path
    data_path: Path | None = None
    space_group: str = ""
    r1_published: float | None = None
    r1_model: float | None = None


def list_entries(folder, kinds=KINDS, ids=(), n_max=None) -> list[Entry]:
    """Entries of a data folder, calculated ones first, in the order of its indices.

    Parameters
    ----------
    folder : path
        With ``measured`` and ``structures`` in it, or one of the two itself.
    kinds : iterable of str
        ``"calculated"`` and ``"measured"``.
    ids : iterable of str
        Only these, where any is named.
    n_max : int, optional
        At most so many of each kind.

    Raises
    ------
    libtbx.utils.Sorry
        If the folder, an id or a file of an entry does not exist, or nothing is left.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise Sorry(f"data={folder}: no such folder. Give one with measured/ or structures/ in it.")
    structures, measured = folder / "structures", folder / "measured"
    if any(folder.glob("*.cif")):
        structures = folder
    if any(folder.glob("*/*.ins")):
        measured = folder
    entries = []
    if CALCULATED in kinds:
        entries += _chosen(_calculated(structures), ids, n_max)
    if MEASURED in kinds:
        entries += _chosen(_measured(measured), ids, n_max)
    unknown = set(ids) - {entry.id for entry in entries}
    if unknown and n_max is None:
        raise Sorry(f"data={folder}: no entry {', '.join(sorted(unknown))} of the kinds asked for.")
    if not entries:
        raise Sorry(
            f"data={folder}: nothing to run. It needs structures/<id>.cif or measured/<id>/ with"
            " <id>.ins, <id>.hkl and <id>_ref.cif."
        )
    return entries


def reference_structure(path) -> xray.structure:
    """The model in a CIF, in the setting of the file, hydrogens included.

    Raises
    ------
    libtbx.utils.Sorry
        If the CIF cannot be read, holds no atoms, or displacements that no atom has.
    """
    try:
        structures = iotbx.cif.reader(file_path=str(path)).build_crystal_structures()
    except Exception as error:  # any of many types, all of them the file's fault
        raise Sorry(f"{path}: not a readable model CIF ({error}).") from error
    for structure in structures.values():
        if structure.scatterers().size():
            _check_displacements(structure, path)
            return structure
    raise Sorry(f"{path}: no atoms with coordinates in this CIF.")


def _check_displacements(structure, path):
    displacements = structure.scatterers().extract_u_iso_or_u_equiv(structure.unit_cell())
    largest = flex.max_index(displacements)
    if displacements[largest] > LARGEST_U:
        raise Sorry(
            f"{path}: atom {structure.scatterers()[largest].label} has U(eq)"
            f" {displacements[largest]:.1f} A^2, at most {LARGEST_U:.0f} can be meant: correct"
            " the model, or leave this entry out (ids=)."
        )


def _calculated(folder):
    index = _index(folder)
    names = list(index) or sorted(path.stem for path in folder.glob("*.cif"))
    return [
        Entry(
            id=name,
            kind=CALCULATED,
            model_path=folder / f"{name}.cif",
            space_group=index.get(name, {}).get("space_group", ""),
        )
        for name in names
    ]


def _measured(folder):
    index = _index(folder)
    names = list(index) or sorted(path.name for path in folder.glob("*") if path.is_dir())
    return [
        Entry(
            id=name,
            kind=MEASURED,
            model_path=folder / name / f"{name}_ref.cif",
            data_path=folder / name / f"{name}.ins",
            space_group=index.get(name, {}).get("space_group", ""),
            r1_published=_number(index.get(name, {}).get("R1_published")),
            r1_model=_number(index.get(name, {}).get("R1_calc")),
        )
        for name in names
    ]


def _index(folder):
    """Rows of ``index.tsv`` by id, nothing where there is none."""
    path = folder / "index.tsv"
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as lines:
        return {row["id"]: row for row in csv.DictReader(lines, delimiter="\t")}


def _chosen(entries, ids, n_max):
    wanted = [entry for entry in entries if not ids or entry.id in ids][:n_max]
    for entry in wanted:
        for path in (entry.model_path, entry.data_path):
            if path is not None and not path.is_file():
                raise Sorry(f"{path}: this file of entry {entry.id} does not exist.")
    return wanted


def _number(text):
    try:
        return float(text)
    except (TypeError, ValueError):
        return None
