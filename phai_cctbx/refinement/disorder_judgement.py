"""Whether a disordered group stays in a model.

It stays where it fits better than its parameters alone would make it (Hamilton, Acta Cryst. 18,
502, 1965), with places that the data resolve, an occupancy far from 0 and 1, and sensible geometry.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

# cctbx
from cctbx import xray

from phai_cctbx.building.connectivity import (
    HYDROGENS,
    atomic_number,
    bonds,
    contacts,
    element_of,
    u_equivalent,
)
from phai_cctbx.building.disorder import DisorderedGroup
from phai_cctbx.refinement.least_squares import CONVERGED_SHIFT_OVER_ESD
from phai_cctbx.refinement.parts import strains
from phai_cctbx.refinement.trial_model import TrialModel

N_FINAL_CYCLES = 15
"""Of least squares before a group is judged."""

RESOLVED = 0.715
"""Two places are clear where at least one atom has them this far apart, in units of the resolution
limit of the data: closer ones are not resolved in a map (James, Acta Cryst. 1, 132, 1948)."""

MIN_HAMILTON = 20.0
"""Gain of chi squared per parameter, in units of what noise would give, of a group that is kept.
Hamilton's test at any usual level asks for 3 at most; the errors of a model are not noise alone."""

MIN_WR2_GAIN = 0.02
"""Part of wR2 that the group takes away."""

MIN_OCCUPANCY, MIN_OCCUPANCY_ESDS = 0.07, 10.0
"""Occupancy of the second part: at least this, and this many of its standard uncertainties."""

HYDROGEN_REACH, HYDROGEN_ELECTRONS = (0.7, 1.15), 2.0
"""A single second place this far (A) from the first with less electrons may be a hydrogen."""

MAX_STRAIN = 6.0
"""Largest difference of distances restrained to be the same, over its standard deviation."""

MAX_SHIFT = 0.3
"""Largest shift/esd after the last cycles; it is small where the parts do not depend on one
another."""

CLOSEST_CONTACT = 2.2
"""Distance (A) of second places from atoms that they are not bonded to, over two bonds or more."""

U_RANGE = (0.3, 4.0)
"""U(eq) of the atoms of a group over the median of the model."""


@dataclass(frozen=True)
class Evidence:
    """What speaks for a disordered group.

    Attributes
    ----------
    r1, wr2 : (float, float)
        Without and with it, the weights being the same.
    n_more : int
        Parameters it costs.
    hamilton : float
        Gain of chi squared per parameter, over the remaining chi squared per degree of freedom.
    occupancy, esd : float
        Of the first part.
    apart : float
        Largest distance (A) of an atom from its second place.
    electrons : float
        Scattering power of the second part, hydrogens left out.
    """

    r1: tuple[float, float]
    wr2: tuple[float, float]
    n_more: int
    hamilton: float
    occupancy: float
    esd: float
    apart: float
    electrons: float


def refined_evidence(model: TrialModel, base, group: DisorderedGroup) -> Evidence:
    """Refine to the end, and say what speaks for the group."""
    result = model.refine(
        "disordered",
        n_cycles=N_FINAL_CYCLES,
        with_covariance=True,
        convergence=CONVERGED_SHIFT_OVER_ESD,
    )
    n_more = result.n_parameters - base.n_parameters
    freedom = result.n_reflections - result.n_parameters
    gain = base.wr2**2 / result.wr2**2 - 1
    scatterers = model.structure.scatterers()
    sites = np.array(model.structure.sites_cart())
    model.disorder = with_occupancies(model)
    occupancy, esd = model.disorder[-1].occupancy, model.disorder[-1].esd
    return Evidence(
        r1=(base.r1, result.r1),
        wr2=(base.wr2, result.wr2),
        n_more=n_more,
        hamilton=gain * freedom / max(n_more, 1),
        occupancy=occupancy,
        esd=esd,
        apart=max(float(np.linalg.norm(sites[j] - sites[k])) for j, k in group.pairs),
        electrons=(1 - occupancy)
        * sum(atomic_number(element_of(scatterers[j])) for j, _ in group.pairs),
    )


