"""Artificial crystals phased as real ones are: batches, random starts, annealed passes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from phai_cctbx.network.recycling import anneal, mean_confidence, recycle
from phai_cctbx.training.crystals import Crystal
from phai_cctbx.training.diffraction import Batch, Diffraction, Experiment, collate, diffract
from phai_cctbx.training.pool import CrystalPool

#: Crystals phased together, at most.
LARGEST_BATCH = 32


@dataclass(frozen=True)
class Trial:
    """A batch of b crystals, phased from s random starts.

    Attributes
    ----------
    batch : Batch
    diffraction : Diffraction
        With the true phases.
    weight : Tensor, shape (b, n)
        F^2 times multiplicity.
    outputs : Tensor, shape (s, b, k, n)
        kappa exp(i phase) of every start.
    confidence : Tensor, shape (s, b)
        The r that the network expects of each.
    """

    batch: Batch
    diffraction: Diffraction
    weight: Tensor
    outputs: Tensor
    confidence: Tensor


def phase_from(
    model: torch.nn.Module, diffraction: Diffraction, start: Tensor, n_passes: int
) -> Tensor:
    """kappa exp(i phase) after passes from phases of one's choice, shape (b, k, n)."""
    return recycle(partial(diffraction.one_pass, model), start, diffraction.batch.centric, n_passes)


@torch.no_grad()
def trials(
    model: torch.nn.Module,
    crystals: list[Crystal],
    experiment: Experiment,
    grid_points_per_d_min: float,
    n_starts: int,
    n_passes: int,
    seed: int,
    budget: float,
    device: torch.device | None = None,
) -> Iterator[Trial]:
    """All crystals in their order, in batches of one `budget` (see `CrystalPool`)."""
    device = device or torch.device("cpu")
    rng = np.random.default_rng(seed)
    generator = torch.Generator(device=device)
    generator.manual_seed(seed)
    for chosen in CrystalPool(crystals, budget=budget, largest_batch=LARGEST_BATCH).in_order():
        batch = collate(chosen, experiment, grid_points_per_d_min, rng).to(device)
        diffraction = diffract(batch, experiment, generator)
        weight = diffraction.f_sq * batch.multiplicity
        outputs = torch.stack(
            [
                anneal(
                    partial(diffraction.one_pass, model),
                    batch.random_start(generator),
                    batch.centric,
                    batch.mask,
                    n_passes,
                    generator,
                )
                for _ in range(n_starts)
            ]
        )
        confidence = torch.stack(
            [mean_confidence(output, batch.centric, weight) for output in outputs]
        )
        yield Trial(batch, diffraction, weight, outputs, confidence)
