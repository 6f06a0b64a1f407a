"""Choosing a phasing strategy by name, and the strategy that chooses by itself.

`AutoPhaser` runs what makes sense for the resolution and takes the better answer by a figure of
merit that both are judged by, see there.
"""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

# cctbx
from cctbx import miller
from cctbx.array_family import flex
from libtbx.utils import Sorry

from phai_cctbx.phasing.charge_flipping import ENOUGH_AGREE, ChargeFlippingPhaser
from phai_cctbx.phasing.extension import extend_phases, merit
from phai_cctbx.phasing.normalisation import unique_amplitudes
from phai_cctbx.phasing.peak_model import CONVINCING
from phai_cctbx.phasing.result import R_OF_WRONG, PhasingResult
from phai_cctbx.phasing.scoring import score_r

logger = logging.getLogger(__name__)

STRATEGIES = ("auto", "neural", "atoms", "charge_flipping", "phai")
#: Atoms stand apart in the map, and their peaks judge phases, down to this resolution (A).
JUDGED_D_MIN = 1.6
#: Wrong phases do not convince down to this resolution (A); at 1.5 A some do.
CONVINCING_D_MIN = 1.3
#: Where neither strategy convinces, charge flipping goes on: so many reflections of P 1 over all
#: starts (about a minute). At 1.2 A one start in 10 to 25 finds a light-atom structure.
FURTHER_STARTS_COST = 80_000
#: Where the network expects less of its answer, the atoms of a small structure are searched for.
SURE = 0.92
#: Within this range of expected r, atoms in the map of the network's answer are asked about it:
#: they better it, or they deny it, and below `UNDENIABLE` it is then doubted.
JUDGED_EXPECTED_R, UNDENIABLE = (0.6, 0.99), 0.95
#: What the network makes of atoms is an answer, and ends the search, where it expects this r of it.
#: Less is no evidence: it may believe wrong atoms (2012000: expected r 0.90, r 0.42).
CERTAIN_OF_ATOMS = 0.98
#: Atoms found in a map are the answer, and end the search, above this probability. Of a few heavy
#: atoms a wrong arrangement may come near to it (1004000, a cluster of tungsten: 0.95); right
#: answers, if they come at once, have more than 0.98.
EXPLAINED = 0.97
#: Maps of more atoms than can be found from nothing are worth a look beyond this expected r.
WORTH_A_LOOK = 0.5
#: How often atoms cannot be found in a right map, for instance because more of them are on special
#: positions than their numbers tell.
UNFINDABLE = 0.05
#: Phases that leave out more than this share of the resolution are extended.
_EXTENSION_SHARE = 1.05


