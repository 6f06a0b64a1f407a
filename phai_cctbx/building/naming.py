"""Atom names: element and number, along the molecule, hydrogens after their parent."""

from __future__ import annotations

from collections import defaultdict
from string import ascii_uppercase

# cctbx
from cctbx import xray
from cctbx.array_family import flex

from phai_cctbx.building.connectivity import (
    HYDROGENS,
    atomic_number,
    bonds,
    element_of,
    fragments,
)

#: Characters of an atom name that SHELX reads.
LONGEST_NAME = 4


def _order(structure: xray.structure, neighbours) -> list[int]:
    """Heavy atoms in the order of their names: fragment by fragment, along the bonds."""
    elements = [element_of(scatterer) for scatterer in structure.scatterers()]
    heavy = [[n for n in near if elements[n.index] not in HYDROGENS] for near in neighbours]
    order: list[int] = []
    for fragment in fragments(heavy):
        members = [i for i, _ in fragment if elements[i] not in HYDROGENS]
        if not members:
            continue
        start = min(members, key=lambda i: (-atomic_number(elements[i]), len(heavy[i]), i))
        queue, seen = [start], {start}
        while queue:
            i = queue.pop(0)
            order.append(i)
            for neighbour in heavy[i]:
                if neighbour.index not in seen:
                    seen.add(neighbour.index)
                    queue.append(neighbour.index)
    return order


def rename(structure: xray.structure) -> xray.structure:
    """Order and name the scatterers of a structure.

    Heavy atoms are named by element and a running number (C1, C2, N1), heavy
    elements first, then along the bonds; each hydrogen follows its parent and takes
    its number (H1, or H1A, H1B where there are several). Where two parents have the
    same number (C1 and N1), the parent's element joins the name (HN1).

    Parameters
    ----------
    structure : xray.structure

    Returns
    -------
    xray.structure
        The same scatterers in the new order.
    """
    scatterers = structure.scatterers()
    neighbours = bonds(structure)
    elements = [element_of(scatterer) for scatterer in scatterers]
    counts: dict[str, int] = defaultdict(int)
    labels: dict[int, str] = {}
    order: list[int] = []
    used: set[str] = set()
    placed: set[int] = set()
    for i in _order(structure, neighbours):
        counts[elements[i]] += 1
        number = counts[elements[i]]
        labels[i] = f"{elements[i].upper() if len(elements[i]) == 1 else elements[i]}{number}"
        used.add(labels[i])
        order.append(i)
        hydrogens = [
            n.index
            for n in neighbours[i]
            if elements[n.index] in HYDROGENS and n.index not in placed
        ]
        hydrogens = list(dict.fromkeys(hydrogens))
        names = hydrogen_names(labels[i], elements[i], len(hydrogens), used)
        for name, j in zip(names, hydrogens, strict=True):
            placed.add(j)
            labels[j] = elements[j] + name[1:]
            used.add(labels[j])
            order.append(j)
    for j in range(scatterers.size()):
        if j not in labels:
            counts[elements[j]] += 1
            while f"{elements[j]}X{counts[elements[j]]}" in used:
                counts[elements[j]] += 1
            labels[j] = f"{elements[j]}X{counts[elements[j]]}"
            order.append(j)
    return reorder(structure, order, labels)


def hydrogen_names(parent: str, element: str, n: int, used: set[str]) -> list[str]:
    """Names of the hydrogens of an atom: H1 on C1, HN1 on N1, HN1A and so on for several.

    Where that would be longer than SHELX reads, or is taken, the parent's element is left out,
    then other letters follow the number, then letters take its place.

    Parameters
    ----------
    parent, element : str
        Label and element of the atom that carries them.
    n : int
    used : set of str
        Names that are taken.
    """
    number = parent[len(element) :]
    stem = f"H{number}" if element == "C" else f"H{element.upper()}{number}"
    several = [
        [f"{start}{letter}" for letter in ascii_uppercase[:n]] for start in (stem, f"H{number}")
    ]
    choices = [[stem], [f"H{number}"]] if n == 1 else several
    free_letters = [f"H{number}{letter}" for letter in ascii_uppercase]
    free_letters += [f"H{first}{second}" for first in ascii_uppercase for second in ascii_uppercase]
    choices.append([name for name in free_letters if _fits(name, used)][:n])
    return next(names for names in choices if all(_fits(name, used) for name in names))


def _fits(name: str, used: set[str]) -> bool:
    return len(name) <= LONGEST_NAME and name not in used


def reorder(structure: xray.structure, order: list[int], labels: dict[int, str]) -> xray.structure:
    """Copy of a structure with its scatterers in another order and under other labels."""
    result = structure.select(flex.size_t(order))
    for scatterer, i in zip(result.scatterers(), order, strict=True):
        scatterer.label = labels[i]
    return result
