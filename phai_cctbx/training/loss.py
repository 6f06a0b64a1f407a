"""What the network is trained to do: say how probable each phase is.

Minus the log likelihood of the true phases, on the origin and hand that fit
best, under the von Mises (acentric) or two-valued (centric) distributions that
the network gives; each reflection weighs as its amplitude times the root of its multiplicity,
those without a measured amplitude as they would if they had been measured.
"""

from __future__ import annotations

from torch import Tensor

from phai_cctbx.network.alignment import align
from phai_cctbx.network.expectation import log_normaliser, modulus
from phai_cctbx.training.diffraction import Diffraction


def phase_loss(output: Tensor, diffraction: Diffraction) -> Tensor:
    """Loss of each crystal, shape (b,); 0 for a network that knows nothing.

    Parameters
    ----------
    output : Tensor, shape (b, k, n)
        kappa exp(i phase).
    diffraction : Diffraction
    """
    batch = diffraction.batch
    weight = (diffraction.f_sq_all * batch.multiplicity + 1e-12).sqrt() * batch.mask
    weight = weight / weight.sum(1, keepdim=True)
    truth = align(output.float(), diffraction.phase_factor, weight, batch)
    kappa = modulus(output)
    log_likelihood = (output * truth).sum(1) - log_normaliser(kappa, batch.centric)
    return -(log_likelihood * weight).sum(1)
