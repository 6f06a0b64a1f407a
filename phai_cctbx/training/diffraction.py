"""Diffraction from artificial crystals: what the network is shown, and the truth.

`collate` prepares on the CPU what depends on each crystal's symmetry (reflections,
grid points, origins); `diffract` computes structure factors, disturbs the
amplitudes as an experiment does, and normalises them, on any device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from phai_cctbx.network.expectation import random_phase_factor
from phai_cctbx.network.fourier import basis_norm, half_operations, symmetrised_waves
from phai_cctbx.network.grid import asymmetric_unit_points, grid_size
from phai_cctbx.network.normalisation import normalised_amplitudes
from phai_cctbx.network.reflections import d_star, indices_to, unique_reflections
from phai_cctbx.network.space_groups import SpaceGroup, space_group
from phai_cctbx.training.crystals import Crystal
from phai_cctbx.training.elements import form_factors

#: Polar origins are first sought on steps of d_min over this, then refined.
POLAR_STEPS_PER_D_MIN = 3.0


@dataclass(frozen=True)
class Experiment:
    """How the amplitudes differ from the calculated ones.

    Attributes
    ----------
    d_min : tuple of float
        Range of the resolution cut, A, drawn uniformly for each crystal.
    missing : float
        Largest share of reflections absent from the data.
    noise : float
        Largest relative error of an amplitude (standard deviation).
    """

    d_min: tuple[float, float] = (1.8, 2.3)
    missing: float = 0.3
    noise: float = 0.1


#: Amplitudes as calculated, complete to 2 A: the test of the design document.
CALCULATED_2A = Experiment(d_min=(2.0, 2.0), missing=0.0, noise=0.0)


@dataclass(frozen=True)
class Batch:
    """Crystals of one kind (all centrosymmetric, or none), padded to one size.

    b crystals, k parts of a complex number (1 or 2), n reflections, g grid
    points, a atoms, m operations, q origins, p polar directions.
    """

    hkl: Tensor  # (b, n, 3)
    d_star: Tensor  # (b, n), A^-1
    epsilon: Tensor  # (b, n)
    centric: Tensor  # (b, n), bool
    restricted_phase: Tensor  # (b, n), radians
    mask: Tensor  # (b, n)
    points: Tensor  # (b, g, 3)
    weights: Tensor  # (b, g)
    rotations: Tensor  # (b, m, 3, 3)
    translations: Tensor  # (b, m, 3)
    n_operations: Tensor  # (b,)
    sites: Tensor  # (b, a, 3)
    atomic_numbers: Tensor  # (b, a), int64; 0 pads
    occupancies: Tensor  # (b, a), times the share of the general position
    u_iso: Tensor  # (b, a), A^2
    origins: Tensor  # (b, q, 3)
    origin_mask: Tensor  # (b, q)
    polar: Tensor  # (b, p, 3)
    inversion_shift: Tensor  # (b, 3)
    hand_free: Tensor  # (b,), 1 where the inverted structure is as good
    volume: Tensor  # (b,), A^3
    numbers: Tensor  # (b,), int64: space group

    @property
    def n_parts(self) -> int:
        return 1 if bool(space_group(int(self.numbers[0])).centrosymmetric) else 2

    def to(self, device: torch.device) -> Batch:
        moved = {f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)}
        return replace(self, **moved)


@dataclass(frozen=True)
class Diffraction:
    """Input and truth of a batch: e_value (b, n), phase factor (b, k, n), basis (b, k*n, g)."""

    batch: Batch
    e_value: Tensor
    f_sq: Tensor
    phase_factor: Tensor
    basis: Tensor


def origin_candidates(group: SpaceGroup, unit_cell: np.ndarray, d_min: float) -> np.ndarray:
    """Allowed origin shifts; continuous directions on a grid, shape (q, 3)."""
    shifts = group.origin_shifts
    lengths = np.asarray(unit_cell)[:3]
    for direction in group.polar_directions:
        length = float(np.linalg.norm(direction * lengths))
        n_steps = int(np.ceil(POLAR_STEPS_PER_D_MIN * length / d_min))
        steps = np.arange(n_steps)[:, None] / n_steps * direction
        shifts = (shifts[:, None] + steps[None]).reshape(-1, 3)
    return shifts


def _pad(arrays: list[np.ndarray], fill=0) -> np.ndarray:
    longest = max(len(a) for a in arrays)
    first = arrays[0]
    padded = np.full((len(arrays), longest, *first.shape[1:]), fill, dtype=first.dtype)
    for i, a in enumerate(arrays):
        padded[i, : len(a)] = a
    return padded


def collate(
    crystals: list[Crystal],
    experiment: Experiment,
    grid_points_per_d_min: float,
    rng: np.random.Generator,
) -> Batch:
    """Everything of a batch that is not a structure factor.

    Raises
    ------
    ValueError
        Where centrosymmetric and other crystals are mixed.
    """
    groups = [space_group(c.number) for c in crystals]
    if len({g.centrosymmetric for g in groups}) != 1:
        raise ValueError("centrosymmetric and non-centrosymmetric crystals in one batch")
    rows: dict[str, list[np.ndarray]] = {name: [] for name in BATCH_LISTS}
    for crystal, group in zip(crystals, groups, strict=True):
        d_min = rng.uniform(*experiment.d_min)
        hkl, symmetry = unique_reflections(group.number, indices_to(crystal.unit_cell, d_min))
        inverse_d = d_star(crystal.unit_cell, hkl)
        kept = inverse_d <= 1.0 / d_min
        kept &= measured(hkl, inverse_d, experiment.missing * rng.random(), rng)
        symmetry = symmetry.select(kept)
        size = grid_size(group, crystal.unit_cell, d_min / grid_points_per_d_min)
        points, weights = asymmetric_unit_points(group.number, size)
        rows["hkl"].append(hkl[kept].astype(np.float32))
        rows["d_star"].append(inverse_d[kept].astype(np.float32))
        rows["epsilon"].append(symmetry.epsilon.astype(np.float32))
        rows["centric"].append(symmetry.centric)
        rows["restricted_phase"].append(symmetry.restricted_phase.astype(np.float32))
        rows["mask"].append(np.ones(int(kept.sum()), dtype=np.float32))
        rows["points"].append(points)
        rows["weights"].append(weights)
        rotations = torch.from_numpy(group.rotations.astype(np.float32))
        used = half_operations(rotations) if group.centrosymmetric else slice(None)
        rows["rotations"].append(rotations[used].numpy())
        rows["translations"].append(group.translations.astype(np.float32)[used])
        rows["sites"].append(crystal.sites.astype(np.float32))
        rows["atomic_numbers"].append(crystal.atomic_numbers.astype(np.int64))
        rows["occupancies"].append(crystal.occupancies.astype(np.float32))
        rows["u_iso"].append(crystal.u_iso.astype(np.float32))
        origins = origin_candidates(group, crystal.unit_cell, d_min).astype(np.float32)
        rows["origins"].append(origins)
        rows["origin_mask"].append(np.ones(len(origins), dtype=np.float32))
        polar = np.zeros((3, 3), dtype=np.float32)
        polar[: len(group.polar_directions)] = group.polar_directions
        rows["polar"].append(polar)
    tensors = {name: torch.from_numpy(_pad(arrays)) for name, arrays in rows.items()}
    return Batch(
        **tensors,
        n_operations=torch.tensor([float(len(g.rotations)) for g in groups]),
        inversion_shift=torch.tensor(np.array([g.inversion_shift for g in groups])).float(),
        hand_free=torch.tensor([float(g.inversion_stays) for g in groups]),
        volume=torch.tensor([c.volume for c in crystals]).float(),
        numbers=torch.tensor([g.number for g in groups]),
    )


BATCH_LISTS = (
    "hkl", "d_star", "epsilon", "centric", "restricted_phase", "mask", "points", "weights",
    "rotations", "translations", "sites", "atomic_numbers", "occupancies", "u_iso", "origins",
    "origin_mask", "polar",
)  # fmt: skip


def measured(
    hkl: np.ndarray, inverse_d: np.ndarray, share_missing: float, rng: np.random.Generator
) -> np.ndarray:
    """Which reflections were measured: some are missing at random, below the beam
    stop, or in a cone about an axis (a missing wedge).

    Returns
    -------
    ndarray of bool, shape (n,)
    """
    kind = rng.random()
    if kind < 0.5 or len(hkl) < 40:
        return rng.random(len(hkl)) >= share_missing
    if kind < 0.75:
        n_lowest = int(rng.integers(0, 4))
        kept = rng.random(len(hkl)) >= 0.3 * share_missing
        kept[np.argsort(inverse_d)[:n_lowest]] = False
        return kept
    axis = rng.normal(size=3)
    along = np.abs(hkl @ axis) / (np.linalg.norm(hkl, axis=1) * np.linalg.norm(axis))
    return along < np.quantile(along, 1.0 - share_missing) + 1e-9


def structure_factors(batch: Batch) -> Tensor:
    """F(h) of every reflection, shape (b, k, n); electrons.

    Atoms scatter with tabulated form factors and isotropic displacements:
    f(s) exp(-8 pi^2 U s^2), s = d*/2.
    """
    s_sq = (batch.d_star / 2.0).square()
    f = form_factors(batch.atomic_numbers, s_sq)
    f = f * batch.occupancies[:, None] * torch.exp(
        -8.0 * math.pi**2 * batch.u_iso[:, None] * s_sq[..., None]
    )
    waves = symmetrised_waves(
        batch.hkl, batch.sites, batch.rotations, batch.translations, batch.n_parts == 1
    )
    return (waves * f[:, None]).sum(-1)


def diffract(batch: Batch, experiment: Experiment, generator: torch.Generator) -> Diffraction:
    """Amplitudes as measured, normalised, with the true phases.

    Parameters
    ----------
    batch : Batch
    experiment : Experiment
    generator : torch.Generator
        On the device of the batch.
    """
    f_calc = structure_factors(batch) * batch.mask[:, None]
    amplitude = torch.sqrt(f_calc.square().sum(1))
    device = amplitude.device
    level = experiment.noise * torch.rand(len(amplitude), 1, generator=generator, device=device)
    error = torch.randn(amplitude.shape, generator=generator, device=device)
    typical = torch.sqrt(
        amplitude.square().sum(1, keepdim=True) / batch.mask.sum(1, keepdim=True)
    )
    # relative errors, and a floor that weak reflections share
    f_obs = (amplitude * (1.0 + level * error) + 0.3 * level * typical * error.flip(1)).abs()
    e_value = normalised_amplitudes(f_obs, batch.d_star, batch.epsilon, batch.mask)
    waves = symmetrised_waves(
        batch.hkl, batch.points, batch.rotations, batch.translations, batch.n_parts == 1
    )
    norm = basis_norm(batch.epsilon * batch.mask, batch.centric, batch.n_operations)
    basis = (waves * norm[:, None, :, None]).flatten(1, 2)
    return Diffraction(
        batch=batch,
        e_value=e_value,
        f_sq=f_obs.square() * batch.mask,
        phase_factor=f_calc / amplitude.clamp(min=1e-6)[:, None],
        basis=basis,
    )


def random_start(batch: Batch, generator: torch.Generator) -> Tensor:
    """Random phases that obey the group's restrictions, shape (b, k, n)."""
    return random_phase_factor(
        batch.centric, batch.restricted_phase, batch.n_parts, generator
    ) * batch.mask[:, None]