def doubts_about(model: TrialModel, evidence: Evidence) -> list[str]:
    """Why the last group of a model is not kept."""
    doubts = []
    if not model.result.max_shift_over_esd < MAX_SHIFT:
        doubts.append(f"no convergence, shift/esd {model.result.max_shift_over_esd:.2f}")
    if evidence.hamilton < MIN_HAMILTON or evidence.wr2[1] > (1 - MIN_WR2_GAIN) * evidence.wr2[0]:
        doubts.append(
            f"wR2 {evidence.wr2[0]:.4f} -> {evidence.wr2[1]:.4f}"
            f" for {evidence.n_more} parameters (F {evidence.hamilton:.1f})"
        )
    minor = min(evidence.occupancy, 1 - evidence.occupancy)
    if not minor > max(MIN_OCCUPANCY, MIN_OCCUPANCY_ESDS * evidence.esd):
        doubts.append(f"occupancy {evidence.occupancy:.3f}, esd {evidence.esd:.3f}")
    if evidence.apart < RESOLVED * model.f_sq.d_min():
        doubts.append(f"places {evidence.apart:.2f} A apart")
    group = model.disorder[-1]
    low, high = HYDROGEN_REACH
    if len(group.pairs) == 1 and low < evidence.apart < high:
        if evidence.electrons < HYDROGEN_ELECTRONS:
            doubts.append("it may be a hydrogen atom")
    return doubts + _geometry_doubts(model, group)


def _geometry_doubts(model: TrialModel, group: DisorderedGroup) -> list[str]:
    """What is not sensible in the places and displacements of a group."""
    structure, scatterers = model.structure, model.structure.scatterers()
    doubts = []
    largest = max((strain for strain, _, _ in strains(structure, group)), default=0.0)
    if largest > MAX_STRAIN:
        doubts.append(f"distances differ by {largest:.0f} standard deviations")
    u_values = [u_equivalent(s, structure.unit_cell()) for s in scatterers]
    typical = np.median([u_values[i] for i in model.heavy_atoms()])
    ratios = [u_values[i] / typical for i, _ in group.pairs]
    if min(ratios) < U_RANGE[0] or max(ratios) > U_RANGE[1]:
        doubts.append(f"U(eq) {min(ratios):.2f} to {max(ratios):.2f} of the median")
    on_pivot: dict[int, int] = {}
    for riding in model.riding:
        if riding.kind != "free":
            on_pivot[riding.pivot] = len(riding.hydrogens)
    if any(on_pivot.get(i, 0) != on_pivot.get(j, 0) for i, j in group.pairs):
        doubts.append("hydrogens do not fit")
    parts = model.parts
    near_bonds = bonds(structure, parts)
    near = contacts(structure, CLOSEST_CONTACT)
    for _, j in group.pairs:
        bonded = {(n.index, str(n.operator)) for n in near_bonds[j]}
        beyond = {m.index for n in near_bonds[j] for m in near_bonds[n.index]}
        for n in near[j]:
            other = element_of(scatterers[n.index]) not in HYDROGENS and parts[n.index] != 1
            if other and n.index not in beyond and (n.index, str(n.operator)) not in bonded:
                doubts.append(
                    f"{scatterers[j].label} {n.distance:.2f} A from {scatterers[n.index].label}"
                )
    return doubts


def with_occupancies(model: TrialModel) -> list[DisorderedGroup]:
    """The disordered groups of a model with their occupancies as refined last, and the esds."""
    result = model.result
    groups = []
    for group in model.disorder:
        i, esd = group.first[0], float("nan")
        if result.covariance is not None:
            parameter = result.xray_structure.parameter_map()[i].occupancy
            variance = result.covariance.matrix.matrix_packed_u_diagonal()[parameter]
            esd = float(np.sqrt(max(variance, 0.0)))
        occupancy = result.xray_structure.scatterers()[i].occupancy
        groups.append(replace(group, occupancy=occupancy, esd=esd))
    return groups


def disorder_line(structure: xray.structure, group: DisorderedGroup) -> str:
    """What is said of a disordered group: its atoms and occupancies."""
    first, second = (", ".join(labels) for labels in group.labels(structure))
    return (
        f"Disordered over two parts: {first} (occupancy {group.occupancy:.3f}, standard"
        f" uncertainty {group.esd:.3f}) and {second} ({1 - group.occupancy:.3f})."
    )
