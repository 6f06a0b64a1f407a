"""Contents of the unit cell: from atom counts, from a formula, or from the volume."""

from __future__ import annotations

import re

from cctbx import crystal

from phai_cctbx.io.crystal_data import Composition
from phai_cctbx.io.shelx_instructions import element_symbol
from phai_cctbx.io.text_file import bad_input

# Average volume of a non-hydrogen atom in organic and organometallic crystals, A^3:
# C. J. E. Kempster & H. Lipson, Acta Cryst. B28 (1972) 3674.
VOLUME_PER_ATOM = 18.0
# Diamond, with 5.67 A^3 per atom, is the densest packing of atoms at ambient pressure.
MIN_VOLUME_PER_ATOM = 5.0
# Above this a UNIT is a placeholder such as UNIT 1 1 1 1 (porous frameworks stay below).
MAX_VOLUME_PER_ATOM = 120.0

HYDROGEN = "H"


def from_counts(elements, counts, source: str) -> Composition:
    """Return the composition of elements (repeats allowed) and their atoms per cell."""
    contents: dict[str, float] = {}
    for element, count in zip(elements, counts, strict=True):
        if count > 0:
            contents[element] = contents.get(element, 0.0) + float(count)
    return Composition(contents, source)


def parse_formula(formula: str) -> dict[str, float] | None:
    """Return the atoms of a formula such as ``"C10 H10 F2 N4"``, or None if it is none."""
    contents: dict[str, float] = {}
    text = formula.strip().strip("'\"")
    for part in re.sub(r"[,\s]+", " ", text).split():
        match = re.fullmatch(r"([A-Z][a-z]?)(\d*\.?\d*)(?:\(\d+\))?", part)
        element = element_symbol(match.group(1)) if match else None
        if element is None:
            return None
        contents[element] = contents.get(element, 0.0) + float(match.group(2) or 1)
    return contents or None


def estimate(crystal_symmetry: crystal.symmetry, elements=()) -> Composition:
    """Estimate the composition from the volume, 18 A^3 per non-hydrogen atom.

    Each non-hydrogen element of `elements` is given one atom per asymmetric
    unit, as far as the volume allows; the rest is carbon (or the first
    element, where a list without carbon is given). Where hydrogen is listed,
    it is as frequent as carbon.
    """
    n_atoms = crystal_symmetry.unit_cell().volume() / VOLUME_PER_ATOM
    order = crystal_symmetry.space_group().order_z()
    heavy = [e for e in dict.fromkeys(elements) if e != HYDROGEN]
    filler = "C" if not heavy or "C" in heavy else heavy[0]
    others = [element for element in heavy if element != filler]
    each = min(float(order), n_atoms / (len(others) + 1))
    contents = {filler: n_atoms - each * len(others)}
    contents.update(dict.fromkeys(others, each))
    if HYDROGEN in elements:
        contents[HYDROGEN] = contents[filler]
    return Composition(contents, "estimated from the volume")


def volume_per_atom(crystal_symmetry: crystal.symmetry, composition: Composition) -> float:
    """Return the cell volume per non-hydrogen atom, A^3."""
    n_heavy = sum(n for e, n in composition.unit_cell_contents.items() if e != HYDROGEN)
    return crystal_symmetry.unit_cell().volume() / n_heavy if n_heavy else float("inf")


def checked(
    composition: Composition, crystal_symmetry: crystal.symmetry, path, notes, line=None
) -> Composition:
    """Return a composition that fits the volume.

    A placeholder (far too few atoms) is replaced by an estimate, and `notes`
    says so.

    Raises
    ------
    Sorry
        If the atoms do not fit into the cell.
    """
    volume = volume_per_atom(crystal_symmetry, composition)
    if volume < MIN_VOLUME_PER_ATOM:
        raise bad_input(
            path,
            f"{volume:.1f} A^3 of cell volume per non-hydrogen atom of {composition.source}"
            " is denser than diamond",
            "Correct the cell, or the contents of the cell",
            line,
        )
    if volume > MAX_VOLUME_PER_ATOM:
        notes.append(
            f"{path}: {composition.source} leaves {volume:.0f} A^3 per non-hydrogen atom, taken as"
            " a placeholder; the contents of the cell are estimated from the volume"
        )
        return estimate(crystal_symmetry, tuple(composition.unit_cell_contents))
    return composition
