r"""The orthonormal, symmetrised Fourier basis of a space group.

For a unique reflection h the symmetrised wave is

.. math:: B_h(x) = \sum_{(R,t)} \exp 2 \pi i h \cdot (R x + t)

(operations modulo centring), so that F(h) = sum_j f_j B_h(x_j) over the atoms of
the asymmetric unit, and rho(x) = sum_h w_h^2 Re[F(h) B_h(x)^*] over the unique
reflections, w_h^2 = 2 where -h is not among the equivalents of h (acentric), 1
where it is. The mean of |B_h|^2 over the cell is M epsilon_h. Real and imaginary
part of w_h B_h / sqrt(M epsilon_h) are therefore an orthonormal basis of the real
maps that have the symmetry of the group.

An allowed origin shift s by half axes gives B_h(x + s) = B_h(x) exp(2 pi i h.s) = +-B_h(x). With
2^m such shifts the reflections fall into 2^m classes by these signs (`parity`), and a map at x and
its copies x + s is a sum and difference of the maps of the classes at x alone: the transform needs
2^m times fewer products, as a step of a fast Fourier transform does.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from phai_cctbx.network.space_groups import SpaceGroup


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


def parity(group: SpaceGroup, hkl: np.ndarray) -> np.ndarray:
    """Class of each reflection among the half shifts of the origin, int, shape (n,).

    Bit j is set where the shift `half_shifts[2^j]` changes the sign of F(h). With the 8 half
    shifts of P -1 these are the parity groups of (h, k, l).
    """
    shifts = group.half_shifts
    generators = shifts[[2**j for j in range(len(shifts).bit_length() - 1)]]
    odd = np.round(2.0 * hkl @ generators.T).astype(np.int64) % 2
    return odd @ 2 ** np.arange(len(generators))


def places_by_parity(parity: Tensor, mask: Tensor, n_classes: int) -> tuple[Tensor, int]:
    """Where reflections go that are put in order by parity, each class padded to one length.

    Parameters
    ----------
    parity : Tensor of int, shape (b, n)
    mask : Tensor, shape (b, n)
        0 for padding.
    n_classes : int
        s

    Returns
    -------
    places : Tensor of int, shape (b, n)
        Below s * length; there, where nothing is any more, for padding.
    length : int
        Of the largest class.
    """
    member = mask[..., None] * (parity[..., None] == torch.arange(n_classes, device=mask.device))
    length = max(1, int(member.sum(1).max().item()))
    rank = ((member.cumsum(1) - 1.0) * member).sum(2).long()
    places = parity * length + rank
    return torch.where(mask > 0, places, n_classes * length), length


def in_places(values: Tensor, places: Tensor, n_places: int) -> Tensor:
    """Values of reflections (b, n, ...) put in their places (b, n_places, ...), zero elsewhere."""
    target = values.new_zeros([values.shape[0], n_places + 1] + list(values.shape[2:]))
    index = places.reshape(list(places.shape) + [1] * (values.dim() - 2)).expand_as(values)
    return target.scatter(1, index, values)[:, :n_places]
