"""Elements of a model from refined scattering powers, tried in least squares.

Other elements are kept where they lower R1, and taken back where they do not.
"""

from __future__ import annotations

import logging

import numpy as np

# cctbx
from cctbx import xray
from cctbx.array_family import flex
from libtbx.utils import Sorry

from phai_cctbx.building.connectivity import contacts, element_of, u_equivalent
from phai_cctbx.building.elements import Site, assign_elements
from phai_cctbx.building.naming import rename
from phai_cctbx.refinement.difference_atoms import place_hydrogens
from phai_cctbx.refinement.least_squares import refine
from phai_cctbx.refinement.trial_model import (
    BOND_REACH,
    ROUGH_CONVERGENCE,
    TrialModel,
    with_elements,
    without_atoms,
)

logger = logging.getLogger(__name__)

POWER_ERROR = 0.1
"""Standard uncertainty (electrons) of refined scattering powers besides the relative one."""

POWER_ERROR_PER_R1, MIN_POWER_ERROR = 0.75, 0.02
"""Relative error of refined scattering powers, over R1 (measured on correct models), and least."""

MOST_EXCHANGES, N_PAIRS_TRIED = 10, 8
"""Pairs of atoms whose elements are exchanged at most, and tried for each."""

MIN_GAIN = 0.01
"""Gain of log-likelihood (nats) of a change that is kept: hardly more than none."""

MIN_POWER = 0.45
"""Scattering power, over that of carbon, below which there is no atom."""


def scattering_powers(model: TrialModel, n_cycles: int = 4) -> np.ndarray:
    """Scattering power of each non-hydrogen atom, from refined occupancies.

    All occupancies are refined together with U, so that their common scale is free; it is
    returned as it comes out. The model itself is not changed.

    Returns
    -------
    array, shape (n_heavy,)
        Electrons for X-rays, in the order of `model.heavy_atoms()`.

    Raises
    ------
    Sorry
        Where the occupancies cannot be refined.
    """
    structure = model.structure
    heavy = model.heavy_atoms()
    model.prepare_scattering()
    result = refine(
        structure,
        model.f_sq,
        weighting=model.weighting,
        n_cycles=n_cycles,
        convergence=ROUGH_CONVERGENCE,
        occupancies=heavy,
        wavelength=model.wavelength,
        twin=model.twin,
        temperature=model.temperature,
        **model.dependent_arguments(),
    )
    scatterers = structure.scatterers()
    refined = result.xray_structure.scatterers()
    return np.array(
        [
            model.power(element_of(scatterers[i]))
            * refined[i].occupancy
            / max(scatterers[i].occupancy, 0.01)
            for i in heavy
        ]
    )


def element_sites(structure: xray.structure, z) -> list[Site]:
    """What is known about the elements of a structure's atoms.

    Parameters
    ----------
    structure : xray.structure
    z : sequence of float
        Scattering power of each atom.

    Returns
    -------
    list of Site
        With neighbours within `BOND_REACH`.
    """
    near = contacts(structure, BOND_REACH)
    order = structure.space_group().order_z()
    return [
        Site(
            z=float(z[i]),
            z_esd=POWER_ERROR,
            weight=scatterer.multiplicity() / order,
            neighbours=tuple((n.index, n.distance) for n in near[i]),
        )
        for i, scatterer in enumerate(structure.scatterers())
    ]


