"""Passes of the network, each started from the answer of the one before.

`recycle` goes on from expected values and ends where it first comes to rest; `anneal` draws the
phases at random from the distributions that the network gives, which get sharper from pass to
pass, and so walks on from states that only looked like a solution.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from phai_cctbx.network.expectation import (
    expected_cosine,
    expected_phase_factor,
    modulus,
    sampled_phase_factor,
)

#: Factor on kappa in the first and the last of the passes with random phases (geometric between).
#: Measured on artificial crystals: hotter starts and colder ends find fewer solutions.
FIRST_SHARPNESS, LAST_SHARPNESS = 1.0, 2.0
#: Passes from expected values at the end, and at most this share of all.
N_LAST, LAST_SHARE = 4, 0.5


#: One pass of a network over one batch: kappa exp(i phase) (b, k, n) from a start (b, k, n).
OnePass = Callable[[Tensor], Tensor]


def recycle(one_pass: OnePass, start: Tensor, centric: Tensor, n_passes: int) -> Tensor:
    """kappa exp(i phase) after `n_passes` passes; `centric` as of `FourierOperator`."""
    output = start
    for _ in range(n_passes):
        output = one_pass(start)
        start = expected_phase_factor(output, centric)
    return output


def anneal(
    one_pass: OnePass,
    start: Tensor,
    centric: Tensor,
    mask: Tensor,
    n_passes: int,
    generator: torch.Generator,
    settled: Callable[[Tensor], bool] | None = None,
) -> Tensor:
    """kappa exp(i phase) after `n_passes` passes from randomly drawn phases, the last few from
    expected values; `centric` and `mask` as of `FourierOperator`. Once `settled` says of an output
    that nothing is left to be found, only the last few are made."""
    n_last = min(N_LAST, int(LAST_SHARE * n_passes))
    n_drawn = n_passes - n_last
    for i in range(n_drawn):
        output = one_pass(start)
        if settled is not None and settled(output):
            start = expected_phase_factor(output, centric)
            break
        sharpness = FIRST_SHARPNESS * (LAST_SHARPNESS / FIRST_SHARPNESS) ** (i / n_drawn)
        factor = torch.full((len(output), 1), sharpness, device=output.device)
        start = sampled_phase_factor(output, centric, factor, generator) * mask[:, None]
    if n_last == 0:
        return output
    return recycle(one_pass, start, centric, n_last)


def mean_confidence(output: Tensor, centric: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean of the expected cosines, shape (b,): with F^2 times multiplicity
    as weights it is the r that the network expects of itself."""
    weight = weight / weight.sum(1, keepdim=True)
    return (expected_cosine(modulus(output), centric) * weight).sum(1)
