"""The training loop: artificial crystals in, a checkpoint out; resumable.

Each batch of crystals is a chain of passes, begun at random phases or at true ones
disturbed at random. A step trains one pass of one chain, and the next pass of it starts
from the answer: from its expected value, or from phases drawn at random from it. So the
network learns from the states that a search leads it to, to walk towards a solution, to
stay there, and to doubt what only looks like one.
"""

from __future__ import annotations

import csv
import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from phai_cctbx.network.expectation import expected_phase_factor, sampled_phase_factor
from phai_cctbx.network.operator import OperatorConfig, fitted, operator
from phai_cctbx.training.batches import BatchStream, batches
from phai_cctbx.training.diffraction import Batch, Diffraction, Experiment, diffract
from phai_cctbx.training.loss import phase_loss
from phai_cctbx.training.pool import CrystalPool
from phai_cctbx.training.processes import ALONE, Processes

logger = logging.getLogger(__name__)

CHECKPOINT_VERSION = 1
#: Share of the chains that begin at disturbed true phases, the others at random ones.
TRUE_START_SHARE = 0.3
#: Share of the passes that begin at expected values, the others at phases drawn at random, with
#: kappa times a factor from this range (log-uniform).
EXPECTED_SHARE, SHARPNESS = 0.35, (0.25, 1.5)
LOG_FIELDS = ("seconds", "step", "crystals", "loss", "learning_rate")


@dataclass(frozen=True)
class Schedule:
    """Length and pace of a training.

    Attributes
    ----------
    minutes : float
        Wall time of this call; the learning rate falls over it.
    learning_rate : float
        Its peak (AdamW).
    warm_up : int
        Steps until the peak.
    final_share : float
        Learning rate at the end, over that of the peak.
    ema_decay : float
        Of the exponential moving average of the weights, which is what is kept.
    checkpoint_minutes : float
    chain_passes : int
        Largest number of passes of a chain.
    n_chains : int
        Chains under way at once, each step takes one of them at random.
    mixed_precision : bool
        bfloat16 on a CPU as well; a quarter faster where the CPU has instructions for it.
    steps_apart : int
        Steps that each of several processes makes by itself before their weights are averaged
        (local SGD, Stich, ICLR 2019); with 1 the gradients are, at every step. Processes that
        wait for each other seldom lose no time to batches that take longer than others.
    """

    minutes: float = 60.0
    learning_rate: float = 1.5e-3
    warm_up: int = 100
    final_share: float = 0.01
    ema_decay: float = 0.999
    checkpoint_minutes: float = 5.0
    chain_passes: int = 32
    n_chains: int = 32
    mixed_precision: bool = False
    steps_apart: int = 1


def disturbed_truth(diffraction: Diffraction, generator: torch.Generator) -> Tensor:
    """True phase factors with a random share replaced, of random modulus, (b, k, n)."""
    truth = diffraction.phase_factor
    batch = diffraction.batch
    device = truth.device
    shape = (len(truth), 1, 1)
    share = torch.rand(shape, generator=generator, device=device)
    wrong = torch.rand(batch.centric.shape, generator=generator, device=device)[:, None] < share
    start = torch.where(wrong, batch.random_start(generator), truth)
    return start * (0.3 + 0.7 * torch.rand(shape, generator=generator, device=device))


@dataclass(eq=False)
class Chain:
    """Passes over one batch of crystals.

    Attributes
    ----------
    diffraction : Diffraction
    start : Tensor, shape (b, k, n)
        Of its next pass.
    passes_left : int
    """

    diffraction: Diffraction
    start: Tensor
    passes_left: int

    def advance(self, output: Tensor, generator: torch.Generator) -> None:
        """Start the next pass from the answer of this one, kappa exp(i phase)."""
        centric = self.diffraction.batch.centric
        shape, device = (len(output), 1), output.device
        low, high = (math.log(x) for x in SHARPNESS)
        uniform = torch.rand(shape, generator=generator, device=device)
        sharpness = torch.exp(low + (high - low) * uniform)
        drawn = sampled_phase_factor(output, centric, sharpness, generator)
        expected = torch.rand(shape, generator=generator, device=device) < EXPECTED_SHARE
        start = torch.where(expected[..., None], expected_phase_factor(output, centric), drawn)
        self.start = start * self.diffraction.batch.mask[:, None]
        self.passes_left -= 1


