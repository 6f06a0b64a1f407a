r"""|E| from amplitudes, the same in training and in use.

The mean of F^2/epsilon falls with s^2 = (d*/2)^2 as exp(b_0 + b_1 s^2 + b_2 s^4).
The coefficients are fitted by maximum likelihood for exponentially distributed
intensities (a gamma regression with logarithmic link, after Wilson statistics),
which needs neither bins nor composition and works from twenty reflections on.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: Iterations of Fisher scoring; converges to 1e-6 in 6-8.
N_ITERATIONS = 12
#: Weight, in reflections, that holds the curvature b_2 near zero.
CURVATURE_PRIOR = 4.0
#: What stands for |E| of a reflection that takes part in a network without having been measured.
NOT_MEASURED = -1.0
#: |E| above this is cut, as a single such reflection rules all maps (Wilson: p < 1e-11).
E_MAX = 5.0


def normalised_amplitudes(
    f_obs: Tensor, d_star: Tensor, epsilon: Tensor, mask: Tensor
) -> Tensor:
    """|E|, with mean square 1 over the reflections of each crystal.

    Parameters
    ----------
    f_obs : Tensor, shape (b, n)
        Amplitudes on any scale.
    d_star : Tensor, shape (b, n)
        1/d, A^-1.
    epsilon : Tensor, shape (b, n)
    mask : Tensor, shape (b, n)

    Returns
    -------
    Tensor, shape (b, n)
    """
    dtype = f_obs.dtype
    f_obs, d_star, epsilon, mask = (t.double() for t in (f_obs, d_star, epsilon, mask))
    n_present = mask.sum(1, keepdim=True).clamp(min=1.0)
    y = f_obs.square() / epsilon.clamp(min=1.0) * mask
    y = y / ((y.sum(1, keepdim=True) / n_present) + 1e-300)
    s_sq = d_star.square() / (d_star * mask).square().amax(1, keepdim=True).clamp(min=1e-12)
    design = torch.stack([torch.ones_like(s_sq), s_sq - 0.5, (s_sq - 0.5).square()], -1)
    prior = torch.diag(torch.tensor([1e-6, 1e-2, CURVATURE_PRIOR], dtype=y.dtype, device=y.device))
    gram = torch.einsum("bni,bn,bnj->bij", design, mask, design) + prior
    coefficients = torch.zeros(len(y), 3, dtype=y.dtype, device=y.device)
    for _ in range(N_ITERATIONS):
        log_mean = torch.einsum("bni,bi->bn", design, coefficients).clamp(-12.0, 12.0)
        residual = (y * torch.exp(-log_mean) - 1.0) * mask
        gradient = torch.einsum("bni,bn->bi", design, residual) - coefficients @ prior
        step = torch.linalg.solve(gram, gradient)
        coefficients = coefficients + step.clamp(-1.5, 1.5)
    log_mean = torch.einsum("bni,bi->bn", design, coefficients).clamp(-12.0, 12.0)
    e_sq = y * torch.exp(-log_mean)
    e_sq = e_sq / (e_sq.sum(1, keepdim=True) / n_present + 1e-300)
    return torch.sqrt(e_sq).clamp(max=E_MAX).to(dtype) * mask.to(dtype)
