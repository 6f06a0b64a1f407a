"""Bonds to hydrogen against the means of neutron diffraction.

Means: F. H. Allen & I. J. Bruno, Acta Cryst. B66, 380-386 (2010), by the element that carries
the hydrogen, the number of its neighbours, how many of these are hydrogen, and for hydroxyl
groups by what carries the oxygen. Groups whose mean depends on more than that, such as water,
amines and phenols, have none here and are not compared.
"""

from __future__ import annotations

from dataclasses import dataclass

# cctbx
from cctbx import xray

from phai_cctbx.building.connectivity import HYDROGENS, bonds, element_of

ALCOHOL, ACID = "alcohol", "acid"
"""What an O-H group belongs to: a tetrahedral carbon, or a carboxyl group."""

NEUTRON_DISTANCES = {
    ("C", 4, 1): 1.099,
    ("C", 4, 2): 1.092,
    ("C", 4, 3): 1.077,
    ("C", 3, 1): 1.083,
    ("C", 3, 2): 1.082,
    ("N", 3, 1): 1.027,
    ("N", 3, 2): 1.013,
    ("N", 4, 3): 1.036,
    ("O", 2, 1, ALCOHOL): 0.970,
    ("O", 2, 1, ACID): 1.018,
}
"""(element, neighbours, hydrogens among them) -> mean X-H distance in A."""


@dataclass(frozen=True)
class HydrogenBondLength:
    """One bond to hydrogen; lengths in A, `neutron` None where the table has no such group."""

    carrier: str
    hydrogen: str
    length: float
    neutron: float | None

    @property
    def deviation(self) -> float | None:
        """Refined minus neutron mean."""
        return None if self.neutron is None else self.length - self.neutron


def hydrogen_bond_lengths(structure: xray.structure) -> list[HydrogenBondLength]:
    """Every hydrogen's bond to its nearest neighbour, with the neutron mean of its group."""
    neighbours = bonds(structure)
    scatterers = structure.scatterers()
    elements = [element_of(s) for s in scatterers]
    result = []
    for i, near in enumerate(neighbours):
        if elements[i] not in HYDROGENS or not near:
            continue
        carrier = near[0].index
        around = neighbours[carrier]
        n_hydrogens = sum(elements[n.index] in HYDROGENS for n in around)
        group = (elements[carrier], len(around), n_hydrogens)
        if group == ("O", 2, 1):
            group += (hydroxyl_group(carrier, neighbours, elements),)
        result.append(
            HydrogenBondLength(
                scatterers[carrier].label,
                scatterers[i].label,
                near[0].distance,
                NEUTRON_DISTANCES.get(group),
            )
        )
    return result


def hydroxyl_group(oxygen: int, neighbours, elements) -> str | None:
    """`ALCOHOL`, `ACID`, or None for an O-H group of another kind."""
    (carrier,) = (n.index for n in neighbours[oxygen] if elements[n.index] not in HYDROGENS)
    around = [n.index for n in neighbours[carrier]]
    if elements[carrier] != "C":
        return None
    if len(around) == 4:
        return ALCOHOL
    bare = [i for i in around if elements[i] == "O" and len(neighbours[i]) == 1]
    return ACID if len(around) == 3 and bare else None


def mean_deviation(lengths) -> tuple[float, float, int]:
    """Mean and mean absolute deviation from neutron (A), and how many bonds they stand for."""
    deviations = [b.deviation for b in lengths if b.deviation is not None]
    if not deviations:
        return float("nan"), float("nan"), 0
    n = len(deviations)
    return sum(deviations) / n, sum(abs(d) for d in deviations) / n, n
