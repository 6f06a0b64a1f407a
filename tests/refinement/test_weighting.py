"""Weights that make the goodness of fit flat."""

import numpy as np
import pytest

from phai_cctbx.refinement.weighting import Weighting, optimise_weighting


def test_the_weights_of_the_errors_are_found():
    generator = np.random.default_rng(11)
    fc_sq = generator.gamma(0.5, 400.0, size=4000) + 1.0
    sigmas = np.full_like(fc_sq, 3.0)
    true = Weighting(0.05, 0.4)
    fo_sq = fc_sq + generator.normal(size=4000) / np.sqrt(true.weights(fc_sq, sigmas, fc_sq))
    found = optimise_weighting(fo_sq, sigmas, fc_sq, n_parameters=100)
    assert found.a == pytest.approx(true.a, abs=0.01)
    goof = np.sqrt(np.sum(found.weights(fo_sq, sigmas, fc_sq) * (fo_sq - fc_sq) ** 2) / 3900)
    assert goof == pytest.approx(1.0, abs=0.06)


def test_weights_follow_the_formula_of_smtbx():
    from scitbx.array_family import flex

    fo_sq, sigmas, fc_sq = np.array([100.0, -3.0]), np.array([2.0, 1.0]), np.array([90.0, 1.0])
    weighting = Weighting(0.07, 0.3)
    theirs = weighting.scheme()(flex.double(fo_sq), flex.double(sigmas), flex.double(fc_sq), 1.0)
    assert np.allclose(weighting.weights(fo_sq, sigmas, fc_sq), np.array(theirs))
