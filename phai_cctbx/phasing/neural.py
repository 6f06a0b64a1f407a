"""Phases from a neural network: random starts, annealed passes, the best by confidence.

The network is a symmetry-exact Fourier operator (`phai_cctbx.network.operator`); it began from
PhAI (Larsen, Rekis & Madsen, Science 385, 522, 2024). Any setting is taken to the reference
setting of its group, on a reduced cell, and the answer is taken back, so that the description of
the crystal does not matter.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

# cctbx
from cctbx import miller, sgtbx
from libtbx.utils import Sorry

from phai_cctbx.network.alignment import map_correlation
from phai_cctbx.network.expectation import expected_cosine, modulus, sampled_phase_factor
from phai_cctbx.network.frame import Frame, Transform, describe, stack
from phai_cctbx.network.model_file import load_model
from phai_cctbx.network.recycling import anneal, mean_confidence, recycle
from phai_cctbx.network.threads import one_thread
from phai_cctbx.phasing.normalisation import to_reference_setting, unique_amplitudes
from phai_cctbx.phasing.result import PhasingResult
from phai_cctbx.phasing.solutions import (
    CONFIDENT,
    best_with_alternatives,
    cached_model,
    coefficients_in_reference,
    distinct_solutions,
    enough_agree,
    in_input_setting,
    most_agree,
)

logger = logging.getLogger(__name__)

#: The model that comes with the package.
BUNDLED_MODEL = Path(__file__).parents[1] / "models" / "default.pt"
#: Random starts at most, by default, in cells of this volume (A^3) and above; smaller ones, where a
#: start takes less time, get more of them, up to a limit.
N_STARTS, VOLUME_OF_N_STARTS, MOST_STARTS = 64, 3000.0, 256
#: Random starts before somebody else is asked whether they are enough; then whenever they double.
FIRST_ASKED_AT = 8
#: Random starts between two looks at whether more are needed; they are computed together.
STARTS_AT_ONCE = 4
#: Starts that are made before agreement ends the search: an answer that is nearly right, or wrong,
#: may be reached more often than the right one, which the network believes more. In centrosymmetric
#: groups, where nearly every right answer is certain, only a majority ends it.
AGREEMENT_STARTS = 32
#: With this expected r, calibrated, agreement ends the search at once, in all groups. On real
#: structures three agreed with 0.97 on a wrong answer (2100301, where further starts find the
#: right one), and on none with 0.98.
SURE_TOGETHER = 0.98
#: In centrosymmetric groups one answer ends the search where it is expected to have this r,
#: calibrated, and so many starts, and at least half of all, found it: on artificial crystals with
#: up to a quarter of the reflections missing, all 15 such answers were right (r > 0.95). Of real
#: structures with 30 % missing two were not (2100301, 2010442, which further starts and atoms in
#: their maps put right), so that it holds only where at least this share was measured. Of a cluster
#: of heavy atoms (1004000) 11 of 12 agreed with 0.96 on a wrong answer, so that 8 are too few.
MAJORITY_EXPECTED_R, MAJORITY, MAJORITY_COMPLETENESS = 0.8, 16, 0.9
#: A single start with this expected r needs no other to confirm it: on real structures of groups
#: that a model was trained on, all solutions beyond 0.95 were right (see the model card).
CERTAIN = 0.99
#: A start with this expected r on its way has nothing left to find: its anneal ends. Where less is
#: expected, with many missing reflections, a map that is nearly right still becomes right.
SETTLED = 0.995
#: Fewer reflections than this are no phase problem.
FEWEST_REFLECTIONS = 3
#: A reflection at the very limit belongs to it, A.
RESOLUTION_TOLERANCE = 1e-6
#: A solution that the network believes (`CONFIDENT`) is shaken: so many new anneals begin at phases
#: drawn from its distributions with kappa times this, and take this share of the passes of a start;
#: again, at most so often, while the confidence grows by this.
N_SHAKEN, SHAKE_SHARPNESS, SHAKE_SHARE = 4, 0.5, 0.5
MOST_SHAKES, SHAKE_GAIN = 3, 0.001
#: Guesses of others that are gone on from together, at most, and the passes made from each.
MOST_GUESSES, PASSES_FROM_GUESS = 4, 8
#: Memory for maps of the starts computed together, bytes, and what a grid point of one takes.
MAP_MEMORY, BYTES_PER_POINT = 5e8, 1500.0


@dataclass(frozen=True)
class _Problem:
    """One crystal: amplitudes as they came, the operator to the reference setting, and there, ready
    for the network, the reflections of `f_obs`, and behind them, where the model fills in, those
    that were not measured. `is_trained_on` says whether the model was trained on its space group.
    """

    amplitudes: miller.array
    to_reference: sgtbx.change_of_basis_op
    f_obs: miller.array
    is_trained_on: bool
    frame: Frame
    transform: Transform
    e_value: torch.Tensor
    f_sq: torch.Tensor


def default_starts(crystal_symmetry) -> int:
    """Random starts at most for a crystal: about as many as take one time in all cells.

    Parameters
    ----------
    crystal_symmetry : cctbx.crystal.symmetry
    """
    n_lattice_points = crystal_symmetry.space_group().n_ltr()
    volume = crystal_symmetry.unit_cell().volume() / n_lattice_points
    return int(np.clip(N_STARTS * VOLUME_OF_N_STARTS / volume, N_STARTS, MOST_STARTS))


class NeuralPhaser:
    """Phases by the network.

    Parameters
    ----------
    model : str or Path, optional
        A TorchScript model file; the bundled one by default.
    n_starts : int, optional
        Largest number of random starts; by default as `default_starts` says. No more are made
        when one is certain (`CERTAIN`), when several that are nearly so agree (`SURE_TOGETHER`),
        or, with a centre of symmetry, when most starts agree (`MAJORITY`), without one, when
        several of `AGREEMENT_STARTS` do.
    n_passes : int
        Passes of the network from each start (`phai_cctbx.network.recycling.anneal`).
    d_min : float, optional
        Resolution used, A; by default 2.0 A, or where data or model end.
    seed : int
    progress : callable, optional
        Called with (starts done, starts at most).
    enough : callable, optional
        Asked after 8, 16, 32 ... starts, where none is certain, with the distinct solutions
        (`PhasingResult`) of those that are new; the search ends where it says True.
    """

    name = "neural"
    phil_str = """
    model = None
      .type = path
      .help = TorchScript model file, the bundled one by default
    n_starts = None
      .type = int(value_min=1)
      .help = largest number of random starts, by default 64, in cells below 3000 A^3 up to 256; \
              fewer are made when one is certain, or several agree
    n_passes = 24
      .type = int(value_min=1)
      .help = passes of the network from each start
    d_min = None
      .type = float(value_min=0.1)
      .help = resolution used by the network in A, 2.0 or where data or model end by default
    """
    #: Resolution used where the data reach further, A.
    preferred_d_min = 2.0

    def __init__(
        self,
        model: str | Path | None = None,
        n_starts: int | None = None,
        n_passes: int = 24,
        d_min: float | None = None,
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
        enough: Callable[[PhasingResult], bool] | None = None,
    ):
        if (n_starts is not None and n_starts < 1) or n_passes < 1:
            raise Sorry(f"n_starts={n_starts}, n_passes={n_passes}: both must be at least 1.")
        self.model, self.metadata = cached_model(
            load_model, str(model or BUNDLED_MODEL), "Give another file by model=FILE."
        )
        self.n_starts, self.n_passes = n_starts, n_passes
        self.d_min, self.seed = d_min, seed
        self.progress = progress or (lambda done, total: None)
        self.enough = enough

    @one_thread()
    def __call__(self, f_obs: miller.array) -> PhasingResult:
        """Phase amplitudes.

        Parameters
        ----------
        f_obs : cctbx.miller.array
            Amplitudes or intensities, any setting.

        Returns
        -------
        PhasingResult
            Of the reflections in the network's resolution range.

        Raises
        ------
        libtbx.utils.Sorry
            Where no reflections are left in the resolution range.
        """
        began = time.monotonic()
        problem = self._problem(f_obs)
        n_most = self.n_starts or default_starts(problem.f_obs)

        @torch.inference_mode(False)
        def enough(outputs: torch.Tensor, confidences: torch.Tensor) -> bool:
            return self.enough(self._phased(problem, outputs, confidences, began))

        return self._phased(problem, *self._search(problem, n_most, enough), began)

    @one_thread()
    def from_phases(self, f_obs: miller.array, guess: PhasingResult) -> PhasingResult:
        """What the network makes of the phases of a guess.

        Parameters
        ----------
        f_obs : cctbx.miller.array
            As for a call.
        guess : PhasingResult
            Of any strategy; its alternatives are tried beside it, `MOST_GUESSES` in all. Their
            confidence is not asked for.

        Raises
        ------
        libtbx.utils.Sorry
            As for a call.
        """
        began = time.monotonic()
        problem = self._problem(f_obs)
        return self._phased(problem, *self._continued(problem, guess), began)

    def _problem(self, f_obs: miller.array) -> _Problem:
        amplitudes = unique_amplitudes(f_obs)
        cut = self._cut(amplitudes)
        amplitudes = amplitudes.select(amplitudes.d_spacings().data() >= cut)
        if amplitudes.size() < FEWEST_REFLECTIONS:
            raise Sorry(
                f"Only {amplitudes.size()} unique reflections within the network's resolution of"
                f" {cut:.2f} A: at least {FEWEST_REFLECTIONS} are needed."
            )
        reference, to_reference = to_reference_setting(amplitudes)
        # one order of reflections, so that a seed means the same starts in every setting
        return self._shown(reference.sort(by_value="packed_indices"), amplitudes, to_reference)

    def _phased(self, problem, outputs, confidences, began) -> PhasingResult:
        """The distinct ones of some outputs (s, k, n) with their confidences (s,)."""
        distinct = distinct_solutions(confidences.numpy(), self._agreement(problem, outputs))
        solutions = [(self._result(problem, outputs[i]), n_agreeing) for i, n_agreeing in distinct]
        return best_with_alternatives(self.name, self.seed, solutions, len(outputs), began)

    def _cut(self, f_obs: miller.array) -> float:
        """Resolution that the network is shown, A."""
        finest, coarsest = self.metadata.d_min_range
        wanted = self.d_min or max(self.preferred_d_min, finest)
        if wanted < finest:
            logger.warning(
                "d_min=%.2f is beyond the %.2f A that the model was trained for", wanted, finest
            )
        data_end = f_obs.d_min()
        if data_end > coarsest + 0.05:
            logger.warning(
                "the data end at %.2f A; the model was trained for %.2f to %.2f A",
                data_end, finest, coarsest,
            )  # fmt: skip
        return wanted - RESOLUTION_TOLERANCE

    def _shown(self, f_obs: miller.array, amplitudes: miller.array, to_reference) -> _Problem:
        """As the network is shown amplitudes in the reference setting, `f_obs`."""
        number = f_obs.space_group_info().type().number()
        is_trained_on = number in self.metadata.groups
        if not is_trained_on:
            logger.warning(
                "the model was not trained on %s: its confidence is not calibrated there",
                f_obs.space_group_info(),
            )
        indices = f_obs.indices()
        if self.metadata.fills_in:
            absent = f_obs.complete_set(d_min=f_obs.d_min()).lone_set(f_obs)
            indices = indices.concatenate(absent.sort(by_value="packed_indices").indices())
        hkl = indices.as_vec3_double().as_numpy_array().round().astype(int)
        unit_cell = np.array(f_obs.unit_cell().parameters())
        described = describe(
            number, unit_cell, hkl, f_obs.d_min(), self.metadata.grid_points_per_d_min,
            measured=np.arange(len(hkl)) < f_obs.size(),
        )  # fmt: skip
        frame = Frame(**stack([described]))
        amplitude = torch.zeros(1, len(hkl))
        amplitude[0, : f_obs.size()] = torch.tensor(f_obs.data().as_numpy_array())
        e_value = frame.shown_amplitudes(amplitude)
        return _Problem(
            amplitudes, to_reference, f_obs, is_trained_on, frame, frame.transform(), e_value,
            amplitude.square(),
        )  # fmt: skip

    @torch.inference_mode()
    def _search(
        self,
        problem: _Problem,
        n_most: int,
        enough: Callable[[torch.Tensor, torch.Tensor], bool],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Outputs (s, k, n) and confidences (s,) of as many starts as are needed."""
        generator = torch.Generator().manual_seed(self.seed)
        outputs = torch.empty(0)
        confidences = torch.empty(0)
        centrosymmetric = problem.f_obs.space_group().is_centric()
        majority_ends = (
            centrosymmetric and problem.f_obs.completeness() >= MAJORITY_COMPLETENESS
        )
        done, asked_about = 0, 0
        while done < n_most:
            n = min(STARTS_AT_ONCE, n_most - done)
            start = problem.frame.repeat(n).random_start(generator)
            output, confidence = self._annealed(
                problem, start, self.n_passes, generator, partial(self._settled, problem)
            )
            outputs = torch.cat([outputs, output]) if done else output
            confidences = torch.cat([confidences, confidence])
            done += n
            self.progress(done, n_most)
            expected = self._expected_r(problem, outputs).numpy()
            agreement = self._agreement(problem, outputs)
            certain = expected.max().item() > CERTAIN
            if certain or enough_agree(expected, agreement, SURE_TOGETHER):
                break
            if self.enough and done >= max(FIRST_ASKED_AT, 2 * asked_about):
                if enough(outputs[asked_about:], confidences[asked_about:]):
                    break
                asked_about = done
            if majority_ends and most_agree(expected, agreement, MAJORITY_EXPECTED_R, MAJORITY):
                break
            agreement_ends = not centrosymmetric and done >= AGREEMENT_STARTS
            if agreement_ends and enough_agree(confidences.numpy(), agreement):
                break
        self._shake(problem, outputs, confidences, generator)
        return outputs, confidences

    @torch.inference_mode()
    def _continued(
        self, problem: _Problem, guess: PhasingResult
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Outputs (s, k, n) and confidences (s,) of what a guess and its alternatives lead to."""
        guesses = (guess, *guess.alternatives)[:MOST_GUESSES]
        start = torch.zeros(len(guesses), problem.frame.n_parts, problem.frame.mask.shape[1])
        n = problem.f_obs.size()
        for i, one in enumerate(guesses):
            coefficients = coefficients_in_reference(
                one, problem.to_reference, problem.f_obs, weighted=False
            )
            factor = coefficients / np.maximum(np.abs(coefficients), np.finfo(float).tiny)
            parts = np.stack([factor.real, factor.imag])[: start.shape[1]]
            start[i, :, :n] = torch.tensor(parts, dtype=torch.float32)

        def walk(one_pass, some, frame):
            return recycle(one_pass, some, frame.centric, PASSES_FROM_GUESS)

        outputs, confidences = self._walked(problem, start, walk)
        generator = torch.Generator().manual_seed(self.seed)
        self._shake(problem, outputs, confidences, generator)
        return outputs, confidences

    def _shake(self, problem, outputs, confidences, generator) -> None:
        """Puts what shaking makes of the most confident output in its place, if it is believed."""
        best = int(confidences.argmax())
        if confidences[best] > CONFIDENT:
            outputs[best], confidences[best] = self._shaken(
                problem, outputs[best], confidences[best], generator
            )

    def _shaken(self, problem, output, confidence, generator):
        """A solution (k, n), made better where new anneals from around it are believed more."""
        frame = problem.frame.repeat(N_SHAKEN)
        sharpness = torch.full((N_SHAKEN, 1), SHAKE_SHARPNESS)
        n_passes = max(1, round(SHAKE_SHARE * self.n_passes))
        for _ in range(MOST_SHAKES):
            around = output.expand(N_SHAKEN, -1, -1)
            start = sampled_phase_factor(around, frame.centric, sharpness, generator)
            found = self._annealed(problem, start * frame.mask[:, None], n_passes, generator)
            top = int(found[1].argmax())
            gain = float(found[1][top] - confidence)
            if gain > 0.0:
                output, confidence = found[0][top], found[1][top]
            if gain < SHAKE_GAIN:
                break
        return output, confidence

    def _annealed(
        self,
        problem: _Problem,
        start: torch.Tensor,
        n_passes: int,
        generator: torch.Generator,
        settled: Callable[[torch.Tensor], bool] | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Outputs (s, k, n) of anneals from some starts (s, k, n), and their confidences (s,)."""

        def walk(one_pass, some, frame):
            return anneal(
                one_pass, some, frame.centric, frame.mask, n_passes, generator, settled
            )

        return self._walked(problem, start, walk)

    def _walked(
        self, problem: _Problem, start: torch.Tensor, walk: Callable[..., torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Outputs and confidences of walks from some starts, as many at once as memory allows."""
        n_points = problem.frame.n_shifts * problem.frame.points.shape[1]
        at_once = int(np.clip(MAP_MEMORY / (n_points * BYTES_PER_POINT), 1, len(start)))
        one_pass = partial(
            problem.frame.one_pass, self.model, problem.transform, problem.e_value
        )
        outputs = [
            walk(one_pass, some, problem.frame.repeat(len(some))) for some in start.split(at_once)
        ]
        output = torch.cat(outputs)
        # the search goes by what the network itself believes, calibrated or not
        return output, self._confidence(problem, output)

    @staticmethod
    def _confidence(problem: _Problem, output: torch.Tensor) -> torch.Tensor:
        """The r (s,) that some outputs (s, k, n) promise."""
        centric = problem.frame.centric.expand(len(output), -1)
        return mean_confidence(output, centric, problem.f_sq * problem.frame.multiplicity)

    def _expected_r(self, problem: _Problem, outputs: torch.Tensor) -> torch.Tensor:
        """Calibrated confidences (s,); zero where confidence is untested."""
        expected = self._confidence(problem, self._calibrated(outputs, problem.frame.centric))
        return expected * problem.is_trained_on

    def _settled(self, problem: _Problem, outputs: torch.Tensor) -> bool:
        """Whether one of the outputs will hardly become better."""
        return self._expected_r(problem, outputs).max().item() > SETTLED

    def _calibrated(self, output: torch.Tensor, centric: torch.Tensor) -> torch.Tensor:
        of_centric, of_acentric = self.metadata.kappa_scale
        return output * torch.where(centric, of_centric, of_acentric)[:, None]

    def _agreement(self, problem, outputs):
        """r of some outputs against one of them, on the best origin and hand."""

        def agreement(some: np.ndarray, top: int) -> np.ndarray:
            n = len(some)
            reference = outputs[top : top + 1] / modulus(outputs[top : top + 1])[:, None]
            return map_correlation(
                outputs[some],
                reference.expand(n, -1, -1),
                problem.f_sq.expand(n, -1),
                problem.frame.repeat(n),
            ).numpy()

        return agreement

    def _result(self, problem, output):
        n = problem.f_obs.size()
        output, centric = output[:, :n], problem.frame.centric[:, :n]
        # in double precision, so that the amplitudes stay those of the data
        real, *imaginary = output.numpy().astype(float)
        phase_factor = np.exp(1j * np.arctan2(imaginary[0] if imaginary else 0.0, real))
        calibrated = self._calibrated(output[None], centric)
        certainty = expected_cosine(modulus(calibrated), centric)[0].numpy()
        return in_input_setting(
            problem.f_obs,
            phase_factor,
            certainty.astype(float),
            problem.to_reference.inverse(),
            problem.amplitudes,
        )
