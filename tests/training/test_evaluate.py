import numpy as np
import pytest

from phai_cctbx.training.evaluate import Evaluation


def test_failures_are_told_apart():
    # phased; not picked; not found; left, but found all the same; left
    picked = np.array([0.99, 0.50, 0.30, 0.97, 0.20])
    best = np.array([0.99, 0.98, 0.60, 0.97, 0.40])
    from_truth = np.array([1.00, 1.00, 0.99, 0.80, 0.70])
    volume = np.array([400.0, 450.0, 700.0, 800.0, 900.0])
    found = Evaluation(np.full(5, 14), volume, picked, best, from_truth, picked, best)
    everything = np.ones(5, dtype=bool)
    assert found.failures(everything) == {
        "model": pytest.approx(0.2), "search": pytest.approx(0.2), "ranking": pytest.approx(0.2)
    }  # fmt: skip
    small, large = found.summary().splitlines()
    assert small.startswith("V 0-500 n 2: r > 0.95: picked 0.50, best 1.00, from truth 1.00")
    assert small.endswith("failures: model 0.00, search 0.00, ranking 0.50")
    assert large.endswith("failures: model 0.33, search 0.33, ranking 0.00")
