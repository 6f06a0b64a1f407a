"""Phases judged and improved by the atoms that their map shows.

The strongest peaks of an E map, taken as point atoms, have structure factors of their own. How
well these predict amplitudes that had no part in the map is a figure of merit that random phases
cannot fake (the correlation coefficient of SHELXD, Sheldrick, Acta Cryst. D66, 479, 2010, made
held-out), and their phases are a next, better set (dual-space recycling, the same source).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

# cctbx
from cctbx import maptbx, miller, xray
from cctbx.array_family import flex

from phai_cctbx.phasing.density_modification import SymmetricMap, eliminate_low_density
from phai_cctbx.phasing.normalisation import VOLUME_PER_ATOM, normalise
from phai_cctbx.phasing.result import PhasingResult
from phai_cctbx.phasing.symmetrisation import point_operations

#: Peaks nearer than this (A) to a stronger one or to their own image are the same atom.
MIN_PEAK_DISTANCE = 0.7
#: A fraction of the reflections is predicted from a map without it, in turn.
N_FOLDS = 5
#: Half of the candidates with this held-out correlation are right, and how sharply that changes:
#: measured on recycled charge-flipping phases, right and wrong, at 1.2 A, where recycled wrong
#: phases reach 0.66 (0.75 with a heavy atom) and right ones begin at 0.74.
HALF_RIGHT_CC = 0.70
_CC_WIDTH = 0.03
#: Expected r of wrong phases on their best origin.
_R_OF_WRONG = 0.2
#: A candidate is taken for the solution, and the search ends, above this probability.
CONVINCING = 0.9
#: Cycles of low-density elimination between recycling and at the end of a search.
_POLISHING_CYCLES = 10
#: Rounds of elimination and recycling at most, and the gain of held-out correlation that is
#: worth another one.
_REFINEMENT_ROUNDS = 4
_WORTHWHILE_GAIN = 0.005
#: Recycling ends when the correlation gains less.
_MIN_GAIN = 0.002


@dataclass(frozen=True)
class Judgement:
    """What point atoms say about a set of phases.

    Attributes
    ----------
    cc_held_out : float
        Correlation of |E_obs| with |E_calc|, every reflection predicted from the peaks of a map
        made without it. Near zero for wrong phases, whatever the resolution.
    cc : float
        The same with the peaks of the full map.
    sigma_a : float
        Square root of the correlation of |E_obs|^2 with the held-out |E_calc|^2: the share of
        the structure that the peaks explain, 0 to 1.
    e_calc : cctbx.miller.array
        Complex structure factors of the peaks of the full map, <|E_calc|^2> = 1.
    confidence : numpy.ndarray
        Expected cosine of the phase error of every reflection, 0 to 1.
    """

    cc_held_out: float
    cc: float
    sigma_a: float
    e_calc: miller.array
    confidence: np.ndarray

    @property
    def probability_right(self) -> float:
        """How likely such a correlation comes from right phases, at 1.3 A or better."""
        return float(special.expit((self.cc_held_out - HALF_RIGHT_CC) / _CC_WIDTH))


class PeakModel:
    """Point atoms from maps of one data set.

    Parameters
    ----------
    f_obs : cctbx.miller.array
        Amplitudes, unique reflections in the space group.
    composition : dict of str to float, optional
        Element -> atoms per unit cell, to know how many peaks are atoms and for |E|. Without
        it, one atom per 18 A^3.
    """

    def __init__(self, f_obs: miller.array, composition: dict[str, float] | None = None):
        self.f_obs = f_obs
        self.e_obs = normalise(f_obs, composition).discard_sigmas()
        self.e_values = self.e_obs.data().as_numpy_array()
        self.centric = f_obs.centric_flags().data().as_numpy_array()
        self.n_atoms = _atoms_per_cell(f_obs, composition)
        self._gridding = f_obs.crystal_gridding(
            symmetry_flags=maptbx.use_space_group_symmetry, resolution_factor=1 / 3
        )
        self._tags = self._gridding.tags()
        missing = f_obs.complete_set().lone_set(f_obs)
        #: Measured reflections, then missing ones.
        self.everything = f_obs.set(indices=f_obs.indices().concatenate(missing.indices()))
        self.n_measured = f_obs.size()
        self._grid = SymmetricMap(self.everything)
        self._indices = np.array(self.everything.indices(), dtype=int)
        self._root_epsilon = np.sqrt(self.everything.epsilons().data().as_numpy_array())
        # More than needed: atoms on special positions fill less of the cell.
        self._max_peaks = 2 + 2 * self.n_atoms // f_obs.space_group().order_z()
        self._search = maptbx.peak_search_parameters(
            min_distance_sym_equiv=MIN_PEAK_DISTANCE,
            min_cross_distance=MIN_PEAK_DISTANCE,
            interpolate=True,
            max_clusters=self._max_peaks,
        )

    def peaks(self, coefficients: miller.array) -> xray.structure:
        """Point atoms at the strongest symmetry-unique peaks, occupancies their heights.

        As many as fill the cell with the expected number of atoms, positive ones only.
        """
        fft_map = miller.fft_map(self._gridding, coefficients)
        search = self._tags.peak_search(map=fft_map.real_map_unpadded(), parameters=self._search)
        search.all(max_clusters=self._max_peaks)
        structure = xray.structure(
            special_position_settings=self.f_obs.crystal_symmetry().special_position_settings(
                min_distance_sym_equiv=MIN_PEAK_DISTANCE
            )
        )
        n_in_cell = 0
        heights = search.heights()
        for site, height in zip(search.sites(), heights):
            if height <= 0 or n_in_cell >= self.n_atoms:
                break
            structure.add_scatterer(
                xray.scatterer(site=site, occupancy=height / heights[0], scattering_type="const")
            )
            n_in_cell += structure.scatterers()[-1].multiplicity()
        return structure

    def atoms(self, factors: np.ndarray) -> xray.structure:
        """Peaks of the map of some factors (see `e_map`), missing reflections calculated."""
        structure = self.peaks(self.e_map(factors))
        if len(self._indices) == self.n_measured:
            return structure
        e_calc, calculated = self._calculated(structure)
        used = factors != 0
        sigma_a = _sigma_a(self.e_values[used], np.abs(e_calc[used]))
        return self.peaks(self.e_map(factors, sigma_a * calculated))

    def e_calc(self, structure: xray.structure) -> np.ndarray:
        """Structure factors of point atoms over sqrt(epsilon), <|E|^2> = 1."""
        return self._calculated(structure)[0]

    def _calculated(self, structure: xray.structure) -> tuple[np.ndarray, np.ndarray]:
        """The same, and those of the missing reflections on their scale."""
        sites, weights = _all_copies(structure)
        e_calc = _point_structure_factors(self._indices, sites, weights) / self._root_epsilon
        mean_square = np.mean(np.abs(e_calc[: self.n_measured]) ** 2)
        e_calc /= np.sqrt(max(mean_square, np.finfo(float).tiny))
        return e_calc[: self.n_measured], e_calc[self.n_measured :]

    def judge(self, phases: np.ndarray, seed: int = 0) -> Judgement:
        """Judge phases (radians, one per reflection) by the peaks of their E map."""
        unit = np.exp(1j * phases)
        fold = np.random.default_rng(seed).permutation(len(unit)) % N_FOLDS
        predicted = np.zeros(len(unit))
        for k in range(N_FOLDS):
            held_out = fold == k
            if held_out.any():
                e_calc = self.e_calc(self.atoms(np.where(held_out, 0, unit)))
                predicted[held_out] = np.abs(e_calc[held_out])
        full = self.e_calc(self.atoms(unit))
        sigma_a = _sigma_a(self.e_values, predicted)
        confidence = self.figure_of_merit(full, sigma_a) * np.cos(np.angle(full) - phases)
        return Judgement(
            cc_held_out=_correlation(self.e_values, predicted),
            cc=_correlation(self.e_values, np.abs(full)),
            sigma_a=float(sigma_a),
            e_calc=self.e_obs.array(data=flex.complex_double(full)),
            confidence=np.maximum(confidence, 0.0),
        )

    def figure_of_merit(self, e_calc: np.ndarray, sigma_a: float) -> np.ndarray:
        """Expected cosine of the phase error of E_calc, shape (n,)."""
        sigma_a = min(sigma_a, 0.99)
        x = 2 * sigma_a * self.e_values * np.abs(e_calc) / (1 - sigma_a**2)
        return expected_cosine(x, self.centric)

    def refine(self, phases: np.ndarray) -> np.ndarray:
        """Low-density elimination and recycling in turn, while held-out amplitudes gain by it."""
        best, best_cc = phases, self.judge(phases).cc_held_out
        for _ in range(_REFINEMENT_ROUNDS):
            trial, _ = self.recycle(self._eliminate(best))
            cc = self.judge(trial).cc_held_out
            if cc < best_cc + _WORTHWHILE_GAIN:
                break
            best, best_cc = trial, cc
        return best

    def polish(self, phases: np.ndarray) -> np.ndarray:
        """Low-density elimination on the amplitudes themselves, at the end of a search.

        Peaks of one shape give phases that are right in the main; the map still knows about
        elements and displacements. Returned are polished phases, or the ones given where the
        polished ones predict the amplitudes worse.
        """
        polished = self._eliminate(phases)
        before, after = self.judge(phases), self.judge(polished)
        return polished if after.cc_held_out > before.cc_held_out - _CC_WIDTH else phases

    def without_low_density(self, f: np.ndarray) -> np.ndarray:
        """Structure factors of `everything`, shape (n,), after one low-density elimination."""
        return self._grid.analysis(eliminate_low_density(self._grid.synthesis(f)))

    def _eliminate(self, phases):
        f_obs = self.f_obs.data().as_numpy_array()
        missing = np.zeros(len(self._indices) - self.n_measured)
        for _ in range(_POLISHING_CYCLES):
            f = np.concatenate([f_obs * np.exp(1j * phases), missing])
            modified = self.without_low_density(f)
            phases, missing = np.angle(modified[: self.n_measured]), modified[self.n_measured :]
        return phases

    def result(self, phases: np.ndarray, strategy: str, seed: int, **figures) -> PhasingResult:
        """Phases with the confidence and figures of merit that the peaks give them."""
        judgement = self.judge(phases)
        right = judgement.probability_right
        confidence = judgement.confidence * (right + (1 - right) * _R_OF_WRONG)
        return PhasingResult(
            f_phased=self.f_obs.discard_sigmas().phase_transfer(flex.double(phases)),
            confidence=self.f_obs.array(data=flex.double(confidence)),
            figures_of_merit={
                "cc_held_out": judgement.cc_held_out,
                "cc": judgement.cc,
                "sigma_a": judgement.sigma_a,
                "probability_right": right,
                **figures,
            },
            strategy=strategy,
            seed=seed,
        )

    def recycle(self, phases: np.ndarray, n_cycles: int = 10) -> tuple[np.ndarray, float]:
        """Phases to peaks to phases, as long as the peaks explain the amplitudes better.

        Returns
        -------
        phases : numpy.ndarray
            In radians, of the peaks that explained the amplitudes best.
        cc : float
            Their correlation of |E_obs| with |E_calc|, nothing held out.
        """
        weight = np.ones(len(phases))
        missing = None
        best_cc, best_phases = -1.0, phases
        for _ in range(n_cycles):
            peaks = self.peaks(self.e_map(weight * np.exp(1j * phases), missing))
            e_calc, missing = self._calculated(peaks)
            cc = _correlation(self.e_values, np.abs(e_calc))
            if cc < best_cc + _MIN_GAIN:
                break
            phases = np.angle(e_calc)
            best_cc, best_phases = cc, phases
            sigma_a = _sigma_a(self.e_values, np.abs(e_calc))
            weight = self.figure_of_merit(e_calc, sigma_a)
            missing = sigma_a * missing
        return best_phases, best_cc

    def e_map(self, factors: np.ndarray, missing: np.ndarray | None = None) -> miller.array:
        """Map coefficients |E_obs| * factors, factors being weight * exp(i phase).

        Parameters
        ----------
        factors : numpy.ndarray, shape (n_measured,)
        missing : numpy.ndarray, optional
            Coefficients of the missing reflections; zero by default.
        """
        coefficients = self.e_values * factors
        if missing is None:
            return self.e_obs.array(data=flex.complex_double(coefficients))
        return self.everything.array(
            data=flex.complex_double(np.concatenate([coefficients, missing]))
        )


def expected_cosine(x: np.ndarray, centric: np.ndarray) -> np.ndarray:
    """Expected cosine of phase errors (Sim, Acta Cryst. 13, 511, 1960), shape (n,).

    Parameters
    ----------
    x : numpy.ndarray
        Concentration of the acentric phases; centric ones are distributed with half of it.
    centric : numpy.ndarray of bool
    """
    return np.where(centric, np.tanh(x / 2), special.i1e(x) / special.i0e(x))


def _atoms_per_cell(f_obs, composition):
    if composition:
        return max(1, round(sum(n for element, n in composition.items() if element not in "HD")))
    return max(1, round(f_obs.unit_cell().volume() / VOLUME_PER_ATOM))


def _all_copies(structure):
    """Sites in the primitive share of the cell, shape (n, 3), and their weights, shape (n,)."""
    sites = structure.sites_frac().as_double().as_numpy_array().reshape(-1, 3)
    scatterers = structure.scatterers()
    weights = np.array([s.occupancy * s.weight_without_occupancy() for s in scatterers])
    operations = point_operations(structure.space_group())
    copies = [sites @ rotation.T + translation for rotation, translation in operations]
    return np.concatenate(copies), np.tile(weights, len(operations))


def _point_structure_factors(indices, sites, weights):
    """Sum over atoms of weight * exp(2 pi i h.x), shape (n,).

    The sum over atoms is one matrix product between rows of reciprocal space and the waves along
    the axis with most indices.
    """
    low, high = indices.min(axis=0), indices.max(axis=0)
    waves = [
        np.exp(2j * np.pi * np.outer(np.arange(low[i], high[i] + 1), sites[:, i])) for i in range(3)
    ]
    first, second, along = np.argsort(high - low)
    offsets = indices - low
    rows, row_of = np.unique(offsets[:, [first, second]], axis=0, return_inverse=True)
    of_rows = waves[first][rows[:, 0]] * waves[second][rows[:, 1]] * weights
    return (of_rows @ waves[along].T)[row_of.ravel(), offsets[:, along]]


def _sigma_a(e_obs, e_calc):
    """Root of the correlation of squared amplitudes: the share of the structure that is right."""
    return np.sqrt(max(0.0, _correlation(e_obs**2, e_calc**2)))


def _correlation(first, second):
    first, second = first - first.mean(), second - second.mean()
    norm = np.sqrt((first @ first) * (second @ second))
    return float(first @ second / norm) if norm > 0 else 0.0
