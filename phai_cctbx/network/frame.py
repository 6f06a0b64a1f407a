"""A batch of crystals as the network sees them, all but the amplitudes.

`describe` works out, for one crystal, reflections, their symmetry, grid points of
the asymmetric unit and allowed origins; `stack` pads such descriptions to one
batch of tensors, the `Frame`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from phai_cctbx.network.expectation import random_phase_factor
from phai_cctbx.network.fourier import (
    basis_norm,
    half_operations,
    in_places,
    parity,
    places_by_parity,
    symmetrised_waves,
)
from phai_cctbx.network.grid import asymmetric_unit_points, grid_size
from phai_cctbx.network.normalisation import NOT_MEASURED, normalised_amplitudes
from phai_cctbx.network.reflections import d_star, direct_metric, reflection_symmetry
from phai_cctbx.network.space_groups import SpaceGroup, space_group

#: Polar origins are first sought on steps of d_min over this, then refined.
POLAR_STEPS_PER_D_MIN = 3.0


@dataclass(frozen=True)
class Transform:
    """Between reflections and grid points, as `FourierOperator.forward` takes it.

    b crystals, s half shifts of the origin and as many classes of reflections (`parity`), the
    largest of them with l reflections, k parts of a complex number, g grid points.
    """

    blocks: Tensor  # (b, s, k * l, g): orthonormal symmetrised Fourier basis, class by class
    weights: Tensor  # (b, g); share of the cell; 0 pads
    places: Tensor  # (b, n): of each reflection among the s * l; s * l for padding


@dataclass(frozen=True)
class Frame:
    """Crystals of one kind (`kind_of_group`), padded to one size.

    b crystals, k parts of a complex number (1 where centrosymmetric, else 2),
    n reflections, g grid points, m operations, q origins, p polar directions.
    """

    hkl: Tensor  # (b, n, 3)
    d_star: Tensor  # (b, n), A^-1
    epsilon: Tensor  # (b, n); 0 pads
    multiplicity: Tensor  # (b, n): equivalents in P1, Friedel mates included
    centric: Tensor  # (b, n), bool
    restricted_phase: Tensor  # (b, n), radians modulo pi
    mask: Tensor  # (b, n); 0 pads
    measured: Tensor  # (b, n); 0 where there is no amplitude, and where mask is 0
    parity: Tensor  # (b, n), int64: class among the half shifts
    points: Tensor  # (b, g, 3), fractional; their copies by half shifts are not listed
    weights: Tensor  # (b, g); share of the cell; 0 pads
    rotations: Tensor  # (b, m, 3, 3); of `half_operations` where centrosymmetric
    translations: Tensor  # (b, m, 3)
    n_operations: Tensor  # (b,), modulo centring
    origins: Tensor  # (b, q, 3)
    origin_mask: Tensor  # (b, q)
    polar: Tensor  # (b, 3, 3); zero rows where there is no further direction
    inversion_shift: Tensor  # (b, 3)
    hand_free: Tensor  # (b,); 1 where the inverted structure is in the same group
    volume: Tensor  # (b,), A^3
    numbers: Tensor  # (b,), int64: space group

    @property
    def centrosymmetric(self) -> bool:
        """Whether its crystals are (a batch holds one kind)."""
        return kind_of_group(int(self.numbers[0]))[0]

    @property
    def n_shifts(self) -> int:
        """s: half shifts of the origin, zero included."""
        return kind_of_group(int(self.numbers[0]))[1]

    @property
    def n_parts(self) -> int:
        """k: 1 where centrosymmetric, else 2."""
        return 1 if self.centrosymmetric else 2

    def to(self, device: torch.device):
        """The same on another device."""
        return replace(self, **{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    def repeat(self, n: int):
        """The one crystal of this frame, n times (views, no copies)."""
        return replace(
            self,
            **{
                f.name: getattr(self, f.name).expand(n, *getattr(self, f.name).shape[1:])
                for f in fields(self)
            },
        )

    def transform(self) -> Transform:
        """What takes the reflections to the grid points and back."""
        s = self.n_shifts
        places, length = places_by_parity(self.parity, self.mask, s)
        hkl = in_places(self.hkl, places, s * length)
        norm = basis_norm(self.epsilon * self.mask, self.centric, self.n_operations)
        waves = symmetrised_waves(
            hkl, self.points, self.rotations, self.translations, self.centrosymmetric
        )
        waves = waves * in_places(norm, places, s * length)[:, None, :, None]
        blocks = waves.unflatten(2, (s, length)).transpose(1, 2).flatten(2, 3)
        return Transform(blocks, self.weights, places)

    def one_pass(
        self, model: torch.nn.Module, transform: Transform, e_value: Tensor, start: Tensor
    ) -> Tensor:
        """kappa exp(i phase) that a network (`FourierOperator.forward`) makes of starts, both
        (starts of each crystal together, k, n), and of |E| as shown (b, n)."""
        return model(
            e_value, self.d_star, self.epsilon, self.centric, self.mask, start,
            transform.blocks, transform.weights, transform.places,
        )  # fmt: skip

    def shown_amplitudes(self, f_obs: Tensor) -> Tensor:
        """|E| as a network is shown it, `NOT_MEASURED` where there is none, from amplitudes on any
        scale; both (b, n)."""
        e_value = normalised_amplitudes(f_obs, self.d_star, self.epsilon, self.measured)
        return e_value + NOT_MEASURED * (self.mask - self.measured)

    def random_start(self, generator: torch.Generator) -> Tensor:
        """Random phase factors that obey the group's restrictions, (b, k, n)."""
        start = random_phase_factor(self.centric, self.restricted_phase, self.n_parts, generator)
        return start * self.mask[:, None]


