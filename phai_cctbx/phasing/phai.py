"""Phases from PhAI's own network, for every description of a P 21/c crystal with short axes.

Larsen, Rekis & Madsen, Science 385, 522, 2024. The network itself stands in
`phai_cctbx.network.phai`; here are the crystal's indices in its box, several starts, and the
confidence that its two logits per reflection give.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

# cctbx
from cctbx import miller
from cctbx.array_family import flex
from libtbx.utils import Sorry

from phai_cctbx.network.phai import CLASS_PHASES, MAX_INDEX, recycle
from phai_cctbx.network.phai_file import load_phai
from phai_cctbx.network.threads import one_thread
from phai_cctbx.phasing.normalisation import unique_amplitudes
from phai_cctbx.phasing.phai_box import PhaiBox, shortest_cell_operator
from phai_cctbx.phasing.result import PhasingResult
from phai_cctbx.phasing.solutions import (
    best_with_alternatives,
    cached_model,
    distinct_solutions,
    enough_agree,
    in_input_setting,
)

logger = logging.getLogger(__name__)

#: Starts that are computed together.
STARTS_AT_ONCE = 4
#: Data that end within this factor of the resolution of training are taken as if they did not.
RESOLUTION_TOLERANCE = 1.05


class PhaiPhaser:
    """Phases by PhAI's network.

    The first start is that of the authors, all phases unknown; the others are random. With
    ``n_starts=1, n_passes=3`` it does what their example does.

    Parameters
    ----------
    model : str or Path
        What `phai_cctbx.import_phai` made of the authors' checkpoint.
    n_starts : int
        Largest number of starts. Fewer are made when several agree.
    n_passes : int
        Passes of the network from each start.
    d_min : float, optional
        Resolution used, A; all data by default.
    seed : int
    progress : callable, optional
        Called with (starts done, starts at most).
    """

    name = "phai"
    phil_str = """
    model = None
      .type = path
      .help = What phai_cctbx.import_phai made of the authors' checkpoint
    n_starts = 8
      .type = int(value_min=1)
      .help = largest number of starts, fewer are made when several agree
    n_passes = 5
      .type = int(value_min=1)
      .help = passes of the network from each start
    d_min = None
      .type = float(value_min=0.1)
      .help = resolution used by the network in A, all data by default
    """

    def __init__(
        self,
        model: str | Path | None = None,
        n_starts: int = 8,
        n_passes: int = 5,
        d_min: float | None = None,
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ):
        if model is None:
            raise Sorry(
                "strategy=phai needs model=FILE: phai_cctbx.import_phai PhAI_model.pth makes it of"
                " the checkpoint that the authors of PhAI publish."
            )
        if n_starts < 1 or n_passes < 1:
            raise Sorry(f"n_starts={n_starts}, n_passes={n_passes}: both must be at least 1.")
        self.model, self.metadata = cached_model(
            load_phai, str(model), "strategy=phai runs what phai_cctbx.import_phai writes."
        )
        self.n_starts, self.n_passes = n_starts, n_passes
        self.d_min, self.seed = d_min, seed
        self.progress = progress or (lambda done, total: None)

    @one_thread()
    def __call__(self, f_obs: miller.array) -> PhasingResult:
        """Phase amplitudes.

        Parameters
        ----------
        f_obs : cctbx.miller.array
            Amplitudes or intensities in any setting of P 21/c.

        Returns
        -------
        PhasingResult
            Of the reflections inside the network's sphere of indices.

        Raises
        ------
        libtbx.utils.Sorry
            Where the crystal or the resolution is not what the network was trained on.
        """
        began = time.monotonic()
        amplitudes = unique_amplitudes(f_obs)
        operator = self._operator(amplitudes)
        in_box = self._in_box(amplitudes.change_basis(operator).map_to_asu())
        box = PhaiBox(in_box)
        log_odds = self._search(box)
        confidence, agreement = _confidence(log_odds, box), _agreement(log_odds, box)
        solutions = [
            (self._result(in_box, log_odds[index], operator.inverse(), amplitudes), n_agreeing)
            for index, n_agreeing in distinct_solutions(confidence, agreement)
        ]
        return best_with_alternatives(self.name, self.seed, solutions, len(log_odds), began)

    def _operator(self, f_obs):
        """Change of basis to P 1 21/c 1 on the shortest axes, which must be short enough."""
        info = f_obs.space_group_info()
        if info.type().number() not in self.metadata.groups:
            raise Sorry(
                f"PhAI's network knows P 21/c and its other settings alone; the data are in {info}."
                " strategy=neural knows the other groups."
            )
        operator = shortest_cell_operator(f_obs)
        axes = f_obs.unit_cell().change_basis(operator).parameters()[:3]
        if max(axes) > self.metadata.max_axis:
            raise Sorry(
                f"PhAI's network was trained on axes up to {self.metadata.max_axis:.0f} A; as"
                f" P 1 21/c 1 this cell has {axes[0]:.2f}, {axes[1]:.2f} and {axes[2]:.2f} A."
                " strategy=neural takes longer ones."
            )
        return operator

    def _in_box(self, f_obs):
        """The reflections that the network is shown."""
        coarsest = self.metadata.d_min
        if self.d_min is not None:
            f_obs = f_obs.resolution_filter(d_min=self.d_min)
        if f_obs.size() == 0 or f_obs.d_min() > RESOLUTION_TOLERANCE * coarsest:
            raise Sorry(
                f"PhAI's network was trained on data to {coarsest:.1f} A or better; these end at "
                + (f"{f_obs.d_min():.2f} A." if f_obs.size() else f"d_min={self.d_min}.")
            )
        square = (np.array(f_obs.indices()) ** 2).sum(1)
        inside = flex.bool((square <= MAX_INDEX**2).tolist())
        n_outside = inside.count(False)
        if n_outside:
            logger.info(
                "%d of %d reflections have indices outside PhAI's sphere of radius %d: not phased",
                n_outside, f_obs.size(), MAX_INDEX,
            )  # fmt: skip
        in_box = f_obs.select(inside)
        if flex.max(in_box.data()) <= 0:
            raise Sorry("All amplitudes are zero: nothing to phase.")
        complete = miller.build_set(f_obs, anomalous_flag=False, d_min=f_obs.d_min())
        n_complete = int(((np.array(complete.indices()) ** 2).sum(1) <= MAX_INDEX**2).sum())
        if in_box.size() < self.metadata.completeness * n_complete:
            logger.warning(
                "%d of %d reflections are there; PhAI's network was trained with %.0f %% or more",
                in_box.size(), n_complete, 100 * self.metadata.completeness,
            )  # fmt: skip
        return in_box

    @torch.inference_mode()
    def _search(self, box):
        """Log odds of phase 0 against 180 degrees of all starts made, shape (s, n)."""
        generator = torch.Generator().manual_seed(self.seed)
        starts = torch.tensor(CLASS_PHASES)[
            torch.randint(2, (self.n_starts, len(box.amplitudes)), generator=generator)
        ]
        starts[0] = 0.0
        found = np.empty((0, len(box.weight)))
        while len(found) < self.n_starts:
            batch = starts[len(found) : len(found) + STARTS_AT_ONCE]
            amplitudes = box.amplitudes.expand(len(batch), -1)
            logits = recycle(self.model, amplitudes, batch, self.n_passes).double()
            found = np.concatenate([found, box.log_odds((logits[:, 1] - logits[:, 0]).numpy())])
            self.progress(len(found), self.n_starts)
            if enough_agree(_confidence(found, box), _agreement(found, box)):
                break
        return found

    def _result(self, in_box, log_odds, back, amplitudes):
        sign = np.where(log_odds < 0, -1.0, 1.0)
        return in_input_setting(in_box, sign, np.abs(np.tanh(log_odds / 2)), back, amplitudes)


def _confidence(log_odds, box):
    """Expected r of every start, shape (n_starts,)."""
    return np.abs(np.tanh(log_odds / 2)) @ box.weight


def _agreement(log_odds, box):
    """Correlation of the maps of some starts with that of one."""
    return lambda some, top: box.agreement(log_odds[some], log_odds[top])
