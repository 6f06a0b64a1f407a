"""Reflections as read from a file, before they meet the crystal symmetry."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from cctbx import crystal, miller
from cctbx.array_family import flex


@dataclass
class Reflections:
    """Indices, values and sigmas of one list, with the count of what was left out.

    Attributes
    ----------
    source : str
        File (and data block or column) for messages.
    indices : ndarray of int, (n, 3)
    values : ndarray of float, (n,)
        Intensities, or amplitudes where `amplitudes` is true.
    sigmas : ndarray of float, (n,), or None
    amplitudes : bool
    places : ndarray of int, (n,), or None
        Line of each reflection in the file.
    rejected : Counter
        Reason -> number of reflections.
    notes : list of str
        How the file was read.
    """

    source: str
    indices: np.ndarray
    values: np.ndarray
    sigmas: np.ndarray | None
    amplitudes: bool
    places: np.ndarray | None = None
    rejected: Counter = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def place(self, i: int) -> str:
        """Return where reflection `i` stands, for a message."""
        indices = " ".join(str(index) for index in self.indices[i])
        line = "" if self.places is None else f", line {self.places[i]}"
        return f"{self.source}{line}, reflection ({indices})"

    def select(self, keep: np.ndarray, reason: str) -> Reflections:
        """Return the reflections where `keep` is true, and count the others under `reason`."""
        n_out = int(np.count_nonzero(~keep))
        if n_out == 0:
            return self
        return Reflections(
            source=self.source,
            indices=self.indices[keep],
            values=self.values[keep],
            sigmas=None if self.sigmas is None else self.sigmas[keep],
            amplitudes=self.amplitudes,
            places=None if self.places is None else self.places[keep],
            rejected=self.rejected + Counter({reason: n_out}),
            notes=self.notes,
        )

    def as_miller_array(self, crystal_symmetry: crystal.symmetry) -> miller.array:
        """Return the list as a ``miller.array`` of X-ray amplitudes or intensities.

        The anomalous flag is set where both members of a Bijvoet pair occur.
        """
        indices = flex.miller_index(self.indices.tolist())
        miller_set = miller.set(crystal_symmetry, indices, anomalous_flag=True)
        has_pairs = (
            not crystal_symmetry.space_group().is_centric()
            and miller_set.map_to_asu().unique_under_symmetry().n_bijvoet_pairs() > 0
        )
        array = miller.set(crystal_symmetry, indices, anomalous_flag=has_pairs).array(
            data=flex.double(self.values),
            sigmas=None if self.sigmas is None else flex.double(self.sigmas),
        )
        array.set_info(miller.array_info(source=self.source, labels=["obs", "sigma"]))
        if self.amplitudes:
            return array.set_observation_type_xray_amplitude()
        return array.set_observation_type_xray_intensity()
