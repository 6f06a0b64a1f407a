"""Endless batches from a pool, made by worker processes so that a GPU need not wait."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.multiprocessing import set_sharing_strategy
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from phai_cctbx.training.diffraction import Batch, Experiment, collate
from phai_cctbx.training.pool import CrystalPool

#: Batches that each worker makes ahead.
AHEAD = 4


class BatchStream(IterableDataset):
    """Batches drawn at random; each worker draws its own.

    Parameters
    ----------
    pool : CrystalPool
    experiment : Experiment
    grid_points_per_d_min : float
    seed : tuple of int
        The same seed and number of workers give the same batches.
    """

    def __init__(
        self,
        pool: CrystalPool,
        experiment: Experiment,
        grid_points_per_d_min: float,
        seed: tuple[int, ...],
    ):
        self.pool, self.experiment = pool, experiment
        self.grid_points_per_d_min = grid_points_per_d_min
        self.seed = seed

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        rng = np.random.default_rng([*self.seed, 0 if worker is None else worker.id])
        while True:
            yield collate(
                self.pool.batch(rng), self.experiment, self.grid_points_per_d_min, rng
            )


def batches(stream: BatchStream, n_workers: int) -> Iterator[Batch]:
    """Batches of a stream, made in `n_workers` processes (0: in this one)."""
    if n_workers == 0:
        return iter(stream)
    # a batch is many small tensors: more than there may be open files
    set_sharing_strategy("file_system")
    return iter(
        DataLoader(stream, batch_size=None, num_workers=n_workers, prefetch_factor=AHEAD)
    )
