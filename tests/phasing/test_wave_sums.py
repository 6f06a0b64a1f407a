import numpy as np
import pytest

from phai_cctbx.phasing.wave_sums import maximise


@pytest.mark.parametrize("n_dimensions", [1, 2, 3])
def test_the_peak_of_waves_that_agree_in_one_point(n_dimensions):
    rng = np.random.default_rng(n_dimensions)
    frequencies = rng.integers(-7, 8, size=(60, n_dimensions))
    target = rng.random(n_dimensions)
    terms = rng.random(60) * np.exp(-2j * np.pi * (frequencies @ target))
    value, position = maximise(frequencies, terms)
    # In phase with all terms, the sum is the sum of the moduli, its upper bound.
    assert value == pytest.approx(np.abs(terms).sum(), rel=1e-9)
    assert np.abs((position - target + 0.5) % 1 - 0.5).max() < 1e-5


def test_a_direction_without_waves_is_left_alone():
    frequencies = np.array([[1, 0], [2, 0]])
    value, position = maximise(frequencies, np.array([1.0 + 0j, 1.0 + 0j]))
    assert value == pytest.approx(2)
    assert np.isfinite(position).all()
