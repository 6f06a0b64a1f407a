"""Starts grouped into solutions: one map per group, the most confident start first."""

import numpy as np
import pytest

from phai_cctbx.phasing.solutions import (
    N_ALTERNATIVES,
    distinct_solutions,
    enough_agree,
    most_agree,
)

#: Starts 0, 2 and 4 are one map, 1 and 3 another.
MAPS = np.array([0, 1, 0, 1, 0])


def agreement(some, top):
    return np.where(MAPS[some] == MAPS[top], 0.99, 0.30)


def test_starts_with_one_map_are_one_solution():
    confidence = np.array([0.5, 0.8, 0.7, 0.6, 0.4])
    assert distinct_solutions(confidence, agreement) == [(1, 2), (2, 3)]


def test_a_start_agrees_with_itself_where_its_map_is_undefined():
    found = distinct_solutions(np.full(2, 0.5), lambda some, top: np.full(len(some), np.nan))
    assert found == [(0, 1), (1, 1)]


def test_one_solution_and_its_alternatives_are_kept():
    confidence = np.linspace(0.9, 0.1, 20)
    found = distinct_solutions(confidence, lambda some, top: np.zeros(len(some)))
    assert [index for index, _ in found] == list(range(1 + N_ALTERNATIVES))


@pytest.mark.parametrize(
    ("confidence", "enough"),
    [
        ([0.95, 0.1, 0.94, 0.2, 0.93], True),
        ([0.95, 0.94, 0.93, 0.2, 0.1], False),  # the first three are not one map
        ([0.85, 0.1, 0.84, 0.2, 0.83], False),  # not confident
        ([0.95, 0.1], False),  # two starts cannot be three that agree
    ],
)
def test_no_more_starts_once_three_confident_ones_agree(confidence, enough):
    assert enough_agree(np.array(confidence), agreement) is enough


@pytest.mark.parametrize(
    ("confidence", "n_at_least", "enough"),
    [
        ([0.85, 0.1, 0.2, 0.3, 0.4], 3, True),  # three of five
        ([0.1, 0.85, 0.2, 0.3, 0.4], 2, False),  # two of five are fewer than half
        ([0.85, 0.1, 0.2, 0.3, 0.4], 4, False),
        ([0.75, 0.1, 0.2, 0.3, 0.4], 3, False),  # not confident
        ([0.85, 0.1, 0.2], 4, False),
    ],
)
def test_no_more_starts_once_most_agree_with_the_best(confidence, n_at_least, enough):
    assert most_agree(np.array(confidence), agreement, 0.8, n_at_least) is enough
