"""Disordered structures as a set of ordered ones, one for each PART.

Atoms of PART 0 belong to all of them; their form factors are the mean over the parts, with
the occupancies of the disordered atoms as weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# cctbx
from cctbx import xray
from cctbx.array_family import flex

FULL_OCCUPANCY = 0.999
"""Occupancy above which an atom is always there."""


@dataclass(frozen=True)
class Configuration:
    """One ordered arrangement.

    Attributes
    ----------
    number : int
        PART, 0 for an ordered structure.
    selection : numpy.ndarray of int
        Its scatterers in the whole structure.
    structure : xray.structure
        These scatterers alone.
    weights : numpy.ndarray, (n_scatterers,)
        Share of this arrangement in the form factor of every scatterer.
    """

    number: int
    selection: np.ndarray
    structure: xray.structure
    weights: np.ndarray


def configurations(structure: xray.structure, conformers=None) -> list[Configuration]:
    """The ordered arrangements of a structure.

    Parameters
    ----------
    structure : xray.structure
    conformers : sequence of int, optional
        SHELX PART of each scatterer; ordered where not given. Atoms of full occupancy are in all
        arrangements, whatever their PART, which then is about the geometry of hydrogens.
    """
    n = structure.scatterers().size()
    parts = np.zeros(n, dtype=int) if conformers is None else np.abs(np.array(list(conformers)))
    occupancy = np.array([s.occupancy for s in structure.scatterers()])
    parts = np.where(occupancy > FULL_OCCUPANCY, 0, parts)
    numbers = sorted(set(parts.tolist()) - {0}) or [0]
    shares = np.array([occupancy[parts == k].mean() for k in numbers])
    shares = shares / shares.sum()
    result = []
    for number, share in zip(numbers, shares, strict=True):
        chosen = (parts == 0) | (parts == number)
        weights = np.where(parts == 0, share, np.where(parts == number, 1.0, 0.0))
        result.append(
            Configuration(
                number,
                np.flatnonzero(chosen),
                structure.select(flex.bool(chosen.tolist())),
                weights,
            )
        )
    return result
