"""Symmetry of the 230 space groups in reference settings, without cctbx.

The table ``space_groups.json`` is made by ``gen_space_groups.py`` from ``cctbx.sgtbx``: unique
axis b, hexagonal axes, inversion centre at the origin where there is one. An operator maps
fractional coordinates as ``x' = R x + t`` (column vectors), hence
``F(h) = F(h R) exp(2 pi i h.t)`` for row vectors ``h``.
"""
from __future__ import annotations

import functools
import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

TABLE = Path(__file__).with_name("space_groups.json")
#: Fractions are multiples of 1/24; a difference below this is none.
LATTICE_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class SpaceGroup:
    """One space group in its reference setting.

    Attributes
    ----------
    number : int
        Number in International Tables A.
    symbol : str
        Hermann-Mauguin symbol of the setting.
    crystal_system : str
        ``triclinic``, ``monoclinic``, ... ``cubic`` (``trigonal`` in hexagonal axes).
    centring : (n_centring, 3) float
        Lattice translations in fractions, zero first.
    rotations : (n_operators, 3, 3) int
        Rotation parts modulo centring, identity first.
    translations : (n_operators, 3) float
        Translation parts in fractions, in [0, 1).
    centrosymmetric : bool
    origin_shifts : (n_shifts, 3) float
        Distinct discrete shifts (fractions, zero first) that leave the operators unchanged.
    polar_directions : (n_polar, 3) int
        Lattice directions along which the origin may be shifted continuously.
    grid_factors : (3,) int
        Numbers that the grid points of each axis must be multiples of, so that operators, origin
        shifts and inversion map the grid onto itself.
    equal_gridding : (3,) int
        For each axis the first axis that must have the same number of grid points.
    enantiomorph : int
        Number of the group of the inverted structure (its own number in all but 22 groups).
    inversion_shift : (3,) float
        The structure ``-x + inversion_shift`` obeys the operators of ``enantiomorph`` in its
        reference setting.
    """

    number: int
    symbol: str
    crystal_system: str
    centring: np.ndarray
    rotations: np.ndarray
    translations: np.ndarray
    centrosymmetric: bool
    origin_shifts: np.ndarray
    polar_directions: np.ndarray
    grid_factors: np.ndarray
    equal_gridding: np.ndarray
    enantiomorph: int
    inversion_shift: np.ndarray

    @property
    def multiplicity(self) -> int:
        """Number of general positions in the cell, centring included."""
        return len(self.rotations) * len(self.centring)

    @functools.cached_property
    def half_shifts(self) -> np.ndarray:
        """Allowed origin shifts by half axes, distinct modulo centring, zero first, (2^m, 3).

        Row i is the sum of the rows 2^j of the bits j of i. A shift by s multiplies F(h) by
        exp(2 pi i h.s), here 1 or -1.
        """
        shifts = np.zeros((1, 3))
        for shift in itertools.product((0.0, 0.5), repeat=3):
            moved = self.rotations @ shift - shift
            if self._is_in_lattice(moved).all() and not self._is_in_lattice(shifts - shift).any():
                shifts = np.concatenate([shifts, (shifts + shift) % 1.0])
        return shifts

    def _is_in_lattice(self, vectors: np.ndarray) -> np.ndarray:
        """Which vectors (n, 3), in fractions, are lattice translations: bool, (n,)."""
        rest = vectors[:, None] - self.centring
        return (np.abs(rest - np.round(rest)) < LATTICE_TOLERANCE).all(2).any(1)

    @property
    def inversion_stays(self) -> bool:
        """Whether the inverted structure belongs to the same space group."""
        return self.enantiomorph == self.number

    def all_operators(self) -> tuple[np.ndarray, np.ndarray]:
        """Operators with centring: rotations (m, 3, 3) and translations (m, 3) in [0, 1)."""
        rotations = np.tile(self.rotations, (len(self.centring), 1, 1))
        translations = (self.centring[:, None] + self.translations[None]) % 1.0
        return rotations, translations.reshape(-1, 3)


@functools.lru_cache(maxsize=1)
def _table() -> tuple[int, np.ndarray, dict[int, dict]]:
    content = json.loads(TABLE.read_text(encoding="ascii"))
    rotations = np.array(content["rotations"], dtype=np.int64).reshape(-1, 3, 3)
    return content["denominator"], rotations, {g["number"]: g for g in content["groups"]}


@functools.cache
def space_group(number: int) -> SpaceGroup:
    """Space group of a number from International Tables A, in its reference setting.

    Raises
    ------
    ValueError
        If the number is not between 1 and 230.
    """
    denominator, rotation_table, groups = _table()
    if number not in groups:
        raise ValueError(f"space group number {number!r}: expected 1 to 230")
    group = groups[number]
    operators = np.array(group["operators"], dtype=np.int64)

    def fractions(values) -> np.ndarray:
        return np.array(values, dtype=np.float64).reshape(-1, 3) / denominator

    return SpaceGroup(
        number=number,
        symbol=group["symbol"],
        crystal_system=group["crystal_system"],
        centring=fractions(group["centring"]),
        rotations=rotation_table[operators[:, 0]],
        translations=fractions(operators[:, 1:]),
        centrosymmetric=group["centrosymmetric"],
        origin_shifts=fractions(group["origin_shifts"]),
        polar_directions=np.array(group["polar_directions"], dtype=np.int64).reshape(-1, 3),
        grid_factors=np.array(group["grid_factors"], dtype=np.int64),
        equal_gridding=np.array(group["equal_gridding"], dtype=np.int64),
        enantiomorph=group["enantiomorph"],
        inversion_shift=fractions(group["inversion_shift"])[0],
    )
