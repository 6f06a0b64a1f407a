"""What strategies with many starts of a network share: when to stop, which answers differ.

A start that is right is found again by others, with the same map up to origin and hand; starts
that went wrong differ from one another.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import numpy as np

# cctbx
from cctbx import miller
from cctbx.array_family import flex
from libtbx.utils import Sorry

from phai_cctbx.network.model_file import ModelFileError
from phai_cctbx.phasing.result import PhasingResult

logger = logging.getLogger(__name__)

#: Solutions whose maps correlate better than this are one solution.
SAME_SOLUTION = 0.9
#: No more starts once this many of the most confident agree ...
ENOUGH_AGREE = 3
#: ... and the best of them has at least this confidence.
CONFIDENT = 0.9
#: Solutions kept beside the best one.
N_ALTERNATIVES = 4

#: Of starts by number, and of one of them: the correlation of the maps of each with that one.
Agreement = Callable[[np.ndarray, int], np.ndarray]


@lru_cache(maxsize=4)
def cached_model(load: Callable, path: str, advice: str):
    """A model file, read once.

    Parameters
    ----------
    load : callable
        Reads a path into a network and its description, or raises `ModelFileError`.
    path : str
    advice : str
        What to do where the file cannot be used: the end of the message.

    Raises
    ------
    libtbx.utils.Sorry
        Where the file cannot be used.
    """
    try:
        return load(path)
    except ModelFileError as error:
        raise Sorry(f"Model {error}. {advice}") from error


def enough_agree(
    confidence: np.ndarray, agreement: Agreement, at_least: float = CONFIDENT
) -> bool:
    """Whether the most confident starts are one solution, so that more would bring nothing.

    Parameters
    ----------
    confidence : numpy.ndarray, shape (n_starts,)
    agreement : callable
        See `Agreement`.
    at_least : float
        Confidence of the best of them.
    """
    if len(confidence) < ENOUGH_AGREE or confidence.max() < at_least:
        return False
    top = np.argsort(-confidence, kind="stable")[:ENOUGH_AGREE]
    return bool((agreement(top, int(top[0])) > SAME_SOLUTION).all())


def most_agree(
    confidence: np.ndarray, agreement: Agreement, at_least: float, n_at_least: int
) -> bool:
    """Whether so many starts, and at least half of all, found what the most confident one did.

    Parameters
    ----------
    confidence : numpy.ndarray, shape (n_starts,)
    agreement : callable
        See `Agreement`.
    at_least : float
        Confidence of the most confident one.
    n_at_least : int
    """
    n_starts = len(confidence)
    if n_starts < n_at_least or confidence.max() < at_least:
        return False
    same = agreement(np.arange(n_starts), int(confidence.argmax())) > SAME_SOLUTION
    return int(same.sum()) >= max(n_at_least, n_starts / 2)


def distinct_solutions(confidence: np.ndarray, agreement: Agreement) -> list[tuple[int, int]]:
    """Distinct solutions, most confident first: (number of the start, how many starts agree).

    Parameters
    ----------
    confidence : numpy.ndarray, shape (n_starts,)
    agreement : callable
        See `Agreement`.
    """
    left = np.ones(len(confidence), dtype=bool)
    found = []
    while left.any() and len(found) <= N_ALTERNATIVES:
        best = int(np.where(left, confidence, -1.0).argmax())
        same = agreement(np.arange(len(confidence)), best) > SAME_SOLUTION
        same[best] = True
        found.append((best, int((same & left).sum())))
        left &= ~same
    return found


def in_input_setting(
    f_obs: miller.array,
    phase_factor: np.ndarray,
    confidence: np.ndarray,
    back,
    amplitudes: miller.array,
) -> PhasingResult:
    """Phases found in the setting of the network, in that of the input.

    Parameters
    ----------
    f_obs : cctbx.miller.array
        Amplitudes in the setting of the network.
    phase_factor, confidence : numpy.ndarray, shape (n_reflections,)
        exp(i phase), and the expected cosine of the phase error, of `f_obs`.
    back : cctbx.sgtbx.change_of_basis_op
        From the setting of the network to that of the input.
    amplitudes : cctbx.miller.array
        The input, for its symmetry.
    """
    values = {
        "f_phased": flex.complex_double(f_obs.data().as_numpy_array() * phase_factor),
        "confidence": flex.double(confidence),
    }
    return PhasingResult(
        **{
            name: f_obs.customized_copy(data=data, sigmas=None)
            .change_basis(back)
            .customized_copy(crystal_symmetry=amplitudes.crystal_symmetry())
            .map_to_asu()
            for name, data in values.items()
        }
    )


def coefficients_in_reference(
    guess: PhasingResult, to_reference, f_obs: miller.array, weighted: bool
) -> np.ndarray:
    """Structure factors of an answer in the setting of the input, in that of a network.

    Parameters
    ----------
    guess : PhasingResult
    to_reference : cctbx.sgtbx.change_of_basis_op
        From the setting of the input to that of the network.
    f_obs : cctbx.miller.array
        Amplitudes in the setting of the network.
    weighted : bool
        By their confidence.

    Returns
    -------
    numpy.ndarray of complex, shape (n_reflections,)
        In the order of `f_obs`; 0 where the answer has none.
    """
    data = guess.f_phased.data() * guess.confidence.data() if weighted else guess.f_phased.data()
    given = guess.f_phased.customized_copy(data=data, sigmas=None)
    moved = given.change_basis(to_reference).map_to_asu()
    pairs = miller.match_indices(f_obs.indices(), moved.indices()).pairs()
    coefficients = np.zeros(f_obs.size(), dtype=complex)
    of_f_obs, of_guess = pairs.column(0), pairs.column(1)
    coefficients[of_f_obs.as_numpy_array()] = moved.data().select(of_guess).as_numpy_array()
    return coefficients


def best_with_alternatives(
    strategy: str,
    seed: int,
    solutions: list[tuple[PhasingResult, int]],
    n_starts: int,
    began: float,
) -> PhasingResult:
    """The first solution with its figures of merit, and the others as its alternatives.

    Parameters
    ----------
    strategy : str
    seed : int
    solutions : list of (PhasingResult, int)
        Best first, each with the number of starts that agree on it.
    n_starts : int
        Starts that were made.
    began : float
        When, by `time.monotonic`.
    """
    results = []
    for result, n_agreeing in solutions:
        merit = {
            "expected_r": result.expected_r,
            "n_agreeing": n_agreeing,
            "n_starts": n_starts,
            "d_min": result.f_phased.d_min(),
        }
        results.append(replace(result, figures_of_merit=merit, strategy=strategy, seed=seed))
        logger.info(
            "%s solution %d: expected r %.3f, reached %d times from %d starts",
            strategy, len(results), result.expected_r, n_agreeing, n_starts,
        )  # fmt: skip
    seconds = time.monotonic() - began
    return replace(results[0], alternatives=tuple(results[1:]), seconds=seconds)
