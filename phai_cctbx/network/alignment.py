"""Origin and hand: bring a set of true phases onto the frame of a prediction.

The same score r as everywhere: the largest, over allowed origin shifts and hand,
of sum F^2 cos(phi - phi_true) / sum F^2.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from phai_cctbx.network.frame import Frame

#: Newton steps from the best grid point of a continuous origin.
N_NEWTON_STEPS = 3


def shifted(phase_factor: Tensor, hkl: Tensor, shift: Tensor) -> Tensor:
    """Phase factors after moving every atom by `shift`: times exp(2 pi i h.s).

    Parameters
    ----------
    phase_factor : Tensor, shape (b, k, n)
    hkl : Tensor, shape (b, n, 3)
    shift : Tensor, shape (b, 3)
    """
    angle = (2.0 * math.pi) * torch.bmm(hkl, shift[:, :, None])[..., 0]
    cos, sin = torch.cos(angle), torch.sin(angle)
    if phase_factor.shape[1] == 1:
        return phase_factor * cos[:, None]
    re, im = phase_factor[:, 0], phase_factor[:, 1]
    return torch.stack([re * cos - im * sin, re * sin + im * cos], 1)


def other_hand(phase_factor: Tensor, frame: Frame) -> Tensor:
    """Phase factors of the inverted structure in the same group's setting."""
    conjugate = phase_factor * phase_factor.new_tensor([1.0, -1.0])[None, :, None]
    return shifted(conjugate, frame.hkl, frame.inversion_shift)


class _OriginWaves:
    """cos and sin of 2 pi h.s for all candidate origins; once for one crystal repeated."""

    def __init__(self, frame: Frame):
        one_crystal = len(frame.hkl) > 1 and frame.hkl.stride(0) == 0
        kept = slice(0, 1) if one_crystal else slice(None)
        turns = torch.bmm(frame.origins[kept], frame.hkl[kept].transpose(1, 2))
        angle = (2.0 * math.pi) * turns
        self.cos, self.sin = torch.cos(angle), torch.sin(angle)

    def sums(self, re: Tensor, im: Tensor) -> Tensor:
        """Sum over h of re cos + im sin, shape (b, q)."""
        if len(self.cos) == 1:
            return re @ self.cos[0].T + im @ self.sin[0].T
        total = torch.bmm(self.cos, re[..., None]) + torch.bmm(self.sin, im[..., None])
        return total[..., 0]


def _best_shift(output: Tensor, truth: Tensor, weight: Tensor, frame: Frame, waves: _OriginWaves):
    """Shift that maximises sum w Re(output conj(shifted truth)), and that sum."""
    re = (output * truth).sum(1) * weight
    if output.shape[1] == 1:
        im = torch.zeros_like(re)
    else:
        im = (output[:, 1] * truth[:, 0] - output[:, 0] * truth[:, 1]) * weight
    score = waves.sums(re, im)
    score = torch.where(frame.origin_mask > 0, score, torch.full_like(score, -math.inf))
    best, index = score.max(1)
    shift = torch.gather(frame.origins, 1, index[:, None, None].expand(-1, 1, 3))[:, 0]
    if output.shape[1] == 1 or not bool((frame.polar.abs().sum() > 0).item()):
        return shift, best
    along = (2.0 * math.pi) * torch.bmm(frame.hkl, frame.polar.transpose(1, 2))
    free = (frame.polar.abs().sum(2) > 0).to(along.dtype)
    for _ in range(N_NEWTON_STEPS):
        turn = (2.0 * math.pi) * torch.bmm(frame.hkl, shift[:, :, None])[..., 0]
        value = re * torch.cos(turn) + im * torch.sin(turn)
        slope = im * torch.cos(turn) - re * torch.sin(turn)
        gradient = torch.einsum("bn,bnp->bp", slope, along)
        curvature = torch.einsum("bnp,bn,bnq->bpq", along, value.clamp(min=0.0), along)
        curvature = curvature + torch.diag_embed(
            1.0 - free + 1e-3 * curvature.diagonal(dim1=1, dim2=2) + 1e-9
        )
        step = torch.linalg.solve(curvature, gradient)
        shift = shift + torch.einsum("bp,bpi->bi", step * free, frame.polar)
    turn = (2.0 * math.pi) * torch.bmm(frame.hkl, shift[:, :, None])[..., 0]
    refined = (re * torch.cos(turn) + im * torch.sin(turn)).sum(1)
    return shift, torch.maximum(best, refined)


@torch.no_grad()
def align(output: Tensor, truth: Tensor, weight: Tensor, frame: Frame) -> Tensor:
    """The truth on the origin and hand that fit a prediction best.

    Parameters
    ----------
    output : Tensor, shape (b, k, n)
        Predicted phase factors, of any modulus.
    truth : Tensor, shape (b, k, n)
        True phase factors.
    weight : Tensor, shape (b, n)
    frame : Frame

    Returns
    -------
    Tensor, shape (b, k, n)
    """
    waves = _OriginWaves(frame)
    shift, score = _best_shift(output, truth, weight, frame, waves)
    aligned = shifted(truth, frame.hkl, shift)
    if output.shape[1] == 1:
        return aligned
    mirror = other_hand(truth, frame)
    mirror_shift, mirror_score = _best_shift(output, mirror, weight, frame, waves)
    take = ((mirror_score > score) & (frame.hand_free > 0))[:, None, None]
    return torch.where(take, shifted(mirror, frame.hkl, mirror_shift), aligned)


@torch.no_grad()
def map_correlation(output: Tensor, truth: Tensor, f_sq: Tensor, frame: Frame) -> Tensor:
    """r of each crystal, shape (b,): mean cosine after alignment, by F^2 and multiplicity."""
    unit = output / torch.sqrt(output.square().sum(1, keepdim=True) + 1e-12)
    weight = f_sq * frame.multiplicity
    weight = weight / weight.sum(1, keepdim=True)
    aligned = align(unit, truth, weight, frame)
    return ((unit * aligned).sum(1) * weight).sum(1)
