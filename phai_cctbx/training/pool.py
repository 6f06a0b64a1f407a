"""A pool of artificial crystals, dealt out in batches of like size.

Crystals of one batch are of one kind (`kind_of_group`) and cost about the same, so
that padding wastes little.
"""

from __future__ import annotations

import numpy as np

from phai_cctbx.network.frame import kind_of_group
from phai_cctbx.network.space_groups import space_group
from phai_cctbx.training.crystals import Crystal

#: Batches are drawn from windows of this many batches' worth of sorted crystals.
WINDOW = 6


class CrystalPool:
    """Crystals in memory.

    Parameters
    ----------
    crystals : list of Crystal
    budget : float
        Sum over a batch of (V / operations)^2, A^6: in large crystals work and
        memory go as reflections times grid points.
    largest_batch : int
    acentric_share : float, optional
        Share of the batches that are not centrosymmetric; by default that of the crystals.
    """

    def __init__(
        self,
        crystals: list[Crystal],
        budget: float,
        largest_batch: int,
        acentric_share: float | None = None,
    ):
        self.crystals = crystals
        self.budget = budget
        self.largest_batch = largest_batch
        multiplicity = np.array([space_group(c.number).multiplicity for c in crystals])
        self.cost = (np.array([c.volume for c in crystals]) / multiplicity) ** 2
        kinds = [kind_of_group(c.number) for c in crystals]
        of_kind = {kind: [] for kind in sorted(set(kinds), reverse=True)}
        for index in np.argsort(self.cost, kind="stable"):
            of_kind[kinds[index]].append(index)
        self.kinds = [np.array(indices) for indices in of_kind.values()]
        acentric = np.array([not centrosymmetric for centrosymmetric, _ in of_kind])
        share = np.array([len(indices) / len(crystals) for indices in self.kinds])
        if acentric_share is not None and 0 < acentric.sum() < len(acentric):
            share *= np.where(
                acentric,
                acentric_share / share[acentric].sum(),
                (1.0 - acentric_share) / share[~acentric].sum(),
            )
        #: Share of the batches that are of each kind.
        self.share = share

    def __len__(self) -> int:
        return len(self.crystals)

    def batch(self, rng: np.random.Generator) -> list[Crystal]:
        """Crystals of one kind and about one size, at random."""
        kind = self.kinds[rng.choice(len(self.kinds), p=self.share)]
        position = int(rng.integers(len(kind)))
        size = int(np.clip(self.budget / self.cost[kind[position]], 1, self.largest_batch))
        low = max(0, min(position - WINDOW * size // 2, len(kind) - WINDOW * size))
        window = kind[low : low + WINDOW * size]
        chosen = rng.choice(window, size=min(size, len(window)), replace=False)
        return [self.crystals[i] for i in chosen]

    def in_order(self) -> list[list[Crystal]]:
        """All crystals, batch by batch: for scoring."""
        batches = []
        for kind in self.kinds:
            start = 0
            while start < len(kind):
                stop = start + 1
                while (
                    stop < len(kind)
                    and stop - start < self.largest_batch
                    and (stop + 1 - start) * self.cost[kind[stop]] <= self.budget
                ):
                    stop += 1
                batches.append([self.crystals[i] for i in kind[start:stop]])
                start = stop
        return batches
