"""How a network phases artificial crystals it has not seen, and where it fails.

Three figures apart: the model (started from the truth, does it stay?), the
search (does any start end at r > 0.95?) and the ranking (is it the one picked?).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from phai_cctbx.network.alignment import map_correlation
from phai_cctbx.training.crystals import Crystal
from phai_cctbx.training.diffraction import Experiment
from phai_cctbx.training.trials import phase_from, trials

#: A structure counts as phased above this map correlation (Larsen et al., 2024).
R_SOLVED = 0.95


@dataclass(frozen=True)
class Evaluation:
    """Arrays over crystals.

    Attributes
    ----------
    numbers, volume : ndarray, shape (n,)
        Space group; cell volume, A^3.
    picked, best, from_truth : ndarray, shape (n,)
        r of the start with the highest confidence, of the best start, and after
        the same passes from the true phases.
    confidence : ndarray, shape (n,)
        Of the picked start.
    """

    numbers: np.ndarray
    volume: np.ndarray
    picked: np.ndarray
    best: np.ndarray
    from_truth: np.ndarray
    confidence: np.ndarray

    def summary(self) -> str:
        """Shares of r > 0.95 by volume, one line each."""
        lines = []
        edges = [0, 500, 1000, 1500, 2500, np.inf]
        for low, high in zip(edges[:-1], edges[1:], strict=True):
            inside = (self.volume >= low) & (self.volume < high)
            if not inside.any():
                continue
            shares = [
                f"{name} {np.mean(values[inside] > R_SOLVED):.2f}"
                for name, values in (
                    ("picked", self.picked), ("best", self.best), ("from truth", self.from_truth)
                )
            ]  # fmt: skip
            lines.append(
                f"V {low:g}-{high:g} n {inside.sum()}: r > {R_SOLVED}: {', '.join(shares)};"
                f" mean r {self.picked[inside].mean():.3f}"
            )
        return "\n".join(lines)


@torch.no_grad()
def evaluate(
    model: torch.nn.Module,
    crystals: list[Crystal],
    experiment: Experiment,
    grid_points_per_d_min: float,
    n_starts: int = 8,
    n_passes: int = 24,
    seed: int = 0,
    device: torch.device | None = None,
    budget: float = 2e6,
) -> Evaluation:
    """Phase each crystal from `n_starts` random starts; arrays as in `Evaluation`."""
    columns = []
    for trial in trials(
        model, crystals, experiment, grid_points_per_d_min, n_starts, n_passes, seed, budget, device
    ):
        batch, diffraction = trial.batch, trial.diffraction
        true = diffraction.phase_factor
        ends = [phase_from(model, diffraction, true, n_passes), *trial.outputs]
        from_truth, *scores = [map_correlation(end, true, diffraction.f_sq, batch) for end in ends]
        r = torch.stack(scores)
        top, pick = trial.confidence.max(0)
        columns.append(
            np.stack(
                [
                    batch.numbers.cpu().numpy(),
                    batch.volume.cpu().numpy(),
                    r.gather(0, pick[None])[0].cpu().numpy(),
                    r.max(0).values.cpu().numpy(),
                    from_truth.cpu().numpy(),
                    top.cpu().numpy(),
                ]
            )
        )
    return Evaluation(*np.concatenate(columns, 1))
