"""Form-factor tables in the ``.tsc`` format of NoSpherA2, Olex2 and smtbx.

A table gives, for each scatterer, the complex form factor without dispersion terms at
every index h.R of every reflection (R the rotations of the space group, no inversion
added), with the phase convention exp(+2 pi i h.r). Format: Kleemiss et al., Chem. Sci.
12, 1675 (2021) and Midgley, Bourhis, Dolomanov et al., Acta Cryst. A77, 519 (2021).
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cctbx.array_family import flex
from libtbx.utils import Sorry

SYMMETRY_LINE = "expanded"
"""The value of SYMM that makes smtbx look up every h.R and keep the anomalous terms."""

ELECTRON_TOLERANCE = 1.5
"""Largest |f(0) - Z| in e: a Hirshfeld charge stays below it, a wrong element does not."""

SYMMETRY_TOLERANCE = 0.02
"""Largest difference in e between form factors that the site symmetry makes equal."""


@dataclass(frozen=True)
class FormFactorTable:
    """Form factors of the scatterers of a structure.

    Attributes
    ----------
    labels : tuple of str
    indices : numpy.ndarray of int, (n_h, 3)
    values : numpy.ndarray, complex, (n_h, n_scatterers), e
    title : str
    """

    labels: tuple
    indices: np.ndarray
    values: np.ndarray
    title: str = ""


def rotations(space_group):
    """Rotation matrices of the operations without inversion and centring, (n, 3, 3) int."""
    return np.array(
        [[round(v) for v in op.r().as_double()] for op in space_group.smx()], dtype=int
    ).reshape(-1, 3, 3)


def expanded_indices(indices, space_group):
    """All distinct h.R of a list of indices (row vector times rotation), sorted.

    Friedel mates are not added: smtbx asks for h.R alone, in acentric groups too.

    Parameters
    ----------
    indices : flex.miller_index or array (n, 3)
    space_group : cctbx.sgtbx.space_group

    Returns
    -------
    numpy.ndarray of int, (m, 3)
    """
    h = np.array(list(indices), dtype=int).reshape(-1, 3)
    return np.unique(np.concatenate([h @ r for r in rotations(space_group)]), axis=0)


def spherical_table(xray_structure, indices, title="spherical atoms"):
    """A table of the spherical form factors that the structure has, for tests and heavy atoms.

    Parameters
    ----------
    xray_structure : cctbx.xray.structure
    indices : flex.miller_index
        The reflections of the refinement; expanded here.
    """
    h = expanded_indices(indices, xray_structure.space_group())
    d_star_sq = np.array(
        xray_structure.unit_cell().d_star_sq(flex.miller_index([tuple(map(int, row)) for row in h]))
    )
    registry = xray_structure.scattering_type_registry()
    curves = {}
    values = np.empty((len(h), xray_structure.scatterers().size()), dtype=complex)
    for column, scatterer in enumerate(xray_structure.scatterers()):
        if scatterer.scattering_type not in curves:
            gaussian = registry.gaussian_not_optional(scatterer.scattering_type)
            curves[scatterer.scattering_type] = np.array(
                [gaussian.at_d_star_sq(float(s)) for s in d_star_sq]
            )
        values[:, column] = curves[scatterer.scattering_type]
    labels = tuple(s.label for s in xray_structure.scatterers())
    return FormFactorTable(labels, h, values, title)


def write_tsc(path, table):
    """Write a table atomically, as NoSpherA2 does: expanded, one row per index."""
    path = Path(path)
    lines = [
        f"TITLE: {table.title}",
        f"SYMM: {SYMMETRY_LINE}",
        f"SCATTERERS: {' '.join(table.labels)}",
        "DATA:",
    ]
    for h, row in zip(table.indices.tolist(), table.values, strict=True):
        values = " ".join(f"{v.real:.9g},{v.imag:.9g}" for v in row)
        lines.append(f"{h[0]} {h[1]} {h[2]} {values}")
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text("\n".join(lines) + "\n")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_tsc(path, space_group=None):
    """Read a ``.tsc``, expanded or with a list of rotations in its SYMM line.

    A table with rotation matrices lists all h for the first of them, then all for the
    second; its rows are given back as they are, since they hold h.R too. A table whose
    rows lack the symmetry mates altogether cannot be completed for aspherical atoms.

    Raises
    ------
    Sorry
        With the file, the line and what was found.
    """
    path = Path(path)
    if path.suffix.lower() == ".tscb":
        raise Sorry(
            f"{path}: binary tables (.tscb) are not read by the installed cctbx. "
            "Let NoSpherA2 write a .tsc (option 'binary' off)."
        )
    try:
        text = path.read_text()
    except OSError as error:
        raise Sorry(f"{path}: cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise Sorry(f"{path}: not a text file, so no .tsc table.") from error
    header, rows, labels, in_data = {}, [], None, False
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip()
        if not in_data:
            name, colon, value = line.partition(":")
            if not colon:
                continue
            header[name.strip().upper()] = value.strip()
            in_data = name.strip().upper() == "DATA"
            continue
        if not line:
            break
        if labels is None:
            labels = tuple(header.get("SCATTERERS", "").split())
            if not labels:
                raise Sorry(f"{path}: no SCATTERERS line before DATA (line {number}).")
        rows.append(parse_row(line, len(labels), path, number))
    if not rows:
        raise Sorry(f"{path}: no rows after a DATA line: not a .tsc table, or cut short.")
    if header.get("AD", "").lower() in ("true", "yes"):
        raise Sorry(
            f"{path}: AD: {header['AD']}: the table holds the dispersion terms, which "
            "would be added twice. Write it without them."
        )
    return FormFactorTable(
        labels,
        np.array([r[0] for r in rows]),
        np.array([r[1] for r in rows]),
        header.get("TITLE", ""),
    )


def parse_row(line, n_scatterers, path, number):
    """One data row: three indices and ``re,im`` per scatterer."""
    fields = line.split()
    if len(fields) != 3 + n_scatterers:
        raise Sorry(
            f"{path}, line {number}: {len(fields)} columns, expected {3 + n_scatterers} "
            f"(h k l and {n_scatterers} scatterers). The file may be cut short."
        )
    try:
        index = tuple(int(f) for f in fields[:3])
        values = []
        for text in fields[3:]:
            real, _, imaginary = text.partition(",")
            values.append(complex(float(real), float(imaginary or 0.0)))
    except ValueError as error:
        raise Sorry(f"{path}, line {number}: {error}. Expected 'h k l re,im ...'.") from error
    if not np.all(np.isfinite(values)):
        raise Sorry(f"{path}, line {number}: a form factor is not a finite number.")
    return index, values


def validate(table, xray_structure, indices, name="table"):
    """Check that a table can stand for the scatterers of a structure in a refinement.

    Labels match one to one, every h.R is there, f near the origin has the number of
    electrons of the element, and site symmetry is obeyed.

    Returns
    -------
    list of str
        Warnings.

    Raises
    ------
    Sorry
        Naming what is missing.
    """
    scatterers = xray_structure.scatterers()
    wanted = [s.label.upper() for s in scatterers]
    found = [label.upper() for label in table.labels]
    duplicated = sorted({label for label in wanted if wanted.count(label) > 1})
    if duplicated:
        raise Sorry(
            f"{name}: the structure has more than one scatterer named "
            f"{', '.join(duplicated)}: a table cannot tell them apart."
        )
    missing = [label for label in wanted if label not in found]
    extra = [label for label in found if label not in wanted]
    if missing or extra or len(found) != len(wanted):
        parts = []
        if missing:
            parts.append(f"missing: {' '.join(missing)}")
        if extra:
            parts.append(f"not in the structure: {' '.join(extra)}")
        raise Sorry(
            f"{name}: {len(found)} scatterers for a structure with {len(wanted)}; "
            f"{'; '.join(parts) or 'a label is listed twice'}."
        )
    required = expanded_indices(indices, xray_structure.space_group())
    rows = {tuple(h): i for i, h in enumerate(table.indices.tolist())}
    absent = [tuple(h) for h in required.tolist() if tuple(h) not in rows]
    if absent:
        shown = ", ".join(str(h) for h in absent[:5])
        raise Sorry(
            f"{name}: {len(absent)} of the {len(required)} indices h.R are missing, such "
            f"as {shown}. Calculate the table to the resolution of the data and for "
            "this space group."
        )
    check_electrons(table, xray_structure, name)
    return check_site_symmetry(table, xray_structure, required, rows, name)


def check_electrons(table, xray_structure, name):
    """Compare the lowest-angle form factor with the spherical atom of the element."""
    d_star_sq = np.array(
        xray_structure.unit_cell().d_star_sq(
            flex.miller_index([tuple(h) for h in table.indices.tolist()])
        )
    )
    lowest = int(np.argmin(d_star_sq))
    registry = xray_structure.scattering_type_registry()
    for scatterer in xray_structure.scatterers():
        column = [label.upper() for label in table.labels].index(scatterer.label.upper())
        expected = registry.gaussian_not_optional(scatterer.scattering_type).at_d_star_sq(
            float(d_star_sq[lowest])
        )
        value = table.values[lowest, column]
        if abs(value - expected) > ELECTRON_TOLERANCE:
            h = tuple(table.indices[lowest])
            raise Sorry(
                f"{name}: {scatterer.label} has f{h} = {value:.2f}, a spherical "
                f"{scatterer.scattering_type} has {expected:.2f}: wrong element, or a table "
                "that holds something else than form factors in electrons."
            )


def check_site_symmetry(table, xray_structure, required, rows, name):
    """Warn where f(h) and f(h.S) differ although S leaves the atom where it is."""
    warnings = []
    special = xray_structure.special_position_indices()
    labels = [label.upper() for label in table.labels]
    for i in special:
        scatterer = xray_structure.scatterers()[i]
        column = labels.index(scatterer.label.upper())
        largest = 0.0
        for rotation in site_rotations(xray_structure, i):
            mates = required @ rotation
            pairs = [
                (rows[tuple(h)], rows.get(tuple(g)))
                for h, g in zip(required.tolist(), mates.tolist(), strict=True)
            ]
            pairs = np.array([p for p in pairs if p[1] is not None])
            if len(pairs):
                difference = np.abs(
                    table.values[pairs[:, 0], column] - table.values[pairs[:, 1], column]
                )
                largest = max(largest, float(difference.max()))
        if largest > SYMMETRY_TOLERANCE:
            warnings.append(
                f"{name}: the form factor of {scatterer.label} breaks its site "
                f"symmetry by {largest:.3f} e"
            )
    return warnings


def site_rotations(xray_structure, index):
    """Rotation parts of the operations that leave a scatterer in place, (n, 3, 3) int."""
    site_symmetry = xray_structure.site_symmetry(xray_structure.scatterers()[index].site)
    return np.array(
        [[round(v) for v in op.r().as_double()] for op in site_symmetry.matrices()], dtype=int
    ).reshape(-1, 3, 3)
