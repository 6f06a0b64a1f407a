"""Diffraction from artificial crystals: what the network is shown, and the truth.

`collate` prepares on the CPU what depends on each crystal's symmetry (reflections,
grid points, origins); `diffract` computes structure factors, disturbs the
amplitudes as an experiment does, and normalises them, on any device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from phai_cctbx.network.fourier import symmetrised_waves
from phai_cctbx.network.frame import Frame, Transform, describe, pad, stack
from phai_cctbx.network.reflections import d_star, indices_to, unique_reflections
from phai_cctbx.network.space_groups import space_group
from phai_cctbx.training.crystals import Crystal, equal_edges, orthogonalisation
from phai_cctbx.training.elements import CHARGE, ELECTRONEGATIVITIES, form_factors
from phai_cctbx.training.molecules import bonds


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
    strain : float
        Standard deviation of the logarithm of each edge of the cell about that of the pool, so
        that a crystal is never shown twice; displacements vary by `U_VARIATION` with it.
    polarity : float
        Electrons that a bond moves, per unit of the difference in electronegativity: `polarised`.
    overloads : float
        Largest share of reflections absent because the detector was saturated.
    fills_in : bool
        Whether the network is shown absent reflections as well, without an amplitude
        (`NOT_MEASURED`), and learns to phase them.
    complete : float
        Share of the crystals of which nothing is missing at random; the others draw their share
        uniformly up to `missing`.
    """

    d_min: tuple[float, float] = (1.8, 2.3)
    missing: float = 0.3
    noise: float = 0.1
    strain: float = 0.03
    polarity: float = 0.0
    overloads: float = 0.15
    fills_in: bool = True
    complete: float = 0.4


#: Share of the crystals that were measured for too long: up to `Experiment.overloads` of their
#: reflections, mostly few, the strongest ones, are missing. Measured data sets often lack them.
OVERLOADED_SHARE = 0.3
#: Standard deviation of the logarithm of an intensity when it is decided what is too strong.
OVERLOAD_SPREAD = 0.5

#: Standard deviation of the logarithm of all U_iso of a strained crystal.
U_VARIATION = 0.3

#: Amplitudes as calculated, complete to 2 A: the test of the design document.
CALCULATED_2A = Experiment(
    d_min=(2.0, 2.0), missing=0.0, noise=0.0, strain=0.0, overloads=0.0
)


@dataclass(frozen=True)
class Batch(Frame):
    """A `Frame` with the atoms of its crystals; a atoms, padded."""

    sites: Tensor  # (b, a, 3), fractional
    atomic_numbers: Tensor  # (b, a), int64; 0 pads
    occupancies: Tensor  # (b, a), times the share of the general position
    u_iso: Tensor  # (b, a), A^2