#: Entries of a description that `stack` pads along their first axis.
_PADDED = (
    "hkl", "d_star", "epsilon", "multiplicity", "centric", "restricted_phase", "mask", "measured",
    "parity", "points", "weights", "rotations", "translations", "origins", "origin_mask",
)  # fmt: skip


def kind_of_group(number: int) -> tuple[bool, int]:
    """Whether a space group is centrosymmetric, and its number of half shifts: crystals that are
    alike in both may share a batch."""
    group = space_group(number)
    return group.centrosymmetric, len(group.half_shifts)


def origin_candidates(group: SpaceGroup, unit_cell: np.ndarray, d_min: float) -> np.ndarray:
    """Allowed origin shifts; continuous directions in steps, shape (q, 3)."""
    shifts = group.origin_shifts
    metric = direct_metric(unit_cell)
    for direction in group.polar_directions:
        length = float(np.sqrt(direction @ metric @ direction))
        n_steps = int(np.ceil(POLAR_STEPS_PER_D_MIN * length / d_min))
        steps = np.arange(n_steps)[:, None] / n_steps * direction
        shifts = (shifts[:, None] + steps[None]).reshape(-1, 3)
    return shifts


def describe(
    number: int,
    unit_cell: np.ndarray,
    hkl: np.ndarray,
    d_min: float,
    grid_points_per_d_min: float,
    measured: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """What a `Frame` holds of one crystal.

    Parameters
    ----------
    number : int
        Space group; everything is in its reference setting.
    unit_cell : ndarray, shape (6,)
        A and degrees.
    hkl : ndarray of int, shape (n, 3)
        Unique reflections, no absences.
    d_min : float
        Resolution of the grid, A.
    grid_points_per_d_min : float
    measured : ndarray of bool, shape (n,), optional
        Which reflections have amplitudes; by default all.
    """
    group = space_group(number)
    symmetry = reflection_symmetry(group, hkl)
    size = grid_size(group, unit_cell, d_min / grid_points_per_d_min)
    points, weights = asymmetric_unit_points(number, size)
    rotations = torch.from_numpy(group.rotations.astype(np.float32))
    used = half_operations(rotations).numpy() if group.centrosymmetric else slice(None)
    origins = origin_candidates(group, unit_cell, d_min)
    polar = np.zeros((3, 3))
    polar[: len(group.polar_directions)] = group.polar_directions
    n_operations = len(group.rotations)
    friedel = np.where(symmetry.centric, 1.0, 2.0)
    entries = {
        "hkl": hkl,
        "d_star": d_star(unit_cell, hkl),
        "epsilon": symmetry.epsilon,
        "multiplicity": friedel * n_operations / symmetry.epsilon,
        "restricted_phase": symmetry.restricted_phase,
        "mask": np.ones(len(hkl)),
        "measured": np.ones(len(hkl)) if measured is None else measured,
        "points": points,
        "weights": weights,
        "rotations": group.rotations[used],
        "translations": group.translations[used],
        "n_operations": n_operations,
        "origins": origins,
        "origin_mask": np.ones(len(origins)),
        "polar": polar,
        "inversion_shift": group.inversion_shift,
        "hand_free": float(group.inversion_stays and not group.centrosymmetric),
        "volume": np.sqrt(np.linalg.det(direct_metric(unit_cell))),
    }
    described = {name: np.asarray(value, dtype=np.float32) for name, value in entries.items()}
    described["centric"] = symmetry.centric
    described["parity"] = parity(group, hkl)
    described["numbers"] = np.asarray(number, dtype=np.int64)
    return described


def pad(arrays: list[np.ndarray]) -> np.ndarray:
    """Arrays of different first length in one, zeros behind the shorter ones."""
    padded = np.zeros((len(arrays), max(map(len, arrays)), *arrays[0].shape[1:]), arrays[0].dtype)
    for row, array in zip(padded, arrays, strict=True):
        row[: len(array)] = array
    return padded


def stack(described: list[dict[str, np.ndarray]]) -> dict[str, Tensor]:
    """Descriptions as padded tensors, the arguments of a `Frame`.

    Raises
    ------
    ValueError
        Where crystals of several kinds (`kind_of_group`) are mixed.
    """
    kinds = {kind_of_group(int(d["numbers"])) for d in described}
    if len(kinds) != 1:
        raise ValueError("crystals of several kinds of space groups in one batch")
    tensors = {}
    for name in described[0]:
        arrays = [d[name] for d in described]
        tensors[name] = torch.from_numpy(pad(arrays) if name in _PADDED else np.stack(arrays))
    return tensors
