r"""From the network's kappa exp(i phase) to expected values, and back to starts.

A centric phase has two values, phi_0 and phi_0 + pi: p ~ exp(kappa cos dphi), the
expected cosine of its error is tanh(kappa). An acentric phase follows von Mises:
the expected cosine is I_1(kappa) / I_0(kappa).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def modulus(output: Tensor) -> Tensor:
    """kappa, shape (b, n), of an output of shape (b, k, n)."""
    return torch.sqrt(output.square().sum(1) + 1e-12)


def expected_cosine(kappa: Tensor, centric: Tensor) -> Tensor:
    """Expected cosine of the phase error, 0 to 1, shape (b, n)."""
    acentric = torch.special.i1e(kappa) / torch.special.i0e(kappa)
    return torch.where(centric, torch.tanh(kappa), acentric)


def expected_phase_factor(output: Tensor, centric: Tensor) -> Tensor:
    """Expected value of exp(i phase), shape (b, k, n): the start of the next pass."""
    kappa = modulus(output)
    return output * (expected_cosine(kappa, centric) / kappa)[:, None]


def log_normaliser(kappa: Tensor, centric: Tensor) -> Tensor:
    """Logarithm of the integral of exp(kappa cos dphi), 0 at kappa = 0, shape (b, n)."""
    log_cosh = kappa + torch.log1p(torch.exp(-2.0 * kappa)) - math.log(2.0)
    log_i0 = kappa + torch.log(torch.special.i0e(kappa))
    return torch.where(centric, log_cosh, log_i0)


def random_phase_factor(
    centric: Tensor, restricted_phase: Tensor, n_parts: int, generator: torch.Generator
) -> Tensor:
    """exp(i phase) of random phases that obey the restrictions, shape (b, k, n).

    Parameters
    ----------
    centric : Tensor of bool, shape (b, n)
    restricted_phase : Tensor, shape (b, n)
        Radians, modulo pi; read where centric.
    n_parts : int
        1 in centrosymmetric groups (all phases 0 or pi), else 2.
    generator : torch.Generator
    """
    uniform = torch.rand(centric.shape, generator=generator, device=centric.device)
    sign = torch.where(uniform < 0.5, torch.ones_like(uniform), -torch.ones_like(uniform))
    if n_parts == 1:
        return sign[:, None]
    angle = torch.where(centric, restricted_phase, 2.0 * math.pi * uniform)
    sign = torch.where(centric, sign, torch.ones_like(sign))
    return torch.stack([sign * torch.cos(angle), sign * torch.sin(angle)], 1)
