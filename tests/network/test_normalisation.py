"""|E| from amplitudes."""

import numpy as np
import pytest

import phai_cctbx  # noqa: F401  (Boost before torch)

torch = pytest.importorskip("torch")

from phai_cctbx.network.normalisation import normalised_amplitudes  # noqa: E402


def wilson_amplitudes(n, b_factor, scale, seed):
    """Acentric Wilson statistics: |F|^2 exponential about scale exp(-2 B s^2) epsilon."""
    rng = np.random.default_rng(seed)
    d_star = np.cbrt(rng.uniform(0.001, 0.125, n))
    epsilon = np.where(rng.random(n) < 0.1, 2.0, 1.0)
    mean = scale * np.exp(-2 * b_factor * (d_star / 2) ** 2) * epsilon
    e_true = np.sqrt(rng.exponential(size=n))
    tensors = (torch.tensor(x)[None] for x in (e_true * np.sqrt(mean), d_star, epsilon))
    return (*tensors, torch.ones(1, n, dtype=torch.float64), e_true)


@pytest.mark.parametrize("b_factor", [0.0, 4.0, 15.0])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e7])
def test_recovers_e_whatever_scale_and_b(b_factor, scale):
    f_obs, d_star, epsilon, mask, e_true = wilson_amplitudes(4000, b_factor, scale, 1)
    e_value = normalised_amplitudes(f_obs, d_star, epsilon, mask)[0].numpy()
    assert abs((e_value**2).mean() - 1) < 0.01
    shown = e_true < 2.5
    assert np.abs(e_value / e_true - 1)[shown].mean() < 0.04


@pytest.mark.parametrize("n", [5, 20, 60])
def test_few_reflections(n):
    f_obs, d_star, epsilon, mask, _ = wilson_amplitudes(n, 3.0, 50.0, n)
    e_value = normalised_amplitudes(f_obs, d_star, epsilon, mask)[0]
    assert torch.isfinite(e_value).all()
    assert (e_value**2).mean().item() == pytest.approx(1.0, abs=0.02)


def test_padding_does_not_count():
    f_obs, d_star, epsilon, mask, _ = wilson_amplitudes(50, 3.0, 50.0, 3)
    alone = normalised_amplitudes(f_obs, d_star, epsilon, mask)
    zeros = torch.zeros(1, 7, dtype=torch.float64)
    padded = (torch.cat([t, zeros], 1) for t in (f_obs, d_star, epsilon, mask))
    together = normalised_amplitudes(*padded)
    torch.testing.assert_close(together[:, :50], alone)
    assert together[:, 50:].abs().max() == 0


def test_zero_amplitudes_stay_zero():
    f_obs, d_star, epsilon, mask, _ = wilson_amplitudes(50, 3.0, 50.0, 4)
    f_obs[0, :5] = 0.0
    e_value = normalised_amplitudes(f_obs, d_star, epsilon, mask)
    assert (e_value[0, :5] == 0).all()
    assert torch.isfinite(e_value).all()
