"""Is the confidence true? One factor on kappa for centric, one for acentric phases.

Temperature scaling (Guo et al., ICML 2017) on artificial crystals that were not
trained on: the factor that makes the true phases most likely, over the solutions
that would be picked, failures included.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from phai_cctbx.network.alignment import align
from phai_cctbx.network.expectation import expected_cosine, log_normaliser, modulus
from phai_cctbx.training.crystals import Crystal
from phai_cctbx.training.diffraction import Experiment
from phai_cctbx.training.trials import trials

#: Factors tried.
SCALES = np.exp(np.linspace(np.log(0.2), np.log(2.0), 93))
#: Bins of the reliability diagram.
N_BINS = 10
#: Size of the batches that are phased together, see `CrystalPool`.
BUDGET = 1e6


@dataclass(frozen=True)
class PhaseErrors:
    """Every reflection of the picked solutions.

    Attributes
    ----------
    kappa : Tensor, shape (n,)
    cosine : Tensor, shape (n,)
        Of the phase error, on the best origin and hand.
    centric : Tensor of bool, shape (n,)
    """

    kappa: Tensor
    cosine: Tensor
    centric: Tensor


@torch.no_grad()
def phase_errors(
    model: torch.nn.Module,
    crystals: list[Crystal],
    experiment: Experiment,
    grid_points_per_d_min: float,
    n_starts: int = 8,
    n_passes: int = 24,
    seed: int = 0,
) -> PhaseErrors:
    """Phase crystals, pick the most confident start of each, compare with the truth."""
    columns: list[tuple[Tensor, Tensor, Tensor]] = []
    for trial in trials(
        model, crystals, experiment, grid_points_per_d_min, n_starts, n_passes, seed, BUDGET
    ):
        batch, weight = trial.batch, trial.weight
        most_confident = trial.confidence.argmax(0)
        picked = trial.outputs[most_confident, torch.arange(len(most_confident))]
        kappa = modulus(picked)
        weight = weight / weight.sum(1, keepdim=True)
        truth = align(picked, trial.diffraction.phase_factor, weight, batch)
        cosine = (picked * truth).sum(1) / kappa
        present = batch.measured > 0
        columns.append((kappa[present], cosine[present], batch.centric[present]))
    kappa, cosine, centric = (torch.cat(column) for column in zip(*columns, strict=True))
    return PhaseErrors(kappa, cosine, centric)


def best_scale(errors: PhaseErrors, centric: bool) -> float:
    """The factor on kappa under which the phases of one kind are most likely; 1 without data."""
    chosen = errors.centric == centric
    if not bool(chosen.any()):
        return 1.0
    kappa, cosine = errors.kappa[chosen].double(), errors.cosine[chosen].double()
    kind = torch.full_like(kappa, centric, dtype=torch.bool)
    likelihoods = [
        float((scale * kappa * cosine - log_normaliser(scale * kappa, kind)).mean())
        for scale in SCALES
    ]
    return float(SCALES[int(np.argmax(likelihoods))])


def kappa_scales(errors: PhaseErrors) -> tuple[float, float]:
    """Factors for centric and acentric phases, as `ModelMetadata.kappa_scale` holds them."""
    return best_scale(errors, True), best_scale(errors, False)


def reliability(expected: np.ndarray, cosine: np.ndarray) -> np.ndarray:
    """Reliability diagram: mean expected cosine, mean true cosine, share; shape (bins, 3)."""
    bins = np.clip((expected * N_BINS).astype(int), 0, N_BINS - 1)
    rows = [
        (expected[bins == i].mean(), cosine[bins == i].mean(), (bins == i).mean())
        for i in range(N_BINS)
        if (bins == i).any()
    ]
    return np.array(rows)


def calibration_error(errors: PhaseErrors, scales: tuple[float, float]) -> float:
    """Expected calibration error: mean |expected - true| cosine over the bins."""
    scale = torch.where(errors.centric, scales[0], scales[1])
    expected = expected_cosine(errors.kappa * scale, errors.centric)
    diagram = reliability(expected.numpy(), errors.cosine.numpy())
    return float((np.abs(diagram[:, 0] - diagram[:, 1]) * diagram[:, 2]).sum())
