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


def sampled_phase_factor(
    output: Tensor, centric: Tensor, sharpness: Tensor, generator: torch.Generator
) -> Tensor:
    """exp(i phase) of phases drawn from the distributions that the network gives, (b, k, n).

    Centric phases are drawn from their two values, acentric ones from the wrapped normal
    distribution with the mean cosine of the von Mises distribution.

    Parameters
    ----------
    output : Tensor, shape (b, k, n)
        kappa exp(i phase).
    centric : Tensor of bool, shape (b, n)
    sharpness : Tensor, shape (b, 1)
        Factor on kappa: below 1 the phases scatter more than the network believes.
    generator : torch.Generator
    """
    kappa = modulus(output)
    unit = output / kappa[:, None]
    kappa = kappa * sharpness
    uniform = torch.rand(kappa.shape, generator=generator, device=kappa.device)
    turned = torch.where(uniform > torch.sigmoid(2.0 * kappa), -1.0, 1.0)
    if output.shape[1] == 1:
        return unit * turned[:, None]
    spread = torch.sqrt(-2.0 * torch.log(expected_cosine(kappa, centric).clamp(1e-3, 1.0 - 1e-6)))
    error = spread * torch.randn(kappa.shape, generator=generator, device=kappa.device)
    cos = torch.where(centric, turned, torch.cos(error))
    sin = torch.where(centric, torch.zeros_like(error), torch.sin(error))
    re, im = unit[:, 0], unit[:, 1]
    return torch.stack([re * cos - im * sin, re * sin + im * cos], 1)


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