def relabel(model: TrialModel, action: str) -> int:
    """Assign elements anew from refined scattering powers; the number of changes.

    Atoms of hardly any scattering power go. Changes that do not lower R1 are taken back; then
    those with the clearest evidence are tried by themselves.
    """
    try:
        z = scattering_powers(model)
    except Sorry as error:
        logger.info("Elements stay as they are: %s", error)
        return 0
    heavy = model.structure.select(flex.size_t(model.heavy_atoms()))
    old = [element_of(scatterer) for scatterer in heavy.scatterers()]
    scale = np.median(z / np.array([model.power(element) for element in old]))
    weak = np.flatnonzero(np.abs(z) < MIN_POWER * abs(scale * model.power("C"))).tolist()
    if weak and not model.riding:
        model.structure = without_atoms(model.structure, weak)
        model.refine("without weak atoms", n_cycles=4)
        return len(weak)
    relative_error = min(max(POWER_ERROR_PER_R1 * model.result.r1, MIN_POWER_ERROR), 0.15)
    new = assign_elements(
        element_sites(heavy, z),
        model.composition,
        model.order,
        fit_scale=True,
        relative_error=relative_error,
        radiation=model.radiation,
        certainty=model.certainty_of_contents,
    )
    n_changes = sum(a != b for a, b in zip(old, new, strict=True))
    if not n_changes:
        return 0
    if _try_elements(model, heavy, new, action):
        return n_changes
    clear = _clearest_changes(z, old, new, model.power)
    n_clear = sum(a != b for a, b in zip(old, clear, strict=True))
    if 0 < n_clear < n_changes and _try_elements(model, heavy, clear, f"{action}, the clearest"):
        return n_clear
    return 0


def exchange(model: TrialModel, action: str) -> int:
    """Exchange the elements of two atoms where that makes the model likelier; how many times.

    The stronger of two scatterers in the place of the weaker has the larger displacement. The pairs
    in which this shows most are tried, each refined by itself.
    """
    n_exchanges = 0
    for _ in range(MOST_EXCHANGES):
        heavy = model.structure.select(flex.size_t(model.heavy_atoms()))
        for i, j in _pairs_in_doubt(heavy, model.power)[:N_PAIRS_TRIED]:
            elements = [element_of(scatterer) for scatterer in heavy.scatterers()]
            elements[i], elements[j] = elements[j], elements[i]
            if _try_elements(model, heavy, elements, action):
                n_exchanges += 1
                break
        else:
            break
    return n_exchanges


def _pairs_in_doubt(structure: xray.structure, power) -> list[tuple[int, int]]:
    """Atoms of unlike elements, the stronger scatterer with the larger U, the largest first."""
    scatterers = structure.scatterers()
    u_values = [u_equivalent(scatterer, structure.unit_cell()) for scatterer in scatterers]
    powers = [power(element_of(scatterer)) for scatterer in scatterers]
    pairs = [
        (u_values[i] - u_values[j], i, j)
        for i in range(len(powers))
        for j in range(len(powers))
        if powers[i] > powers[j] and u_values[i] > u_values[j]
    ]
    return [(i, j) for _, i, j in sorted(pairs, reverse=True)]


def _clearest_changes(z, old, new, power) -> list[str]:
    """Of all changes of elements those that bring scattering powers closest to their elements."""
    numbers_old = np.array([power(e) for e in old])
    numbers_new = np.array([power(e) for e in new])
    scaled = z / np.median(z / numbers_new)
    gain = np.abs(scaled / numbers_old - 1) - np.abs(scaled / numbers_new - 1)
    least = max(gain.max() / 2, MIN_POWER_ERROR)
    return [b if g >= least else a for a, b, g in zip(old, new, gain, strict=True)]


def _try_elements(model: TrialModel, heavy: xray.structure, elements, action: str) -> bool:
    """Refine with other elements; true where they are likelier, else everything is as before.

    Likelier is what lowers R1; with few reflections n ln(R1) and the cost of leaving the
    composition count together.
    """
    before = (model.structure, model.result, model.riding, model.extinction)
    badness = model.badness()
    with_hydrogens = bool(model.riding)
    model.structure = with_elements(heavy, elements)
    model.riding = []
    model.refine(action, n_cycles=4)
    if with_hydrogens:
        model.structure = rename(model.structure)
        place_hydrogens(model)
        model.refine(f"{action}, hydrogens", n_cycles=5)
    if model.badness() < badness - MIN_GAIN:
        return True
    model.structure, model.result, model.riding, model.extinction = before
    model.record("taken back")
    return False
