"""How a network phases artificial crystals it has not seen, and where it fails: ``python -m
phai_cctbx.training.evaluate``.

Three figures apart: the model (started from the truth, does it stay?), the
search (does any start end at r > 0.95?) and the ranking (is it the one picked?).
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from phai_cctbx.network.alignment import map_correlation
from phai_cctbx.network.model_file import load_model
from phai_cctbx.network.space_groups import space_group
from phai_cctbx.training.crystals import Crystal, read_crystals
from phai_cctbx.training.diffraction import CALCULATED_2A, Experiment
from phai_cctbx.training.trials import phase_from, trials

logger = logging.getLogger(__name__)

#: A structure counts as phased above this map correlation (Larsen et al., 2024).
R_SOLVED = 0.95
#: Groups that are reported by themselves.
COMMON_GROUPS = {2: "P -1", 14: "P 21/c"}


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
    right_starts : ndarray, shape (n,)
        Share of the starts with r > 0.95.
    """

    numbers: np.ndarray
    volume: np.ndarray
    picked: np.ndarray
    best: np.ndarray
    from_truth: np.ndarray
    confidence: np.ndarray
    right_starts: np.ndarray

    def failures(self, chosen: np.ndarray) -> dict[str, float]:
        """Of some crystals, the shares that are not phased, by what failed.

        ``"model"``: the network leaves the true phases and no start ends at them. ``"search"``:
        it stays there, and no start ends there. ``"ranking"``: one does, another is picked.

        Parameters
        ----------
        chosen : ndarray of bool, shape (n,)
        """
        found = self.best[chosen] > R_SOLVED
        stays = self.from_truth[chosen] > R_SOLVED
        return {
            "model": float(np.mean(~found & ~stays)),
            "search": float(np.mean(~found & stays)),
            "ranking": float(np.mean(found & (self.picked[chosen] <= R_SOLVED))),
        }

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
            failures = [f"{what} {share:.2f}" for what, share in self.failures(inside).items()]
            lines.append(
                f"V {low:g}-{high:g} n {inside.sum()}: r > {R_SOLVED}: {', '.join(shares)};"
                f" mean r {self.picked[inside].mean():.3f},"
                f" right starts {self.right_starts[inside].mean():.3f};"
                f" failures: {', '.join(failures)}"
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
                    (r > R_SOLVED).float().mean(0).cpu().numpy(),
                ]
            )
        )
    return Evaluation(*np.concatenate(columns, 1))


def main(arguments: list[str] | None = None) -> None:
    """The shares of a model file on the last crystals of a pool, by kind of group and volume."""
    p = argparse.ArgumentParser(description=main.__doc__)
    p.add_argument("--model", type=Path, required=True)
    p.add_argument("--pool", type=Path, required=True, help=".npz of crystals not trained on")
    p.add_argument("--n-crystals", type=int, default=100)
    p.add_argument("--n-starts", type=int, default=8)
    p.add_argument("--n-passes", type=int, default=24)
    p.add_argument("--smallest-volume", type=float, default=0.0, help="A^3")
    p.add_argument("--largest-volume", type=float, default=np.inf, help="A^3")
    p.add_argument("--missing", type=float, default=0.0, help="largest share left out at random")
    p.add_argument("--seed", type=int, default=0)
    options = p.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    model, metadata = load_model(options.model)
    experiment = replace(CALCULATED_2A, missing=options.missing, complete=0.0)
    low, high = options.smallest_volume, options.largest_volume
    crystals = [c for c in read_crystals(options.pool) if low <= c.volume < high]
    kinds: dict[str, list[Crystal]] = {}
    for crystal in crystals[-options.n_crystals :]:
        kinds.setdefault(_kind(crystal), []).append(crystal)
    for kind, of_kind in kinds.items():
        found = evaluate(
            model, of_kind, experiment, metadata.grid_points_per_d_min, options.n_starts,
            options.n_passes, options.seed,
        )  # fmt: skip
        logger.info("%s:\n%s", kind, found.summary())


def _kind(crystal):
    if crystal.number in COMMON_GROUPS:
        return COMMON_GROUPS[crystal.number]
    centrosymmetric = space_group(crystal.number).centrosymmetric
    return "other centrosymmetric" if centrosymmetric else "non-centrosymmetric"


if __name__ == "__main__":
    main()
