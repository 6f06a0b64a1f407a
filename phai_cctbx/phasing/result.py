"""What every phasing strategy returns: phases, how sure they are, and where they come from."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

# cctbx
from cctbx import miller

#: Expected r of wrong phases, which still share the strongest reflections with the right ones.
R_OF_WRONG = 0.4


@dataclass(frozen=True)
class PhasingResult:
    """One phased data set, with the candidates it was preferred to.

    Attributes
    ----------
    f_phased : cctbx.miller.array
        Complex structure factors |F_obs| exp(i phase), unique reflections, in the space group
        and setting of the input, on an origin that the space group allows.
    confidence : cctbx.miller.array
        Same indices and order as `f_phased`: the expected cosine of the phase error, 0 to 1.
    figures_of_merit : dict of str to float
        What the strategy judged the phases by.
    strategy : str
        Name of the strategy, ``"neural"`` or ``"charge_flipping"`` for instance.
    seed : int
        Seed of the random starts; the same seed on the same data gives the same phases.
    seconds : float
        Wall-clock time.
    alternatives : tuple of PhasingResult
        Other candidates, best first; they hold no alternatives themselves.
    """

    f_phased: miller.array
    confidence: miller.array
    figures_of_merit: dict[str, float] = field(default_factory=dict)
    strategy: str = ""
    seed: int = 0
    seconds: float = 0.0
    alternatives: tuple[PhasingResult, ...] = ()

    def __post_init__(self):
        if not self.f_phased.is_complex_array():
            raise TypeError("f_phased must be a complex miller.array")
        if self.confidence.size() != self.f_phased.size() or not (
            self.confidence.indices() == self.f_phased.indices()
        ).all_eq(True):
            raise ValueError("confidence and f_phased must have the same reflections in one order")

    @property
    def expected_r(self) -> float:
        """The correlation with the true map that the confidence promises, 0 to 1.

        With weights m |F|^2 (m: multiplicity in P1) the mean of the expected cosine is the
        expected `score_r` (see `phai_cctbx.phasing.scoring`).
        """
        multiplicity = self.f_phased.space_group().multiplicity(self.f_phased.indices(), False)
        weight = multiplicity.as_numpy_array() * np.abs(self.f_phased.data().as_numpy_array()) ** 2
        total = weight.sum()
        if total == 0:
            return 0.0
        return float((weight * self.confidence.data().as_numpy_array()).sum() / total)