@dataclass(frozen=True)
class Diffraction:
    """Input and truth of a batch.

    Attributes
    ----------
    batch : Batch
    e_value : Tensor, shape (b, n)
        As the network is shown it.
    f_sq_all : Tensor, shape (b, n)
        F^2 of all reflections, those without a measured amplitude as well.
    phase_factor : Tensor, shape (b, k, n)
        The truth.
    transform : Transform
    """

    batch: Batch
    e_value: Tensor
    f_sq_all: Tensor
    phase_factor: Tensor
    transform: Transform

    @property
    def f_sq(self) -> Tensor:
        """F^2 as measured, 0 where there is none, (b, n)."""
        return self.f_sq_all * self.batch.measured

    def one_pass(self, model: torch.nn.Module, start: Tensor) -> Tensor:
        """kappa exp(i phase) that a network makes of a start, both (b, k, n)."""
        return self.batch.one_pass(model, self.transform, self.e_value, start)


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
        Where crystals of several kinds (`kind_of_group`) are mixed.
    """
    if experiment.strain > 0.0:
        crystals = [strained(crystal, experiment.strain, rng) for crystal in crystals]
    if experiment.polarity > 0.0:
        crystals = [polarised(crystal, experiment.polarity) for crystal in crystals]
    described = []
    for crystal in crystals:
        d_min = rng.uniform(*experiment.d_min)
        hkl, _ = unique_reflections(crystal.number, indices_to(crystal.unit_cell, d_min))
        inverse_d = d_star(crystal.unit_cell, hkl)
        inside = inverse_d <= 1.0 / d_min
        hkl, inverse_d = hkl[inside], inverse_d[inside]
        beyond = rng.random() - experiment.complete
        share_missing = 0.0
        if beyond > 0.0:
            share_missing = experiment.missing * beyond / (1.0 - experiment.complete)
        present = measured(hkl, inverse_d, share_missing, rng)
        if not experiment.fills_in:
            hkl, present = hkl[present], present[present]
        described.append(
            describe(crystal.number, crystal.unit_cell, hkl, d_min, grid_points_per_d_min, present)
        )
    atoms = {
        "sites": [c.sites.astype(np.float32) for c in crystals],
        "atomic_numbers": [c.atomic_numbers.astype(np.int64) for c in crystals],
        "occupancies": [c.occupancies.astype(np.float32) for c in crystals],
        "u_iso": [c.u_iso.astype(np.float32) for c in crystals],
    }
    padded = {name: torch.from_numpy(pad(arrays)) for name, arrays in atoms.items()}
    return Batch(**stack(described), **padded)


def strained(crystal: Crystal, strain: float, rng: np.random.Generator) -> Crystal:
    """A crystal with other edges, as its group allows, and another overall displacement."""
    edges = np.exp(strain * rng.normal(size=3))[equal_edges(space_group(crystal.number))]
    unit_cell = crystal.unit_cell * np.concatenate([edges, np.ones(3)])
    u_iso = crystal.u_iso * np.exp(U_VARIATION * rng.normal())
    return replace(crystal, unit_cell=unit_cell, u_iso=u_iso)


def polarised(crystal: Crystal, polarity: float) -> Crystal:
    """A crystal with charges on its bonded atoms, as `CHARGE` scatterers at their sites.

    The largest part of what tells the atoms of a molecule from spherical neutral ones at 2 A is
    the charge that bonds move. Bonds to atoms outside the asymmetric unit are not seen.

    Parameters
    ----------
    crystal : Crystal
    polarity : float
        Electrons per bond and unit of the difference in electronegativity. 0.11 fits Hirshfeld
        atoms (B3LYP/def2-SVP) of glycine and L-alanine best.
    """
    chi = ELECTRONEGATIVITIES[crystal.atomic_numbers]
    cartesian = crystal.sites @ orthogonalisation(crystal.unit_cell).T
    polar = bonds(crystal.atomic_numbers, cartesian) & (chi[:, None] > 0.0) & (chi > 0.0)
    shared = np.minimum(crystal.occupancies[:, None], crystal.occupancies)
    gained = polarity * (polar * shared * (chi[:, None] - chi)).sum(axis=1)
    charged = gained != 0.0
    return replace(
        crystal,
        sites=np.concatenate([crystal.sites, crystal.sites[charged]]),
        atomic_numbers=np.append(crystal.atomic_numbers, np.full(charged.sum(), CHARGE)),
        occupancies=np.append(crystal.occupancies, gained[charged]),
        u_iso=np.append(crystal.u_iso, crystal.u_iso[charged]),
    )


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
        batch.hkl, batch.sites, batch.rotations, batch.translations, batch.centrosymmetric
    )
    return (waves * f[:, None]).sum(-1)


def overloaded(
    amplitude: Tensor, batch: Batch, largest_share: float, generator: torch.Generator
) -> Tensor:
    """Which reflections saturate the detector: bool, shape (b, n).

    What it counts goes with |F|^2 and, at low angles, with the Lorentz factor, 1 / d*.
    """
    (b, n), device = amplitude.shape, amplitude.device

    def uniform(*shape):
        return torch.rand(shape, generator=generator, device=device)

    share = largest_share * uniform(b, 1).square() * (uniform(b, 1) < OVERLOADED_SHARE)
    n_lost = torch.round(share * batch.measured.sum(1, keepdim=True))
    spread = OVERLOAD_SPREAD * torch.randn(b, n, generator=generator, device=device)
    intensity = 2.0 * torch.log(amplitude + 1e-6) - torch.log(batch.d_star + 1e-6) + spread
    intensity = torch.where(batch.measured > 0, intensity, torch.full_like(intensity, -math.inf))
    rank = intensity.argsort(1, descending=True).argsort(1)
    return rank < n_lost


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
    if experiment.overloads > 0.0:
        lost = overloaded(amplitude, batch, experiment.overloads, generator)
        batch = replace(batch, measured=batch.measured * ~lost)
        if not experiment.fills_in:
            batch = replace(batch, mask=batch.measured)
            amplitude, f_calc = amplitude * batch.mask, f_calc * batch.mask[:, None]
    device = amplitude.device
    level = experiment.noise * torch.rand(len(amplitude), 1, generator=generator, device=device)
    error = torch.randn(amplitude.shape, generator=generator, device=device)
    typical = torch.sqrt(
        amplitude.square().sum(1, keepdim=True) / batch.mask.sum(1, keepdim=True)
    )
    # relative errors, and a floor that weak reflections share
    f_obs = (amplitude * (1.0 + level * error) + 0.3 * level * typical * error.flip(1)).abs()
    return Diffraction(
        batch=batch,
        e_value=batch.shown_amplitudes(f_obs),
        f_sq_all=f_obs.square() * batch.mask,
        phase_factor=f_calc / amplitude.clamp(min=1e-6)[:, None],
        transform=batch.transform(),
    )
