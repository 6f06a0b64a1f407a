"""Atoms that the difference density shows, and atoms that have no density.

Missing atoms and hydrogens are added on peaks; atoms with huge displacements go.
"""

from __future__ import annotations

import numpy as np

# cctbx
from cctbx import miller, xray

from phai_cctbx.building.connectivity import (
    HYDROGENS,
    atomic_number,
    closest_approach,
    contacts,
    element_of,
    u_equivalent,
)
from phai_cctbx.building.hydrogens import HydrogenGroup, HydrogenPlacer, add_hydrogens
from phai_cctbx.building.peaks import find_peaks, fourier_map
from phai_cctbx.refinement.maps import difference_coefficients
from phai_cctbx.refinement.trial_model import (
    BOND_REACH,
    HALF_ATOM,
    U_START,
    TrialModel,
    without_atoms,
)

U_PRUNE, U_PRUNE_FACTOR = 0.15, 3.0
"""An atom has no density when its U exceeds both this (A^2) and this many times the median."""

PRUNE_SHARE = 0.25
"""Largest part of the model that is removed at a time."""

MIN_NEW_DISTANCE = 1.1
"""Closest approach of a new atom to one of the model, A."""

MIN_NEW_DENSITY = 0.45
"""Difference density, over that of a typical carbon atom of the model, that makes a new atom."""

MIN_HYDROGEN_DISTANCE = 0.75
"""Closest approach (A) of a nucleus of hydrogen to another."""

HYDROGEN_REACH = 1.25
"""Distance (A) from an atom within which a difference peak may be its hydrogen."""


def prune(model: TrialModel) -> int:
    """Remove atoms that have no density, by U and by closeness to others; their number.

    The worst first, and no more than a part of the model at a time: a false atom raises
    the U of the others.
    """
    structure = model.structure
    unit_cell = structure.unit_cell()
    u_values = np.array([u_equivalent(s, unit_cell) for s in structure.scatterers()])
    limit = max(U_PRUNE_FACTOR * np.median(u_values), U_PRUNE)
    unwanted = {i for i in range(len(u_values)) if u_values[i] > limit}
    elements = [element_of(s) for s in structure.scatterers()]
    for i, near in enumerate(contacts(structure, BOND_REACH)):
        for n in near:
            if n.index == i or n.distance > closest_approach(elements[i], elements[n.index]):
                continue
            if i in unwanted or n.index in unwanted:
                continue
            power = [atomic_number(elements[k]) / (u_values[k] + U_START) for k in (i, n.index)]
            unwanted.add(i if power[0] < power[1] else n.index)
    n_most = max(1, int(PRUNE_SHARE * len(u_values)))
    unwanted = sorted(unwanted, key=lambda i: -u_values[i])[:n_most]
    if unwanted and len(unwanted) < len(u_values):
        model.structure = without_atoms(structure, unwanted)
        return len(unwanted)
    return 0


def add_atoms(model: TrialModel, least: float = MIN_NEW_DENSITY, n_most: int | None = None) -> int:
    """Add carbon atoms on sensibly placed peaks of the difference map; their number.

    Parameters
    ----------
    model : TrialModel
    least : float
        Density of a peak, over that of a typical carbon atom of the model; 0 takes any peak.
    n_most : int, optional
        Atoms that are added at most.
    """
    coefficients = difference_coefficients(model.result, model.f_sq)
    peaks = find_peaks(coefficients, 20)
    threshold = max(least * model.density_of_carbon(), 4 * peaks.sigma) if least else 0.0
    n_new = 0
    for site, height in zip(peaks.sites, peaks.heights, strict=True):
        if height < threshold or n_new == n_most:
            break
        trial = model.structure.deep_copy_scatterers()
        trial.add_scatterer(
            xray.scatterer(f"C{900 + n_new}", site=site, u=U_START, scattering_type="C")
        )
        last = trial.scatterers().size() - 1
        near = contacts(trial, MIN_NEW_DISTANCE)[last]
        if any(n.index != last for n in near) or any(n.distance < 1.0 for n in near):
            continue
        model.structure = trial
        n_new += 1
    if model.radiation == "neutron":
        n_new += _add_negative_atoms(model, coefficients, threshold)
    return n_new


