"""Passes of the network, each started from what the one before expected."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from phai_cctbx.network.expectation import expected_cosine, expected_phase_factor, modulus


def recycle(
    model: Callable[..., Tensor],
    e_value: Tensor,
    d_star: Tensor,
    epsilon: Tensor,
    centric: Tensor,
    mask: Tensor,
    start: Tensor,
    basis: Tensor,
    weights: Tensor,
    n_passes: int,
) -> Tensor:
    """kappa exp(i phase) after `n_passes` passes; arguments as of `FourierOperator`."""
    output = start
    for _ in range(n_passes):
        output = model(e_value, d_star, epsilon, centric, mask, start, basis, weights)
        start = expected_phase_factor(output, centric)
    return output


def mean_confidence(output: Tensor, centric: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean of the expected cosines, shape (b,): with F^2 times multiplicity
    as weights it is the r that the network expects of itself."""
    weight = weight / weight.sum(1, keepdim=True)
    return (expected_cosine(modulus(output), centric) * weight).sum(1)
