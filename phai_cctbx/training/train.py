"""Train a network on pools of artificial crystals: ``python -m phai_cctbx.training.train``.

Pools are the ``.npz`` files of a folder, which another process
(``python -m phai_cctbx.training.crystals``) may go on filling: new files are read at every
checkpoint. The last part of the first pool is held out for scoring. Several GPUs:
``torchrun --nproc-per-node N -m phai_cctbx.training.train``.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch

from phai_cctbx.network.model_file import load_model
from phai_cctbx.network.operator import OperatorConfig
from phai_cctbx.network.space_groups import space_group
from phai_cctbx.training.crystals import Crystal, read_crystals
from phai_cctbx.training.diffraction import CALCULATED_2A, Experiment
from phai_cctbx.training.evaluate import evaluate
from phai_cctbx.training.loop import Schedule, Trainer
from phai_cctbx.training.pool import CrystalPool
from phai_cctbx.training.processes import join_processes, leave_processes

logger = logging.getLogger(__name__)

#: Crystals of the first pool that are never trained on.
N_HELD_OUT = 200


class PoolFolder:
    """The pools of a folder, read as they appear.

    Parameters
    ----------
    folder : Path
    budget : float
        See `CrystalPool`.
    largest_batch : int
    acentric_share : float, optional
    """

    def __init__(
        self, folder: Path, budget: float, largest_batch: int, acentric_share: float | None = None
    ):
        self.folder, self.budget, self.largest_batch = folder, budget, largest_batch
        self.acentric_share = acentric_share
        self._read: set[Path] = set()
        self._crystals: list[Crystal] = []
        self.held_out: list[Crystal] = []

    def __call__(self) -> CrystalPool | None:
        """A pool with the crystals of new files as well; None where nothing is new."""
        new = [path for path in sorted(self.folder.glob("*.npz")) if path not in self._read]
        for path in new:
            crystals = read_crystals(path)
            if not self.held_out:
                self.held_out, crystals = crystals[-N_HELD_OUT:], crystals[:-N_HELD_OUT]
            self._crystals += crystals
            self._read.add(path)
            logger.info("%s: %d crystals, %d in all", path, len(crystals), len(self._crystals))
        if not new:
            return None
        return CrystalPool(self._crystals, self.budget, self.largest_batch, self.acentric_share)


def parser() -> argparse.ArgumentParser:
    """Options of the command."""
    config, schedule, experiment = OperatorConfig(), Schedule(), Experiment()
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--pools", type=Path, required=True, help="folder of .npz pools")
    p.add_argument("--checkpoint", type=Path, required=True, help="read first where it exists")
    p.add_argument("--minutes", type=float, default=schedule.minutes)
    p.add_argument("--learning-rate", type=float, default=schedule.learning_rate)
    p.add_argument("--final-share", type=float, default=schedule.final_share)
    p.add_argument("--channels", type=int, default=config.channels)
    p.add_argument("--layers", type=int, default=config.layers)
    p.add_argument("--acentric-layers", type=int, help="of a network of their own, if given")
    p.add_argument("--grid-points-per-d-min", type=float, default=config.grid_points_per_d_min)
    p.add_argument("--chain-passes", type=int, default=schedule.chain_passes)
    p.add_argument("--d-min", type=float, nargs=2, default=experiment.d_min)
    p.add_argument("--missing", type=float, default=experiment.missing)
    p.add_argument("--complete", type=float, default=experiment.complete, help="share of crystals")
    p.add_argument("--noise", type=float, default=experiment.noise)
    p.add_argument("--overloads", type=float, default=experiment.overloads)
    p.add_argument("--polarity", type=float, default=experiment.polarity)
    p.add_argument("--budget", type=float, default=1.0e6, help="size of a batch, A^6")
    p.add_argument("--largest-batch", type=int, default=32)
    p.add_argument("--acentric-share", type=float, help="of the batches; as in the pools if absent")
    p.add_argument("--weights", type=Path, help="model file whose weights a new training begins at")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--mixed-precision", action="store_true", help="bfloat16 on a CPU too")
    p.add_argument("--steps-apart", type=int, default=schedule.steps_apart, help="of processes")
    p.add_argument("--workers", type=int, default=0, help="processes that prepare batches")
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return p


def main(arguments: list[str] | None = None) -> None:
    """Train, then score the held-out crystals."""
    options = parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(options.threads)
    processes = join_processes(options.device)
    device = processes.device(options.device)
    pools = PoolFolder(options.pools, options.budget, options.largest_batch, options.acentric_share)
    config = OperatorConfig(
        channels=options.channels,
        scalars=options.channels,
        hidden=2 * options.channels,
        layers=options.layers,
        grid_points_per_d_min=options.grid_points_per_d_min,
        acentric_layers=options.acentric_layers,
    )
    trainer = Trainer(
        config,
        pools,
        Experiment(
            tuple(options.d_min), options.missing, options.noise,
            polarity=options.polarity, overloads=options.overloads, complete=options.complete,
        ),  # fmt: skip
        Schedule(
            options.minutes, options.learning_rate, final_share=options.final_share,
            chain_passes=options.chain_passes, mixed_precision=options.mixed_precision,
            steps_apart=options.steps_apart,
        ),  # fmt: skip
        options.seed,
        device,
        options.checkpoint,
        options.workers,
        processes,
    )
    if options.weights and not trainer.step:
        trainer.start_from(load_model(options.weights)[0].state_dict())
    logger.info("%d parameters", sum(p.numel() for p in trainer.model.parameters()))
    trainer.run()
    leave_processes()
    if not processes.first:
        return
    for kind, wanted in (("centrosymmetric", True), ("non-centrosymmetric", False)):
        crystals = [c for c in pools.held_out if space_group(c.number).centrosymmetric is wanted]
        if crystals:
            found = evaluate(
                trainer.average, crystals, CALCULATED_2A, config.grid_points_per_d_min,
                device=device,
            )  # fmt: skip
            logger.info("held out, %s:\n%s", kind, found.summary())


if __name__ == "__main__":
    main()
