r"""The orthonormal, symmetrised Fourier basis of a space group.

For a unique reflection h the symmetrised wave is

.. math:: B_h(x) = \sum_{(R,t)} \exp 2 \pi i h \cdot (R x + t)

(operations modulo centring), so that F(h) = sum_j f_j B_h(x_j) over the atoms of
the asymmetric unit, and rho(x) = sum_h w_h^2 Re[F(h) B_h(x)^*] over the unique
reflections, w_h^2 = 2 where -h is not among the equivalents of h (acentric), 1
where it is. The mean of |B_h|^2 over the cell is M epsilon_h. Real and imaginary
part of w_h B_h / sqrt(M epsilon_h) are therefore an orthonormal basis of the real
maps that have the symmetry of the group.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def symmetrised_waves(
    hkl: Tensor, points: Tensor, rotations: Tensor, translations: Tensor, centrosymmetric: bool
) -> Tensor:
    """Real and imaginary parts of B_h(x).

    Parameters
    ----------
    hkl : Tensor, shape (b, n, 3)
    points : Tensor, shape (b, g, 3)
        Fractional coordinates.
    rotations : Tensor, shape (b, m, 3, 3)
        Operations modulo centring; zero matrices pad. In centrosymmetric
        batches the proper ones alone (`half_operations`).
    translations : Tensor, shape (b, m, 3)
    centrosymmetric : bool
        All crystals of the batch have an inversion centre at the origin: the
        imaginary part is zero and left out.

    Returns
    -------
    Tensor, shape (b, k, n, g)
        k = 1 in centrosymmetric batches, else 2.
    """
    real_part = torch.zeros(hkl.shape[0], hkl.shape[1], points.shape[1], device=hkl.device)
    imaginary_part = torch.zeros_like(real_part) if not centrosymmetric else real_part
    for m in range(rotations.shape[1]):
        rotation, translation = rotations[:, m], translations[:, m]
        used = (rotation.abs().sum((1, 2)) > 0).to(hkl.dtype)[:, None, None]
        rotated = torch.bmm(hkl, rotation)
        turns = torch.bmm(rotated, points.transpose(1, 2)) + torch.bmm(
            hkl, translation[:, :, None]
        )
        angle = (2.0 * math.pi) * (turns - turns.round())
        real_part = real_part + used * torch.cos(angle)
        if not centrosymmetric:
            imaginary_part = imaginary_part + used * torch.sin(angle)
    if centrosymmetric:
        return 2.0 * real_part[:, None]
    return torch.stack([real_part, imaginary_part], 1)


def half_operations(rotations: Tensor) -> Tensor:
    """Which operations to sum over where an inversion centre is at the origin.

    (R, t) and (-R, -t) have the same cosine, so the proper rotations suffice.

    Parameters
    ----------
    rotations : Tensor, shape (m, 3, 3)

    Returns
    -------
    Tensor of bool, shape (m,)
    """
    return torch.linalg.det(rotations) > 0


def basis_norm(epsilon: Tensor, centric: Tensor, n_operations: Tensor) -> Tensor:
    """w_h / sqrt(M epsilon_h), shape (b, n); zero where epsilon is zero (padding)."""
    weight = torch.where(centric, torch.ones_like(epsilon), torch.full_like(epsilon, math.sqrt(2)))
    norm = weight / torch.sqrt(n_operations[:, None] * epsilon.clamp(min=1.0))
    return torch.where(epsilon > 0, norm, torch.zeros_like(norm))