class Trainer:
    """Trains one network.

    Parameters
    ----------
    config : OperatorConfig
    pools : callable
        Returns a pool that has grown since the last call, else None; asked at the
        start and at every checkpoint.
    experiment : Experiment
    schedule : Schedule
    seed : int
    device : torch.device
    checkpoint : Path
        Written every `checkpoint_minutes`, and read first where it exists.
    n_workers : int
        Processes that prepare batches; none on a CPU, which has enough to do.
    processes : Processes
        Those that train together, by default this one alone.

    Raises
    ------
    ValueError
        If there are no crystals, or the checkpoint is of another network.
    """

    def __init__(
        self,
        config: OperatorConfig,
        pools: Callable[[], CrystalPool | None],
        experiment: Experiment,
        schedule: Schedule,
        seed: int,
        device: torch.device,
        checkpoint: Path,
        n_workers: int = 0,
        processes: Processes = ALONE,
    ):
        torch.manual_seed(seed)
        self.processes = processes
        self.config, self.pools = config, pools
        self.experiment, self.schedule, self.n_workers = experiment, schedule, n_workers
        self.device, self.checkpoint, self.seed = device, Path(checkpoint), seed
        self.model = operator(config).to(device)
        self.average = operator(config).to(device)
        self.average.load_state_dict(self.model.state_dict())
        self.average.requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), schedule.learning_rate, weight_decay=1e-4
        )
        self.step = 0
        self.crystals = 0
        self.new_crystals = 0  # of this process, since the crystals of all were counted
        self.seconds = 0.0
        self.groups: set[int] = set()
        if self.checkpoint.exists():
            self._resume()
        self.rng = np.random.default_rng([seed, self.step, processes.rank])
        self.generator = torch.Generator(device=device)
        self.generator.manual_seed(int(self.rng.integers(2**62)))
        self.batches: Iterator[Batch] = iter(())
        self.chains: list[Chain] = []
        pool = pools()
        if pool is None:
            raise ValueError("no crystals to train on")
        self._take(pool)

    def _take(self, pool: CrystalPool | None) -> None:
        """Go on with a new pool, where there is one."""
        if pool is not None:
            stream = BatchStream(
                pool, self.experiment, self.config.grid_points_per_d_min,
                (self.seed, self.step, self.processes.rank),
            )  # fmt: skip
            self.batches = batches(stream, self.n_workers)

    def _resume(self) -> None:
        state = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        is_same = OperatorConfig(**state["config"]) == self.config
        if state["version"] != CHECKPOINT_VERSION or not is_same:
            raise ValueError(
                f"{self.checkpoint}: a checkpoint of another network "
                f"(version {state['version']}, {state['config']})"
            )
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.crystals = state["step"], state["crystals"]
        self.seconds, self.groups = state["seconds"], set(state["groups"])
        logger.info("resumed from %s: step %d", self.checkpoint, self.step)

    def start_from(self, weights: dict[str, Tensor]) -> None:
        """Take over the weights of another training, of a network as deep or less (`fitted`)."""
        weights = fitted(weights, self.config)
        self.model.load_state_dict(weights)
        self.average.load_state_dict(weights)

    def save(self) -> None:
        """Write the checkpoint, by a temporary name."""
        for crystals, groups in self.processes.gathered((self.new_crystals, self.groups)):
            self.crystals += crystals
            self.groups = self.groups | groups
        self.new_crystals = 0
        if not self.processes.first:
            return
        state = {
            "version": CHECKPOINT_VERSION,
            "config": self.config.as_dict(),
            "experiment": asdict(self.experiment),
            "seed": self.seed,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "crystals": self.crystals,
            "seconds": self.seconds,
            "groups": sorted(self.groups),
        }
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.checkpoint.with_suffix(".part")
        torch.save(state, temporary)
        os.replace(temporary, self.checkpoint)

    @property
    def together(self) -> bool:
        """Whether all processes have the same weights after the step that was made last."""
        return self.step % self.schedule.steps_apart == 0

    def learning_rate(self, progress: float, local_step: int) -> float:
        """Linear warm-up, then a cosine from the peak to its final share."""
        warm = min(1.0, (local_step + 1) / self.schedule.warm_up)
        cosine = 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))
        final = self.schedule.final_share
        return self.schedule.learning_rate * warm * (final + (1.0 - final) * cosine)

    def precision(self):
        """bfloat16 on a GPU, single precision elsewhere unless asked for otherwise."""
        if self.device.type == "cuda" or self.schedule.mixed_precision:
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return nullcontext()

    def new_chain(self) -> Chain:
        """A chain on the next batch of crystals."""
        batch = next(self.batches)
        self.new_crystals += len(batch.numbers)
        self.groups.update(batch.numbers.tolist())
        diffraction = diffract(batch.to(self.device), self.experiment, self.generator)
        if self.rng.random() < TRUE_START_SHARE:
            start = disturbed_truth(diffraction, self.generator)
        else:
            start = diffraction.batch.random_start(self.generator)
        return Chain(diffraction, start, int(self.rng.integers(1, self.schedule.chain_passes + 1)))

    def train_step(self) -> float:
        """One pass of one chain; returns the mean loss."""
        if len(self.chains) < self.schedule.n_chains:
            self.chains.append(self.new_chain())
        chain = self.chains[self.rng.integers(len(self.chains))]
        diffraction = chain.diffraction
        with self.precision():
            output = diffraction.one_pass(self.model, chain.start)
        loss = phase_loss(output.float(), diffraction).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.schedule.steps_apart == 1:
            self.processes.average_gradients(self.model.parameters())
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        decay = min(self.schedule.ema_decay, (1.0 + self.step) / (10.0 + self.step))
        with torch.no_grad():
            for kept, new in zip(self.average.parameters(), self.model.parameters(), strict=True):
                kept.lerp_(new, 1.0 - decay)
        chain.advance(output.detach().float(), self.generator)
        if chain.passes_left == 0:
            self.chains.remove(chain)
        self.step += 1
        if self.schedule.steps_apart > 1 and self.together:
            self.processes.average([*self.model.parameters(), *self.average.parameters()])
        return loss.item()

    @contextmanager
    def _log(self) -> Iterator[Callable[..., None]]:
        """A function that adds a row to the CSV beside the checkpoint, and to the log."""
        if not self.processes.first:
            yield lambda **row: None
            return
        path = self.checkpoint.with_suffix(".csv")
        path.parent.mkdir(parents=True, exist_ok=True)
        new = not path.exists()
        with path.open("a", newline="") as stream:
            table = csv.DictWriter(stream, LOG_FIELDS)
            if new:
                table.writeheader()

            def log(**row) -> None:
                table.writerow(row)
                stream.flush()
                logger.info("%s", " ".join(f"{k} {v}" for k, v in row.items()))

            yield log

    def run(self) -> None:
        """Train for the scheduled time; log to a CSV beside the checkpoint."""
        began = time.monotonic()
        budget = 60.0 * self.schedule.minutes
        next_save = 60.0 * self.schedule.checkpoint_minutes
        before, local_step, losses = self.seconds, 0, []

        def elapsed() -> float:
            return self.processes.time_of_first(time.monotonic() - began, self.device)

        now = elapsed()
        with self._log() as log:
            while now < budget:
                rate = self.learning_rate(now / budget, local_step)
                for group in self.optimizer.param_groups:
                    group["lr"] = rate
                losses.append(self.train_step())
                local_step += 1
                self.seconds = before + now
                if local_step % 100 == 0:
                    log(
                        seconds=round(self.seconds),
                        step=self.step,
                        crystals=self.crystals + self.new_crystals * self.processes.count,
                        loss=round(float(np.mean(losses)), 4),
                        learning_rate=round(rate, 6),
                    )
                    losses.clear()
                if not self.together:
                    continue
                now = elapsed()
                if now > next_save:
                    next_save += 60.0 * self.schedule.checkpoint_minutes
                    self.save()
                    self._take(self.pools())
        self.save()
