"""Phases from atoms found in direct space, where there are few of them.

At 2 A a map shows no atoms, and a network sees in it what it knows of maps. That the density is
made of so many atoms of known elements, a bond apart, is a far stronger condition, and for some
twenty-odd atoms it can be searched: random atoms move under the forces of `AtomTarget` and the
kicks of a heat bath, at several temperatures that exchange their states (parallel tempering:
Swendsen & Wang, Phys. Rev. Lett. 57, 2607, 1986; for structures from powder data: Favre-Nicolin &
Cerny, J. Appl. Cryst. 35, 734, 2002, who move molecules of known connectivity). The coldest states
are refined, and the residual that is left tells right atoms from wrong ones.

From atoms that a map suggests (`phai_cctbx.phasing.map_atoms`) the way is far shorter: a map that
correlates by 0.7 or more with the true one often leads there within seconds. So the atoms judge the
phases of others (`AtomPhaser.from_phases`), and better them.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import special
from torch import Tensor

# cctbx
from cctbx import miller, sgtbx
from libtbx.utils import Sorry

from phai_cctbx.network.threads import one_thread
from phai_cctbx.phasing.atom_target import (
    GEOMETRY_WEIGHT,
    U_ISO,
    AtomTarget,
    free_coordinates,
    sought_atoms,
    special_positions,
)
from phai_cctbx.phasing.map_atoms import atoms_of_map, shares_in_map
from phai_cctbx.phasing.normalisation import to_reference_setting, unique_amplitudes
from phai_cctbx.phasing.peak_model import CONVINCING
from phai_cctbx.phasing.result import R_OF_WRONG, PhasingResult
from phai_cctbx.phasing.scoring import score_r
from phai_cctbx.phasing.solutions import (
    best_with_alternatives,
    coefficients_in_reference,
    distinct_solutions,
    in_input_setting,
)

logger = logging.getLogger(__name__)

#: Scattering that is never negative.
RADIATIONS = ("xray", "electron")
#: Resolution used where the data reach further, A.
PREFERRED_D_MIN = 2.0
#: A reflection at the very limit belongs to it, A.
RESOLUTION_TOLERANCE = 1e-6
#: Atoms of the asymmetric unit that are searched for at most, by default, without and with a centre
#: of symmetry: of artificial crystals with 19 to 27 of them, 8 in 10 with and 2 in 6 without one
#: were found in some two minutes.
MOST_ATOMS, MOST_ATOMS_CENTROSYMMETRIC = 20, 28
#: Reflections per coordinate that are needed at least: with fewer, wrong atoms explain them too.
FEWEST_PER_COORDINATE = 1.3
#: Independent searches side by side, temperatures of each, steps between two looks at the states.
N_LADDERS, N_TEMPERATURES, STEPS = 4, 16, 2000
#: Looks at most, by default: as many as this number of waves (atoms times operations times
#: reflections) allows, some 90 seconds, within limits.
WAVES_OF_ALL_LOOKS, FEWEST_LOOKS, MOST_LOOKS = 28_000, 2, 16
#: A search that found nothing begins anew from random atoms after one look per so many atoms:
#: cold states settle in wrong arrangements for good, the sooner the fewer atoms there are.
ATOMS_PER_LOOK = 4
#: Temperature of L times the number of atoms: the coldest, and the hottest over the coldest.
COLDEST, HOTTEST_OVER_COLDEST = 0.004, 20.0
#: Random part of a step at the coldest temperature, r.m.s. of a coordinate in A.
STEP = 0.055
#: Longest step along the force, A.
LONGEST_STEP = 0.3
#: Steps between exchanges of neighbouring temperatures.
STEPS_BETWEEN_EXCHANGES = 20
#: A search from maps: steps between two looks, looks at most; it goes on while the refined atoms
#: have a relative target below this. Atoms in larger numbers can be judged than found.
STEPS_FROM_MAPS, LOOKS_FROM_MAPS, PROMISING = 300, 5, 1.2
MOST_ATOMS_FROM_MAPS = 45
#: States that are refined at a look at random atoms, and at those from maps, and how: Adam's steps
#: in both, its rates for coordinates (A), logarithms of weights and U (A^2), and the weight of the
#: mean square logarithm of the weights.
N_REFINED, N_REFINED_FROM_MAPS = 8, 4
REFINEMENT_STEPS, REFINEMENT_STEPS_FROM_MAPS = 200, 100
RATE_SITES, RATE_WEIGHTS, RATE_U, LAST_RATE_SITES = 0.02, 0.01, 0.001, 0.001
WEIGHT_RESTRAINT = 0.05
#: Within which U (A^2) is refined.
U_RANGE = (-0.05, 0.2)
#: L of refined wrong atoms, over (reflections per coordinate - 1), without and with a centre of
#: symmetry; measured on measured and artificial crystals of 5 to 23 atoms.
WRONG, WRONG_CENTROSYMMETRIC = 0.016, 0.022
#: Half of the refined atoms with this L relative to that of wrong ones are right, and how sharply
#: that changes.
HALF_RIGHT, HALF_RIGHT_WIDTH = 0.55, 0.07
#: The search ends when it convinces; or above a probability of 0.5, when so many looks at the
#: states of random atoms, or one at those from maps, found nothing better.
LOOKS_IN_VAIN = 2


class AtomPhaser:
    """Phases of atoms found by parallel tempering in direct space.

    Parameters
    ----------
    composition : dict of str to float
        Element -> atoms per unit cell. Needed: these are the atoms that are searched for.
    n_looks : int, optional
        Rounds of the search at most, by default as many as take a minute or so; it ends with the
        first convincing one.
    d_min : float
        Resolution used, A.
    radiation : {"xray", "electron"}
    seed : int
    progress : callable, optional
        Called with (looks done, looks at most).
    """

    name = "atoms"
    phil_str = ""

    def __init__(
        self,
        composition: dict[str, float] | None = None,
        n_looks: int | None = None,
        d_min: float = PREFERRED_D_MIN,
        radiation: str = "xray",
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ):
        if not composition:
            raise Sorry("strategy=atoms needs the composition, the atoms it is to search for.")
        if radiation not in RADIATIONS:
            raise Sorry(f"strategy=atoms works with {' and '.join(RADIATIONS)} data alone.")
        self.composition, self.n_looks, self.d_min = composition, n_looks, d_min
        self.radiation, self.seed = radiation, seed
        self.progress = progress or (lambda done, total: None)

    @one_thread()
    def __call__(self, f_obs: miller.array) -> PhasingResult:
        """Phase amplitudes.

        Parameters
        ----------
        f_obs : cctbx.miller.array
            Amplitudes or intensities, any setting.

        Raises
        ------
        libtbx.utils.Sorry
            Where there is no atom to search for, or too few reflections for the atoms.
        """
        began = time.monotonic()
        problem = self._problem(f_obs)
        sets = self._search(problem.target)
        return self._phased(*self._with_shares_of_map(problem, sets), began)

    @one_thread()
    def from_phases(self, f_obs: miller.array, guess: PhasingResult) -> PhasingResult:
        """Phases of the atoms that the maps of a guess lead to: the last of `looks`."""
        *_, found = self.looks(f_obs, guess)
        return found

    def looks(self, f_obs: miller.array, guess: PhasingResult) -> Iterator[PhasingResult]:
        """Looks at what atoms in the maps of a guess become, while it is worth to go on.

        Parameters
        ----------
        f_obs : cctbx.miller.array
            As for a call.
        guess : PhasingResult
            Of any strategy; its alternatives are tried beside it, `N_LADDERS` maps in all.

        Yields
        ------
        PhasingResult
            The best so far. Its `probability_right` says whether the atoms explain the amplitudes.

        Raises
        ------
        libtbx.utils.Sorry
            As for a call.
        """
        began = time.monotonic()
        problem = self._problem(f_obs)
        target = problem.target
        guesses = (guess, *guess.alternatives)[:N_LADDERS]
        ladders = [atoms_of_map(target, problem.coefficients(one)) for one in guesses]
        for found in self._follow(problem, torch.stack(ladders)):
            yield self._phased(*found, began)

    def _problem(self, f_obs: miller.array) -> _Problem:
        amplitudes = within(unique_amplitudes(f_obs), self.d_min)
        reference, to_reference = to_reference_setting(amplitudes)
        if not sought_atoms(self.composition, reference.space_group().order_z())[0]:
            raise Sorry(f"composition={self.composition}: no atom to search for.")
        target = AtomTarget(
            reference.sort(by_value="packed_indices"), self.composition, self.radiation
        )
        ratio = target.n_reflections / target.n_coordinates
        if ratio < FEWEST_PER_COORDINATE:
            raise Sorry(
                f"{amplitudes.size()} unique reflections to {self.d_min:.2f} A are"
                f" {ratio:.1f} per coordinate of the atoms: at least {FEWEST_PER_COORDINATE} are"
                " needed to search for them."
            )
        return _Problem(amplitudes, to_reference, target)

    def _phased(self, problem: _Problem, sets: list[_Refined], began: float) -> PhasingResult:
        found = [problem.result(one) for one in sets]
        expected = np.array([result.expected_r for result in found])

        def agreement(some: np.ndarray, top: int) -> np.ndarray:
            return np.array([score_r(found[i].f_phased, found[top].f_phased).r for i in some])

        distinct = distinct_solutions(expected, agreement)
        solutions = [(found[i], n_agreeing) for i, n_agreeing in distinct]
        result = best_with_alternatives(self.name, self.seed, solutions, len(found), began)
        right = probability_right(problem.target, sets[distinct[0][0]].loss)
        result.figures_of_merit["probability_right"] = right
        return result

    def _search(self, target: AtomTarget) -> list[_Refined]:
        """The refined states of the best look; it ends with the first convincing one."""
        generator = torch.Generator().manual_seed(self.seed)
        n_looks = self.n_looks or default_looks(target)
        looks_of_a_run = max(1, round(target.n_atoms / ATOMS_PER_LOOK))
        best, in_vain = [], 0
        for look in range(n_looks):
            if look % looks_of_a_run == 0:
                sites = target.random_sites(N_LADDERS * N_TEMPERATURES, generator)
            sites, coldest = temper(target, sites, STEPS, generator)
            refined = refine(target, coldest[:N_REFINED], REFINEMENT_STEPS)
            before, best = best, _better(best, refined)
            in_vain = in_vain + 1 if before is best else 0
            self.progress(look + 1, n_looks)
            _report(target, best[0], look + 1, n_looks)
            if _is_enough(target, best[0], in_vain >= LOOKS_IN_VAIN):
                break
        return best

    def _follow(
        self, problem: _Problem, suggested: Tensor, shares_of_map: bool = False
    ) -> Iterator[tuple[_Problem, list[_Refined]]]:
        """After each look at what some sets of atoms from maps (s, n_atoms, 3) become, while it is
        worth to go on, the refined states of the best one; and the problem, with the shares that
        led to them."""
        target = problem.target
        generator = torch.Generator().manual_seed(self.seed)
        sites = suggested.repeat_interleave(N_TEMPERATURES, 0)
        best = []
        for look in range(LOOKS_FROM_MAPS):
            sites, coldest = temper(target, sites, STEPS_FROM_MAPS, generator)
            coldest = coldest[:N_REFINED_FROM_MAPS]
            before, best = best, _better(best, refine(target, coldest, REFINEMENT_STEPS_FROM_MAPS))
            _report(target, best[0], look + 1, LOOKS_FROM_MAPS)
            yield problem, best
            if _is_enough(target, best[0], in_vain=before is best):
                return
            if relative_target(target, best[0].loss) > PROMISING:
                return
            if look == 0 and not shares_of_map:
                other = self._with_shares_of_map(problem, best)
                if other[0] is not problem:
                    yield other
                    return

    def _with_shares_of_map(
        self, problem: _Problem, sets: list[_Refined]
    ) -> tuple[_Problem, list[_Refined]]:
        """The problem and its refined states, or, where the atoms that were found are half right
        only and their map shows other shares, those of atoms with these."""
        target, best = problem.target, sets[0]
        relative = relative_target(target, best.loss)
        if probability_right(target, best.loss) > CONVINCING or relative > PROMISING:
            return problem, sets
        f_map = target.amplitude.numpy() * best.phase_factor
        shown = shares_in_map(target, f_map)
        if sorted(shown[1]) == sorted(target.shares):
            return problem, sets
        other = AtomTarget(target.f_obs, self.composition, self.radiation, atoms=shown)
        if other.n_reflections < FEWEST_PER_COORDINATE * other.n_coordinates:
            return problem, sets
        logger.info("The map shows atoms on special positions: shares %s.", shown)
        suggested = atoms_of_map(other, f_map)[None]
        *_, (_, found) = self._follow(
            replace(problem, target=other), suggested, shares_of_map=True
        )
        if relative_target(other, found[0].loss) >= relative:
            return problem, sets
        return replace(problem, target=other), found


@dataclass(frozen=True)
class _Problem:
    """One crystal: amplitudes as they came, the operator to the reference setting, the target."""

    amplitudes: miller.array
    to_reference: sgtbx.change_of_basis_op
    target: AtomTarget

    def coefficients(self, guess: PhasingResult) -> np.ndarray:
        """Of the map of a guess, weighted, in the order of the target; 0 where it has no phase."""
        return coefficients_in_reference(
            guess, self.to_reference, self.target.f_obs, weighted=True
        )

    def result(self, refined: _Refined) -> PhasingResult:
        """Phases and confidences of refined atoms, in the setting of the input."""
        return in_input_setting(
            self.target.f_obs,
            refined.phase_factor,
            confidence(self.target, refined),
            self.to_reference.inverse(),
            self.amplitudes,
        )


@dataclass(frozen=True)
class _Refined:
    """A refined set of atoms.

    Attributes
    ----------
    f_calc : numpy.ndarray of complex, shape (n_reflections,)
        On the scale of the amplitudes.
    loss : float
        The target L, with the restraint of the weights.
    r1 : float
    """

    f_calc: np.ndarray
    loss: float
    r1: float

    @property
    def phase_factor(self) -> np.ndarray:
        """exp(i phase), shape (n_reflections,)."""
        return self.f_calc / np.maximum(np.abs(self.f_calc), np.finfo(float).tiny)


def _better(best: list[_Refined], refined: list[_Refined]) -> list[_Refined]:
    """The sets of the look with the lowest target, lowest first."""
    refined = sorted(refined, key=lambda one: one.loss)
    return refined if not best or refined[0].loss < best[0].loss else best


def _is_enough(target: AtomTarget, lowest: _Refined, in_vain: bool) -> bool:
    """Whether a search may end: right atoms, or likely ones that looks in vain do not better."""
    right = probability_right(target, lowest.loss)
    return right > CONVINCING or (in_vain and right > 0.5)


def _report(target, lowest, look, n_looks):
    logger.info(
        "atoms, look %d of %d: lowest target %.4f (R1 %.3f), probably right %.2f",
        look, n_looks, lowest.loss, lowest.r1, probability_right(target, lowest.loss),
    )  # fmt: skip


def default_looks(target: AtomTarget) -> int:
    """Rounds of a search that take about one time in all crystals."""
    n_waves = target.n_atoms * target.n_operations * target.n_reflections
    return int(np.clip(WAVES_OF_ALL_LOOKS // n_waves, FEWEST_LOOKS, MOST_LOOKS))


def temper(
    target: AtomTarget, sites: Tensor, n_steps: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Parallel tempering of sets of atoms, Langevin steps at each temperature.

    Parameters
    ----------
    target : AtomTarget
    sites : Tensor, shape (n_ladders * N_TEMPERATURES, n_atoms, 3)
        Cartesian, A; ladder by ladder, coldest first.
    n_steps : int
    generator : torch.Generator

    Returns
    -------
    Tensor, shape of `sites`
        Where the atoms are in the end.
    Tensor, shape of `sites`
        The states of lowest L that were passed, one of each place in the ladders, lowest first.
    """
    ladder = np.geomspace(COLDEST, COLDEST * HOTTEST_OVER_COLDEST, N_TEMPERATURES)
    temperature = torch.tensor(ladder / target.n_atoms, dtype=torch.float32)
    mobility = STEP**2 * target.n_atoms / (2.0 * COLDEST)
    kick = torch.sqrt(2.0 * mobility * temperature).repeat(len(sites) // N_TEMPERATURES)
    kick = kick[:, None, None]
    lowest = torch.full((len(sites),), math.inf)
    lowest_sites = sites
    for step in range(n_steps):
        loss, gradient = target(sites)
        lower = loss < lowest
        lowest = torch.where(lower, loss, lowest)
        lowest_sites = torch.where(lower[:, None, None], sites, lowest_sites)
        if step % STEPS_BETWEEN_EXCHANGES == 0:
            first = step // STEPS_BETWEEN_EXCHANGES % 2
            order = _exchanged(loss, temperature, first, generator)
            sites, gradient = sites[order], gradient[order]
        move = -mobility * gradient
        length = move.norm(dim=2, keepdim=True)
        move = move * (LONGEST_STEP / length.clamp(min=LONGEST_STEP))
        moved = sites + move + kick * torch.randn(sites.shape, generator=generator)
        sites = target.on_positions(moved)
    return sites, lowest_sites[torch.argsort(lowest)]


def _exchanged(loss, temperature, first, generator):
    """Order of the states after neighbours from `first` on, every second, had the chance to
    exchange temperatures."""
    loss = loss.view(-1, N_TEMPERATURES)
    order = torch.arange(loss.numel()).view(loss.shape)
    cold = torch.arange(first, N_TEMPERATURES - 1, 2)
    hot = cold + 1
    gain = (loss[:, cold] - loss[:, hot]) * (1.0 / temperature[cold] - 1.0 / temperature[hot])
    swap = torch.rand(gain.shape, generator=generator) < torch.exp(gain.clamp(max=0.0))
    exchanged = order.clone()
    exchanged[:, cold] = torch.where(swap, order[:, hot], order[:, cold])
    exchanged[:, hot] = torch.where(swap, order[:, cold], order[:, hot])
    return exchanged.flatten()


def refine(target: AtomTarget, sites: Tensor, n_steps: int) -> list[_Refined]:
    """Sets of atoms refined with a free weight each, held to 1, and one displacement for all.

    Parameters
    ----------
    target : AtomTarget
    sites : Tensor, shape (s, n_atoms, 3)
        Cartesian, A.
    n_steps : int
        Of Adam.
    """
    sites = sites.clone().requires_grad_()
    log_weight = torch.zeros(sites.shape[:2], requires_grad=True)
    u_iso = torch.full((len(sites),), U_ISO, requires_grad=True)
    optimiser = _Adam(sites, log_weight, u_iso)
    for step in range(n_steps):
        rate_sites = RATE_SITES * (1.0 - step / n_steps) + LAST_RATE_SITES
        optimiser.zero_grad()
        residual = target.calculated(sites, log_weight, u_iso).residual
        restraint = WEIGHT_RESTRAINT * log_weight.square().mean(1)
        (residual + restraint).sum().backward()
        with torch.no_grad():
            sites.grad += GEOMETRY_WEIGHT * target.geometry(sites, ends=False)[1]
        optimiser.step(rate_sites, RATE_WEIGHTS, RATE_U)
        with torch.no_grad():
            sites.copy_(target.on_positions(sites))
            u_iso.clamp_(*U_RANGE)
    with torch.no_grad():
        calculated = target.calculated(sites, log_weight, u_iso)
        loss = (
            calculated.residual
            + GEOMETRY_WEIGHT * target.geometry(sites, ends=False)[0]
            + WEIGHT_RESTRAINT * log_weight.square().mean(1)
        )
    return [
        _Refined(f_calc.numpy().astype(complex), one_loss, r1)
        for f_calc, one_loss, r1 in zip(
            calculated.f_calc, loss.tolist(), calculated.r1.tolist(), strict=True
        )
    ]


class _Adam:
    """Adam (Kingma & Ba, ICLR 2015, algorithm 1); the import of that of torch takes seconds."""

    MEAN_DECAY, SQUARE_DECAY, EPSILON = 0.9, 0.99, 1e-8

    def __init__(self, *parameters: Tensor):
        self.parameters = parameters
        self.means = [torch.zeros_like(p) for p in parameters]
        self.squares = [torch.zeros_like(p) for p in parameters]
        self.n_steps = 0

    def zero_grad(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, *rates: float) -> None:
        """One step, with a rate for each parameter."""
        self.n_steps += 1
        of_mean = 1.0 - self.MEAN_DECAY**self.n_steps
        of_square = 1.0 - self.SQUARE_DECAY**self.n_steps
        for p, mean, square, rate in zip(
            self.parameters, self.means, self.squares, rates, strict=True
        ):
            mean.lerp_(p.grad, 1.0 - self.MEAN_DECAY)
            square.lerp_(p.grad.square(), 1.0 - self.SQUARE_DECAY)
            p -= rate * (mean / of_mean) / ((square / of_square).sqrt() + self.EPSILON)


def within(f_obs: miller.array, d_min: float) -> miller.array:
    """The reflections within a resolution limit (A)."""
    return f_obs.select(f_obs.d_spacings().data() >= d_min - RESOLUTION_TOLERANCE)


def suits(
    f_obs: miller.array, composition: dict[str, float], n_most: int | None = None
) -> bool:
    """Whether a search for the atoms has a chance: few enough, and reflections enough.

    Parameters
    ----------
    f_obs : cctbx.miller.array
        Amplitudes, any setting.
    composition : dict of str to float
        Element -> atoms per unit cell.
    n_most : int, optional
        Atoms of the asymmetric unit at most, by default those that can be found from nothing.
    """
    reference, _ = to_reference_setting(within(unique_amplitudes(f_obs), PREFERRED_D_MIN))
    elements, shares = sought_atoms(composition, reference.space_group().order_z())
    if n_most is None:
        centrosymmetric = reference.space_group().is_origin_centric()
        n_most = MOST_ATOMS_CENTROSYMMETRIC if centrosymmetric else MOST_ATOMS
    if not 0 < len(elements) <= n_most:
        return False
    space_group_info = reference.space_group_info()
    n_coordinates = sum(
        free_coordinates(special_positions(space_group_info, share)) for share in shares
    )
    return reference.size() >= FEWEST_PER_COORDINATE * n_coordinates


def relative_target(target: AtomTarget, loss: float) -> float:
    """L of refined atoms over what wrong ones reach, which is lower the fewer the reflections."""
    excess = target.n_reflections / target.n_coordinates - 1.0
    of_wrong = WRONG_CENTROSYMMETRIC if target.centrosymmetric else WRONG
    return loss / (of_wrong * max(excess, 0.01))


def probability_right(target: AtomTarget, loss: float) -> float:
    """How likely refined atoms with this L give the right map."""
    return float(special.expit((HALF_RIGHT - relative_target(target, loss)) / HALF_RIGHT_WIDTH))


def confidence(target: AtomTarget, refined: _Refined) -> np.ndarray:
    """Expected cosine of the phase error of every reflection, shape (n,).

    Of right atoms by the formula of Sim (Acta Cryst. 12, 813, 1959), with the mean square
    difference of |F_obs| and |F_calc| as the variance of the error, corrected for the number of
    coordinates that were fitted; of wrong ones `R_OF_WRONG`; weighted by the probability of both.
    """
    f_obs = target.amplitude.numpy().astype(float)
    f_calc = np.abs(refined.f_calc)
    ratio = target.n_reflections / target.n_coordinates
    variance = np.mean((f_obs - f_calc) ** 2) * ratio / max(ratio - 1.0, 0.1)
    x = 2.0 * f_obs * f_calc / variance
    centric = target.f_obs.centric_flags().data().as_numpy_array()
    of_right = np.where(centric, np.tanh(x / 2.0), special.i1e(x) / special.i0e(x))
    right = probability_right(target, refined.loss)
    return np.maximum(right * of_right + (1.0 - right) * R_OF_WRONG, 0.0)