class AutoPhaser:
    """Charge flipping where atoms can be seen, the network everywhere, the better one returned.

    - Data to 1.6 A or better: charge flipping first. If its peaks predict held-out amplitudes
      convincingly (`probability_right` > 0.9, or three starts in one map) at 1.3 A or better,
      that is the answer.
      Otherwise the network phases the data to the resolution it knows, `extend_phases` grows its
      candidates to all reflections, and the result with more merit comes first: `cc_held_out`, the
      correlation of |E_obs| with |E_calc| of the strongest peaks, every reflection predicted
      from a map without it, and what the strategy itself promised. Where neither convinces at
      1.3 A or better, charge flipping goes on for about a minute, unless `n_starts` is given.
    - Data that end before 1.6 A: the network, judged by its own confidence. Charge flipping is no
      alternative there.
    - Where the structure is small (`phai_cctbx.phasing.atoms`) and its composition given, the
      network is stopped from time to time while it is not certain, and atoms are sought in its
      maps: if they explain the amplitudes, they are the answer, and if they come near to it and
      agree with what the network believes. Atoms that are half right are given back to the network,
      which often makes the right map of them. If nothing comes of it, the network's answer is
      doubted. Where it is
      not sure in the end (`SURE`), atoms are searched for from nothing. Of the answers the one with
      the higher expected r comes first.
    - Where the network cannot be used (no model, or none for the space group), the same without
      it, charge flipping alone where atoms are seen or too many; the log says so.

    The other strategy's best answer is the first of the `alternatives`.

    Parameters
    ----------
    model, n_starts, n_passes
        For the network; `n_starts` also limits charge flipping. None: their own defaults.
    composition : dict of str to float, optional
        Element -> atoms per unit cell.
    radiation : {"xray", "electron", "neutron"}
    seed : int
    progress : callable, optional
        Called with (starts done, starts in all) of the strategy at work.
    """

    name = "auto"
    phil_str = ""

    def __init__(
        self,
        model: str | Path | None = None,
        n_starts: int | None = None,
        n_passes: int | None = None,
        composition: dict[str, float] | None = None,
        radiation: str = "xray",
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ):
        common = {"n_starts": n_starts, "seed": seed, "progress": progress}
        self.neural_options = _given(model=model, n_passes=n_passes, **common)
        self.charge_flipping_options = _given(composition=composition, **common)
        self.atom_options = _given(
            composition=composition, radiation=radiation, seed=seed, progress=progress
        )
        self.composition = composition
        self.seed = seed

    def __call__(self, f_obs: miller.array) -> PhasingResult:
        """Phases of `f_obs` by the strategy that does best.

        Raises
        ------
        libtbx.utils.Sorry
            If neither strategy can be used.
        """
        began = time.monotonic()
        f_obs = unique_amplitudes(f_obs)
        results = []
        atoms_are_seen = f_obs.d_min() <= JUDGED_D_MIN
        convincing_resolution = f_obs.d_min() <= CONVINCING_D_MIN
        if atoms_are_seen:
            results.append(self.charge_flipping(f_obs))
            if convincing_resolution and _convinces(results[0]):
                return _ranked(results, began)
            logger.info("Charge flipping alone does not convince: the network is asked.")
        guesses = self._guesses(f_obs)
        if not guesses:
            return _ranked(results or [self.charge_flipping(f_obs)], began)
        guess = _ranked(guesses, began)
        if not atoms_are_seen:
            return guess
        if guess.f_phased.d_min() > _EXTENSION_SHARE * f_obs.d_min():
            logger.info("Phases to %.2f A grow to %.2f A.", guess.f_phased.d_min(), f_obs.d_min())
        results.append(extend_phases(f_obs, guess, self.composition, self.seed))
        may_go_on = convincing_resolution and "n_starts" not in self.charge_flipping_options
        if may_go_on and not _convinces(results[-1]):
            n_starts = max(1, FURTHER_STARTS_COST // f_obs.expand_to_p1().size())
            logger.info("The network does not convince either: %d starts more.", n_starts)
            results.append(self.charge_flipping(f_obs, n_starts=n_starts, seed=self.seed + 1))
        results.sort(key=merit, reverse=True)
        return _ranked(results, began)

    def charge_flipping(self, f_obs: miller.array, **options) -> PhasingResult:
        """The answer of charge flipping alone, with other options than at first."""
        return ChargeFlippingPhaser(**{**self.charge_flipping_options, **options})(f_obs)

    def neural(self, f_obs: miller.array, **options) -> PhasingResult:
        """The answer of the network alone."""
        return make_phaser("neural", **self.neural_options, **options)(f_obs)

    def atoms(self, f_obs: miller.array) -> PhasingResult:
        """The answer of the search for atoms alone."""
        return make_phaser("atoms", **self.atom_options)(f_obs)

    def atoms_in_maps(self, f_obs: miller.array, guess: PhasingResult) -> Iterator[PhasingResult]:
        """The atoms that the maps of another answer lead to, after each look at them."""
        return make_phaser("atoms", **self.atom_options).looks(f_obs, guess)

    def neural_from(self, f_obs: miller.array, guess: PhasingResult) -> PhasingResult:
        """What the network makes of another answer."""
        return make_phaser("neural", **self.neural_options).from_phases(f_obs, guess)

    def _guesses(self, f_obs):
        """Answers that need no resolution of atoms, the one with the higher expected r first."""
        can_be_found, can_be_judged = self._what_atoms_can_do(f_obs)
        in_maps, of_atoms = [], []

        def atoms_explain(guess):
            if not can_be_found and guess.expected_r < WORTH_A_LOOK:
                return False
            for found in self.atoms_in_maps(f_obs, guess):
                in_maps.append(found)
                if not _explain(found):
                    ask_network_from(found)
                if explained():
                    return True
            return False

        def ask_network_from(found):
            answer = self.neural_from(f_obs, found)
            if answer.expected_r > CERTAIN_OF_ATOMS:
                logger.info("The network is certain of what it makes of these atoms.")
                of_atoms.append(answer)

        def explained():
            return bool(of_atoms) or any(map(_explain, in_maps))

        guesses = []
        try:
            options = {"enough": atoms_explain} if can_be_judged else {}
            guesses.append(self.neural(f_obs, **options))
        except Sorry as reason:
            logger.warning("Phasing goes on without the network. %s", reason)
        has_network = bool(guesses)
        least, most = JUDGED_EXPECTED_R
        judged = can_be_judged and has_network and least < guesses[0].expected_r < most
        if judged and not explained():
            guess = guesses[0]
            if not atoms_explain(replace(guess, alternatives=())):
                if _confirm(in_maps[-1], guess):
                    in_maps[-1] = _confirmed(in_maps[-1], guess)
                elif guess.expected_r < UNDENIABLE:
                    guesses[0] = _doubted(guess, in_maps)
        in_maps.sort(key=lambda found: found.expected_r, reverse=True)
        guesses += in_maps[:1]
        sure = explained() or any(guess.expected_r >= SURE for guess in guesses)
        if can_be_found and not sure:
            logger.info("The atoms are searched for in direct space.")
            guesses.append(self.atoms(f_obs))
            if has_network and not _explain(guesses[-1]):
                ask_network_from(guesses[-1])
        return sorted(guesses + of_atoms, key=lambda guess: guess.expected_r, reverse=True)

    def _what_atoms_can_do(self, f_obs):
        """Whether atoms can be found from nothing, and whether they can be found in a map."""
        if not self.composition:
            return False, False
        from phai_cctbx.phasing import atoms

        if self.atom_options["radiation"] not in atoms.RADIATIONS:
            return False, False
        return (
            atoms.suits(f_obs, self.composition),
            atoms.suits(f_obs, self.composition, atoms.MOST_ATOMS_FROM_MAPS),
        )


def make_phaser(strategy: str = "auto", **options):
    """The phaser of a strategy's name.

    Parameters
    ----------
    strategy : {"auto", "neural", "atoms", "charge_flipping", "phai"}
    options
        Keywords of its constructor.

    Raises
    ------
    libtbx.utils.Sorry
        For an unknown strategy, or an option that the strategy does not have.
    """
    if strategy == "auto":
        phaser = AutoPhaser
    elif strategy == "charge_flipping":
        phaser = ChargeFlippingPhaser
    elif strategy == "neural":
        # torch is loaded only where it is wanted
        from phai_cctbx.phasing.neural import NeuralPhaser as phaser
    elif strategy == "atoms":
        from phai_cctbx.phasing.atoms import AtomPhaser as phaser
    elif strategy == "phai":
        from phai_cctbx.phasing.phai import PhaiPhaser as phaser
    else:
        raise Sorry(f"strategy={strategy}: one of {', '.join(STRATEGIES)} is expected.")
    known = inspect.signature(phaser).parameters
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise Sorry(
            f"strategy={strategy} has no option {', '.join(unknown)}; it has {', '.join(known)}."
        )
    return phaser(**options)


def _convinces(result):
    """Whether atoms predict the amplitudes so well, or starts agree so often, that it is solved."""
    figures = result.figures_of_merit
    return (
        figures["probability_right"] > CONVINCING or figures.get("n_agreeing", 0) >= ENOUGH_AGREE
    )


def _explain(atoms):
    """Whether atoms explain the amplitudes so well that they are right."""
    return atoms.figures_of_merit["probability_right"] > EXPLAINED


def _confirm(atoms, guess):
    """Whether atoms that may well be right agree with the guess whose map led to them."""
    from phai_cctbx.phasing.solutions import SAME_SOLUTION

    likely = atoms.figures_of_merit["probability_right"] > 0.5
    return likely and score_r(atoms.f_phased, guess.f_phased).r > SAME_SOLUTION


def _confirmed(atoms, guess):
    """Atoms with more confidence, as the guess whose map led to them speaks for them."""
    right = atoms.figures_of_merit["probability_right"]
    return _believed(atoms, right, _posterior(_probability(guess), right / (1.0 - right)))


def _doubted(guess, denials):
    """A guess with less confidence, as atoms in its map, at best, do not explain the amplitudes."""
    right = max(found.figures_of_merit["probability_right"] for found in denials)
    support = min(max(right / (1.0 - right), UNFINDABLE), 1.0)
    before = _probability(guess)
    return _believed(guess, before, _posterior(before, support))


def _probability(guess):
    """That a guess is right: its expected r is that of right and of wrong phases, weighted."""
    return min(max((guess.expected_r - R_OF_WRONG) / (1.0 - R_OF_WRONG), 0.0), 1.0)


def _posterior(probability, likelihood_ratio):
    odds = probability * likelihood_ratio
    return odds / (odds + 1.0 - probability)


def _believed(result, before, after):
    """A result with the confidence that it has when it is right with another probability."""
    factor = (after + (1.0 - after) * R_OF_WRONG) / (before + (1.0 - before) * R_OF_WRONG)
    confidence = (result.confidence.data().as_numpy_array() * factor).clip(max=1.0)
    result = replace(
        result, confidence=result.confidence.customized_copy(data=flex.double(confidence))
    )
    merit = {**result.figures_of_merit, "expected_r": result.expected_r}
    return replace(result, figures_of_merit=merit)


def _given(**options):
    return {name: value for name, value in options.items() if value is not None}


def _ranked(results, began):
    """The first result; alternatives are the first of the other strategies, then all else."""
    best, *others = results
    alternatives = [replace(other, alternatives=()) for other in others]
    for result in results:
        alternatives += result.alternatives
    return replace(best, alternatives=tuple(alternatives), seconds=time.monotonic() - began)
