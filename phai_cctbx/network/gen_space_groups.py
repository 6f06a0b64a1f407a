"""Generator of ``space_groups.json``: the 230 space groups in reference settings.

Run with cctbx: ``cctbx.python phai_cctbx/network/gen_space_groups.py``. Everything comes from
``cctbx.sgtbx``; reference settings are those of ``space_group_info(number=n)``, that is unique
axis b, hexagonal axes, and the origin on an inversion centre where there is one.
"""
from __future__ import annotations

import itertools
import json
from pathlib import Path

from cctbx import sgtbx

DENOMINATOR = 24
TABLE = Path(__file__).with_name("space_groups.json")


def in_24ths(op: sgtbx.rt_mx) -> tuple[int, ...]:
    """Translation part of an operator modulo 1, in 24ths."""
    return tuple(int(round(t * DENOMINATOR)) % DENOMINATOR for t in op.t().as_double())


def canonical(shift, centring) -> tuple[int, ...]:
    """Representative of a shift modulo the lattice: the smallest of its centred copies."""
    return min(tuple((s + c) % DENOMINATOR for s, c in zip(shift, lattice)) for lattice in centring)


def origin_shifts(group, centring) -> tuple[list, list]:
    """Discrete allowed origin shifts (24ths, zero first) and continuous directions."""
    seminvariants = sgtbx.structure_seminvariants(group).vectors_and_moduli()
    polar = [list(item.v) for item in seminvariants if item.m == 0]
    discrete = [item for item in seminvariants if item.m != 0]
    shifts = set()
    for multiples in itertools.product(*(range(item.m) for item in discrete)):
        shift = [0, 0, 0]
        for multiple, item in zip(multiples, discrete):
            for axis in range(3):
                shift[axis] += multiple * item.v[axis] * DENOMINATOR // item.m
        shifts.add(canonical(shift, centring))
    return [list(shift) for shift in sorted(shifts)], polar


def axes_of_equal_gridding(rotations) -> list[int]:
    """For each axis the first axis with which it must share its number of grid points."""
    label = [0, 1, 2]
    for rotation in rotations:
        for i, j in itertools.product(range(3), repeat=2):
            if rotation[3 * i + j]:
                low, high = sorted((label[i], label[j]))
                label = [low if axis == high else axis for axis in label]
    return label


def entry(number: int, rotation_table: list) -> dict:
    """Row of the table for one group; rotations new to `rotation_table` are added to it."""
    info = sgtbx.space_group_info(number=number)
    group, group_type = info.group(), info.type()
    centring = [in_24ths(group(i, 0, 0)) for i in range(group.n_ltr())]
    operators, rotations = [], []
    for i_inv in range(group.f_inv()):
        for i_smx in range(group.n_smx()):
            op = group(0, i_inv, i_smx)
            rotation = list(op.r().num())
            rotations.append(rotation)
            if rotation not in rotation_table:
                rotation_table.append(rotation)
            operators.append([rotation_table.index(rotation), *in_24ths(op)])
    shifts, polar = origin_shifts(group, centring)
    hand = group_type.change_of_hand_op().c() if not group.is_centric() else None
    mate = info.change_hand()
    grid = sgtbx.structure_seminvariants(group).refine_gridding(group.gridding())
    if hand is not None:
        shift = in_24ths(hand)
        grid = tuple(n if s * n % DENOMINATOR == 0 else 0 for n, s in zip(grid, shift))
        assert min(grid) > 0 and tuple(hand.r().num()) == (-1, 0, 0, 0, -1, 0, 0, 0, -1)
        assert mate.group() == sgtbx.space_group_info(number=mate.type().number()).group()
    label = axes_of_equal_gridding(rotations)
    grid = [max(grid[j] for j in range(3) if label[j] == label[i]) for i in range(3)]
    return {
        "number": number,
        "symbol": str(info),
        "crystal_system": group.crystal_system().lower(),
        "centring": centring,
        "operators": operators,
        "centrosymmetric": group.is_centric(),
        "origin_shifts": shifts,
        "polar_directions": polar,
        "grid_factors": grid,
        "equal_gridding": label,
        "enantiomorph": mate.type().number(),
        "inversion_shift": in_24ths(hand) if hand is not None else [0, 0, 0],
    }


def main() -> None:
    """Write the table beside this file."""
    rotation_table: list = []
    groups = [entry(number, rotation_table) for number in range(1, 231)]
    lines = ",\n".join(json.dumps(group, separators=(",", ":")) for group in groups)
    rotations = json.dumps(rotation_table, separators=(",", ":"))
    TABLE.write_text(
        f'{{"denominator":{DENOMINATOR},\n"rotations":{rotations},\n"groups":[\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