def _add_negative_atoms(model: TrialModel, coefficients: miller.array, threshold: float) -> int:
    """Add hydrogen on holes of a neutron difference map beside an atom; their number."""
    least = threshold * abs(model.power("H") / model.power("C"))
    holes = find_peaks(coefficients, 20, MIN_HYDROGEN_DISTANCE, negative=True)
    n_new = 0
    for site, height in zip(holes.sites, holes.heights, strict=True):
        if -height < least:
            break
        trial = model.structure.deep_copy_scatterers()
        trial.add_scatterer(
            xray.scatterer(f"H{900 + n_new}", site=site, u=U_START, scattering_type="H")
        )
        last = trial.scatterers().size() - 1
        near = [n.distance for n in contacts(trial, HYDROGEN_REACH)[last] if n.index != last]
        if near and min(near) > MIN_HYDROGEN_DISTANCE:
            model.structure = trial
            n_new += 1
    return n_new


def place_hydrogens(model: TrialModel) -> None:
    """Hydrogens by geometry and difference density, refined with the rest."""
    fft_map = fourier_map(difference_coefficients(model.result, model.f_sq))
    density = fft_map.real_map_unpadded()
    fractionalize = model.f_sq.unit_cell().fractionalize

    def density_at(site):
        return density.eight_point_interpolation(fractionalize(tuple(site)))

    placer = HydrogenPlacer(model.structure, density_at, _peaks_around(model))
    groups = within_contents(model, placer.groups())
    model.structure, model.riding = add_hydrogens(model.structure, groups)


def within_contents(model: TrialModel, groups: list[HydrogenGroup]) -> list[HydrogenGroup]:
    """Hydrogens no more than the composition has, where reflections are few.

    A blurred map shows density beside oxygen and nitrogen that is no hydrogen. Groups on carbon
    stay: geometry gave them. Of the others those of least density go first. A composition that
    the volume forbids, or that names no hydrogen, says nothing.
    """
    contents = model.contents_that_fit() if model.few_reflections else {}
    given = sum(n for element, n in contents.items() if element in HYDROGENS)
    if not given:
        return groups
    scatterers = model.structure.scatterers()
    surplus = sum(scatterers[g.pivot].weight() * len(g.sites) for g in groups) - given
    left = list(groups)
    on_others = [g for g in groups if element_of(scatterers[g.pivot]) != "C"]
    for group in sorted(on_others, key=lambda g: g.density):
        if surplus < HALF_ATOM:
            break
        left.remove(group)
        surplus -= scatterers[group.pivot].weight() * len(group.sites)
    return left


def _peaks_around(model: TrialModel) -> dict[int, list[np.ndarray]]:
    """Difference peaks within bonding distance of each atom, as Cartesian sites."""
    n_atoms = model.structure.scatterers().size()
    coefficients = difference_coefficients(model.result, model.f_sq)
    peaks = find_peaks(coefficients, 2 * n_atoms + 20)
    trial = model.structure.deep_copy_scatterers()
    for k, site in enumerate(peaks.sites):
        trial.add_scatterer(xray.scatterer(f"Q{k}", site=site, u=U_START, scattering_type="H"))
    sites = trial.sites_frac()
    orthogonalize = trial.unit_cell().orthogonalize
    around: dict[int, list[np.ndarray]] = {}
    for i, near in enumerate(contacts(trial, HYDROGEN_REACH)[:n_atoms]):
        found = sorted((n for n in near if n.index >= n_atoms), key=lambda n: n.index)
        around[i] = [np.array(orthogonalize(n.operator * sites[n.index])) for n in found]
    return around
