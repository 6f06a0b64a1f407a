"""Charge flipping from random phases, with atoms as its judge.

The flipping is smtbx's, in P 1 (Oszlanyi & Suto, Acta Cryst. A60, 134, 2004; A61, 147, 2005).
What smtbx decides by the skewness of the map is decided here otherwise: at intervals the phases
are brought onto an origin of the space group, their peaks recycled, and what the peaks predict of
held-out amplitudes tells whether the structure is solved. Many starts that smtbx gives up, or
never sees converge, end in the structure this way.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

# cctbx
from cctbx import miller
from cctbx.array_family import flex
from smtbx.ab_initio import charge_flipping

from phai_cctbx.phasing.normalisation import expected_intensity, unique_amplitudes
from phai_cctbx.phasing.peak_model import CONVINCING, HALF_RIGHT_CC, PeakModel
from phai_cctbx.phasing.result import PhasingResult
from phai_cctbx.phasing.scoring import score_r
from phai_cctbx.phasing.symmetrisation import symmetrise

logger = logging.getLogger(__name__)

#: Flipping threshold in standard deviations of the map (smtbx's choice).
DELTA_OVER_SIGMA = 1.1
#: Cycles in which the flipping threshold follows the map.
_SETTLING_CYCLES = 10
#: Cycles between two looks at the phases.
_CYCLES_BETWEEN_LOOKS = 80
_N_ALTERNATIVES = 4
#: Phases whose peaks explain this much are worth some rounds of refinement.
_PROMISING_CC = 0.4
#: The search ends, too, when this many starts found the same map: random phases do not.
ENOUGH_AGREE = 3
_SAME_MAP = 0.95


class ChargeFlippingPhaser:
    """Phase amplitudes by charge flipping and recycled peaks.

    Meant for atomic resolution: at 1.2 A and better its `probability_right` is a judgement, at
    1.5 A a hint, and beyond 2 A nothing should be expected.

    Parameters
    ----------
    n_starts : int
        Random starts at most; a convincing solution ends the search.
    n_cycles : int
        Flipping cycles per start.
    composition : dict of str to float, optional
        Element -> atoms per unit cell, to know how many peaks are atoms.
    seed : int
    progress : callable, optional
        Called with (starts done, starts in all).
    """

    name = "charge_flipping"
    phil_str = """
      n_starts = 24
        .type = int(value_min=1)
        .help = "Random starts at most"
      n_cycles = 320
        .type = int(value_min=1)
        .help = "Flipping cycles per start"
    """

    def __init__(
        self,
        n_starts: int = 24,
        n_cycles: int = 320,
        composition: dict[str, float] | None = None,
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ):
        self.n_starts = n_starts
        self.n_cycles = n_cycles
        self.composition = composition
        self.seed = seed
        self.progress = progress or (lambda done, total: None)

    def __call__(self, f_obs: miller.array) -> PhasingResult:
        """Phases of all reflections, in the space group and setting of `f_obs`.

        Parameters
        ----------
        f_obs : cctbx.miller.array
            Amplitudes or intensities, merged or not.
        """
        began = time.monotonic()
        model = PeakModel(unique_amplitudes(f_obs), self.composition)
        e_p1 = _normalised_in_p1(model.f_obs)
        rng = np.random.default_rng(self.seed)
        candidates = []
        for start in range(self.n_starts):
            best = self._one_start(model, e_p1, rng)
            candidates.append(best)
            logger.info(
                "Charge flipping, start %d: held-out correlation %.3f",
                start + 1,
                _held_out(best),
            )
            self.progress(start + 1, self.n_starts)
            if best.figures_of_merit["probability_right"] > CONVINCING:
                break
            if _n_agreeing(candidates) >= ENOUGH_AGREE:
                break
        n_agreeing = _n_agreeing(candidates)
        candidates.sort(key=_held_out, reverse=True)
        refined = model.refine(candidates[0].f_phased.phases().data().as_numpy_array())
        best = model.result(
            model.polish(refined),
            self.name,
            self.seed,
            n_starts=len(candidates),
            n_agreeing=n_agreeing,
        )
        return replace(
            best,
            seconds=time.monotonic() - began,
            alternatives=tuple(candidates[1 : 1 + _N_ALTERNATIVES]),
        )

    def _one_start(self, model, e_p1, rng):
        """The best judged phases along one run of charge flipping."""
        flipping = charge_flipping.weak_reflection_improved_iterator()
        flipping.start(e_p1, flex.double(rng.uniform(0, 2 * np.pi, e_p1.size())))
        for _ in range(_SETTLING_CYCLES):
            flipping.delta = DELTA_OVER_SIGMA * flipping.rho_map.sigma()
            next(flipping)
        best_cc, best_phases, best_agreement = -1.0, None, 0.0
        for _ in range(math.ceil(self.n_cycles / _CYCLES_BETWEEN_LOOKS)):
            for _ in range(_CYCLES_BETWEEN_LOOKS):
                next(flipping)
            symmetric = symmetrise(flipping.f_calc, model.f_obs)
            phases, cc = model.recycle(symmetric.f_phased.phases().data().as_numpy_array())
            if cc > best_cc:
                best_cc, best_phases, best_agreement = cc, phases, symmetric.agreement
                if cc > HALF_RIGHT_CC:
                    candidate = self._judged(model, phases, symmetric.agreement)
                    if candidate.figures_of_merit["probability_right"] > CONVINCING:
                        return candidate
        if best_cc > _PROMISING_CC:
            best_phases = model.refine(best_phases)
        return self._judged(model, best_phases, best_agreement)

    def _judged(self, model, phases, agreement):
        return model.result(phases, self.name, self.seed, symmetry_agreement=agreement)


def _held_out(result):
    return result.figures_of_merit["cc_held_out"]


def _n_agreeing(candidates):
    """How many starts found the map of the best one, itself included."""
    best = max(candidates, key=_held_out)
    return sum(
        candidate is best or score_r(candidate.f_phased, best.f_phased).r > _SAME_MAP
        for candidate in candidates
    )


def _normalised_in_p1(f_obs):
    """Quasi-normalised amplitudes of all equivalents: smtbx works in P 1 and needs them merged."""
    f_sq = f_obs.customized_copy(data=flex.pow2(f_obs.data()), sigmas=None)
    scale = flex.double(np.sqrt(expected_intensity(f_sq)))
    normalised = f_obs.customized_copy(data=f_obs.data() / scale, sigmas=None)
    return normalised.expand_to_p1().set_observation_type_xray_amplitude()
