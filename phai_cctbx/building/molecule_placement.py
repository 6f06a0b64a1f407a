"""Known molecules placed in a crystal, whether its phases are good, poor or not there at all.

Every orientation of every conformer is tried at every position, in the maps of several phase sets
of both hands and against |F| alone; the best are fitted with their torsions and judged by |F|, so
that wrong phases cost time and nothing else. Molecules follow one another, several ways at once.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import linear_sum_assignment

# cctbx
from cctbx import miller, sgtbx
from libtbx.utils import Sorry

from phai_cctbx.building.connectivity import closest_approach
from phai_cctbx.building.molecule import Molecule, turn
from phai_cctbx.building.molecule_pose import (
    U_START,
    Diffraction,
    FlexibleFit,
    Placement,
    Pose,
)
from phai_cctbx.building.molecule_search import (
    amplitude_search,
    number_of_rotations,
    phased_search,
)
from phai_cctbx.phasing.origins import change_hand, hand_is_free

logger = logging.getLogger(__name__)

N_CANDIDATES, N_CANDIDATES_MAX, FITTED_ATOMS = 40, 200, 1500
"""Places of a search that are fitted: at least and at most, and atoms of all of them together.

Small molecules look alike in many orientations, and are fitted quickly."""

N_KEPT_WAYS = 5
"""Ways that are carried on to the next molecule."""

N_ORIENTATIONS_IN_ALL = 20000
"""Orientations of a search over all conformers; more conformers are searched more coarsely."""

N_ROUGH_STEPS, N_FINE_STEPS = 20, 80
"""Steps of the fits that choose, and of the fit of the chosen."""

TORSION_SHARE = 0.4
"""Share of the fitted rigid bodies, the best ones, whose torsions are fitted in a search."""

SAME_AMPLITUDES = 0.1
"""Placements whose |F_calc| differ by less, relatively, are taken for one that was found twice."""

CLASH_MARGIN = 0.9
"""Non-hydrogen atoms of different molecules nearer than a bond plus this (A) clash.

Hydrogen bonds O...O begin at 2.4 A, 1.0 A above the bond; other contacts are longer."""

CLASH_PENALTY = 0.05
"""What one clash adds to the residual, relative to it."""

COINCIDENCE = 0.6
"""Atoms nearer than this (A) to an image of their own kind are one on a special position."""

CONVINCING_R1, CONVINCING_RATIO = 0.20, 1.15
"""R1 of a rigid molecule with torsions below which no further search is made when the residual of
the next different one is larger by this factor. The verdict holds what stays above against the
molecule; in small cells at 2 A false placements reach 0.25."""

TORSION_STEP = 60
"""Steps (degrees) in which rotatable bonds of the best placement are turned."""

HYDROGEN_STEP = 30
"""The same for bonds that turn hydrogens alone; twice round, since they see one another."""

N_TRIES = 3
"""Searches while none is convincing: by |F|, in maps as well, then with random torsions."""

N_RANDOM_CONFORMERS = 24
"""Random conformers of each such search."""


@dataclass(frozen=True)
class PlacementResult:
    """The best placement and its rivals.

    Attributes
    ----------
    best : Placement
    rivals : tuple of Placement
        Different placements, best first.
    n_fitted : int
    phase_set : int or None
        The phase set that led to the best, None where |F| alone did.
    clashes : tuple of str
        Contacts of the best that are too short.
    """

    best: Placement
    rivals: tuple[Placement, ...]
    n_fitted: int
    phase_set: int | None
    clashes: tuple[str, ...]

    @property
    def gap(self) -> float:
        """Residual of the second-best placement over that of the best; inf without one."""
        if not self.rivals:
            return float("inf")
        return self.rivals[0].residual / max(self.best.residual, 1e-9)


def place(
    f_obs: miller.array,
    molecules: Sequence[Molecule],
    weights: Sequence[float] | None = None,
    phase_sets: Sequence = (),
    radiation: str = "xray",
    seed: int = 0,
    progress=None,
    accepted: Callable[[PlacementResult], bool] | None = None,
) -> PlacementResult:
    """Place molecules so that they explain the amplitudes.

    Parameters
    ----------
    f_obs : cctbx.miller.array
        Amplitudes of unique reflections.
    molecules : sequence of Molecule
        Every copy in the asymmetric unit, in the order in which they are placed.
    weights : sequence of float, optional
        Occupancy of each: 1/2 for a molecule on a centre of inversion. 1 by default.
    phase_sets : sequence of phai_cctbx.phasing.result.PhasingResult, or callable
        May be empty. A function that returns them is called where |F| alone does not convince.
    radiation : {"xray", "electron", "neutron"}
    seed : int
    progress : callable, optional
        Called with (steps done, steps in all).
    accepted : callable, optional
        Asked after a search that is not convincing by itself; True ends the search.

    Returns
    -------
    PlacementResult

    Raises
    ------
    libtbx.utils.Sorry
        If no molecule is given or there are fewer reflections than parameters of rigid bodies.
    """
    if not molecules:
        raise Sorry("No molecule to place.")
    weights = [1.0] * len(molecules) if weights is None else list(weights)
    if f_obs.size() <= 6 * len(molecules) + 2:
        raise Sorry(
            f"{f_obs.size()} reflections cannot place {len(molecules)} molecules with"
            f" {6 * len(molecules) + 2} parameters: collect more data."
        )
    elements = {element for molecule in molecules for element in molecule.elements}
    diffraction = Diffraction(f_obs, elements, radiation)
    found: list[Placement] = []
    n_fitted = 0
    total = N_TRIES * len(molecules)
    for attempt in range(N_TRIES):
        maps = []
        if attempt == 1:
            maps = _maps(f_obs, phase_sets() if callable(phase_sets) else phase_sets)
        ways: list[Placement | None] = [None]
        for k, (molecule, weight) in enumerate(zip(molecules, weights, strict=True)):
            if progress:
                progress(attempt * len(molecules) + k, total)
            if attempt and not maps:
                molecule = molecule.with_random_torsions(N_RANDOM_CONFORMERS, seed + attempt)
            trials = _trials(f_obs, diffraction, molecule, weight, ways, maps, seed + attempt)
            n_fitted += len(trials)
            ways = _distinct(_roughly_fitted(diffraction, trials), diffraction)
            ways = ways[: N_KEPT_WAYS if k + 1 < len(molecules) else N_CANDIDATES]
        finished = [_fitted(diffraction, way, N_FINE_STEPS) for way in ways[:N_KEPT_WAYS]]
        finished[0] = improved(diffraction, finished[0])
        found = _distinct([*found, *finished, *ways[N_KEPT_WAYS:]], diffraction)
        logger.info(
            "Search %d: best R1 %.3f (%s), next different %.3f",
            attempt + 1,
            found[0].r1,
            found[0].origin,
            found[1].r1 if len(found) > 1 else float("nan"),
        )
        result = _result(found, n_fitted, diffraction)
        if _convincing(found) or (accepted is not None and accepted(result)):
            break
    return result


def _result(found, n_fitted, diffraction) -> PlacementResult:
    best = found[0]
    phase_set = int(best.origin.split()[-1]) if best.origin.startswith("phase set") else None
    return PlacementResult(
        best=best,
        rivals=tuple(found[1:6]),
        n_fitted=n_fitted,
        phase_set=phase_set,
        clashes=tuple(clashes(best, diffraction)),
    )


def _convincing(found) -> bool:
    if found[0].r1 > CONVINCING_R1:
        return False
    return len(found) < 2 or found[1].residual > CONVINCING_RATIO * found[0].residual


def _maps(f_obs, phase_sets):
    """Structure factors, weights and number of each phase set in both hands."""
    maps = []
    for number, result in enumerate(phase_sets, start=1):
        confidence = result.f_phased.customized_copy(data=result.confidence.data(), sigmas=None)
        hands = [result.f_phased]
        if hand_is_free(f_obs.space_group()):
            hands.append(change_hand(result.f_phased))
        for phased in hands:
            common = phased.common_set(f_obs)
            maps.append((common, confidence.common_set(common).data().as_numpy_array(), number))
    return maps


def _trials(f_obs, diffraction, molecule, weight, ways, maps, seed):
    """Placements with one more molecule, before any fit."""
    n_conformers = len(molecule.conformers)
    n_rotations = min(
        number_of_rotations(molecule.radius, f_obs.d_min()),
        max(N_ORIENTATIONS_IN_ALL // n_conformers, 1),
    )
    trials = []
    n_fitted = np.clip(FITTED_ATOMS // len(molecule.elements), N_CANDIDATES, N_CANDIDATES_MAX)
    n_each = max(int(n_fitted) // len(ways), N_KEPT_WAYS)
    phased = phased_search(diffraction, molecule, [(f, w) for f, w, _ in maps], n_rotations, n_each)
    for way in ways:
        f_part = None if way is None else diffraction.f_calc(way)
        by_amplitude = amplitude_search(
            diffraction, f_obs, molecule, n_rotations, n_each, f_part, weight, seed
        )
        lists = [(f"phase set {number}", c) for (_, _, number), c in zip(maps, phased, strict=True)]
        lists.append(("amplitudes alone", by_amplitude))
        if weight < 1:
            on_symmetry = amplitude_search(
                diffraction, f_obs, molecule, n_rotations, n_each, f_part, weight, seed, True
            )
            lists.append(("amplitudes alone, on special positions", on_symmetry))
        for origin, candidates in lists:
            for candidate in candidates:
                pose = Pose(molecule, candidate.sites(molecule, diffraction))
                if way is None:
                    trials.append(Placement((pose,), (weight,), U_START, origin=origin))
                else:
                    trials.append(
                        replace(
                            way,
                            poses=(*way.poses, pose),
                            weights=(*way.weights, weight),
                            origin=origin,
                        )
                    )
    return trials


def improved(diffraction: Diffraction, placement: Placement) -> Placement:
    """The placement with other conformers, turns, foldings and staggerings tried in its place.

    Each molecule is turned by half about its principal axes, since many are nearly symmetric up to
    their elements; each conformer is laid over it, and each folding of the rings with the torsions
    as they are; each rotatable bond is turned by steps of `TORSION_STEP`. What lowers the residual
    after a fit is kept.
    """
    for k in range(len(placement.poses)):
        placement = _best_of(diffraction, placement, k, _half_turns(placement.poses[k]))
        pose = placement.poses[k]
        trials = [
            replace(pose, sites=pose.molecule.laid_over(conformer, pose.sites, turned))
            for turned, conformers in (
                (False, pose.molecule.conformers),
                (True, pose.molecule.foldings),
            )
            for conformer in conformers
        ]
        placement = _best_of(diffraction, placement, k, trials)
        for torsion in pose.molecule.torsions:
            trials = []
            for angle in np.arange(TORSION_STEP, 360, TORSION_STEP):
                sites = placement.poses[k].sites.copy()
                turn(sites, torsion, np.radians(angle))
                trials.append(replace(placement.poses[k], sites=sites))
            placement = _best_of(diffraction, placement, k, trials)
        placement = _hydrogens_turned(diffraction, placement, k)
    return FlexibleFit(diffraction, placement).run(N_FINE_STEPS)


def _hydrogens_turned(diffraction, placement, k):
    """The placement with the hydroxyl, methyl and ammonium groups of a molecule turned best."""
    for torsion in placement.poses[k].molecule.hydrogen_torsions * 2:
        found = [placement]
        for angle in np.arange(HYDROGEN_STEP, 360, HYDROGEN_STEP):
            pose = placement.poses[k]
            sites = pose.sites.copy()
            turn(sites, torsion, np.radians(angle))
            poses = (*placement.poses[:k], replace(pose, sites=sites), *placement.poses[k + 1 :])
            found.append(diffraction.judged(replace(placement, poses=poses)))
        placement = min(found, key=lambda p: p.residual)
    return placement


def _best_of(diffraction, placement, k, trials):
    """The placement, or the best fit with another pose in place of its k-th."""
    found = [placement]
    for pose in trials:
        poses = (*placement.poses[:k], pose, *placement.poses[k + 1 :])
        start = replace(placement, poses=poses)
        found.append(FlexibleFit(diffraction, start).run(N_ROUGH_STEPS))
    best = min(found, key=lambda p: p.residual)
    return best if best is placement else FlexibleFit(diffraction, best).run(N_FINE_STEPS)


def _half_turns(pose):
    """The pose turned by half about each of its principal axes."""
    centre = pose.heavy_sites.mean(axis=0)
    axes = np.linalg.svd(pose.heavy_sites - centre)[2]
    return [
        replace(pose, sites=(pose.sites - centre) @ (2 * np.outer(axis, axis) - np.eye(3)) + centre)
        for axis in axes
    ]


def _roughly_fitted(diffraction, trials):
    """Rigid bodies of all trials fitted, and the torsions of the better ones of what they become.

    Many trials end in the same place; the torsions are fitted once for each.
    """
    rigid = _distinct(
        [FlexibleFit(diffraction, trial, torsions=False).run(N_ROUGH_STEPS) for trial in trials],
        diffraction,
    )
    flexible = rigid[: max(N_KEPT_WAYS, math.ceil(TORSION_SHARE * len(trials)))]
    return [_with_torsions(diffraction, way, N_ROUGH_STEPS) for way in flexible]


def _fitted(diffraction, placement, n_steps):
    rigid = FlexibleFit(diffraction, placement, torsions=False).run(n_steps)
    return _with_torsions(diffraction, rigid, n_steps)


def _with_torsions(diffraction, placement, n_steps):
    if not any(pose.molecule.torsions for pose in placement.poses):
        return placement
    return FlexibleFit(diffraction, placement).run(n_steps)


def _distinct(placements, diffraction):
    """Different placements, those of lowest residual first; clashes count against them."""
    penalised = sorted(
        ((p.residual * (1 + CLASH_PENALTY * len(clashes(p, diffraction))), p) for p in placements),
        key=lambda item: item[0],
    )
    chosen: list[tuple[float, Placement]] = []
    amplitudes: list[np.ndarray] = []
    for value, placement in penalised:
        f_calc = np.abs(diffraction.f_calc(placement))
        if any(same_amplitudes(f_calc, other) for other in amplitudes):
            continue
        chosen.append((value, placement))
        amplitudes.append(f_calc)
    return [placement for _, placement in chosen]


def same_amplitudes(f_calc: np.ndarray, other: np.ndarray) -> bool:
    """True where two sets of |F_calc| are of one structure, on whatever origin each of them is.

    Parameters
    ----------
    f_calc, other : numpy.ndarray, shape (n,)
        On one scale.
    """
    return bool(np.abs(f_calc - other).sum() < SAME_AMPLITUDES * other.sum())


def clashes(placement: Placement, diffraction: Diffraction) -> list[str]:
    """Contacts between molecules that are shorter than any that exist.

    Images that coincide, atom by atom, on a special position are one molecule.
    """
    found = []
    operators = list(diffraction.space_group)
    matrices = [
        (np.array(op.r().as_double()).reshape(3, 3), np.array(op.t().as_double()))
        for op in operators
    ]
    fractional = [pose.heavy_sites @ diffraction.fractionalisation.T for pose in placement.poses]
    for a, sites_a in enumerate(fractional):
        elements_a = _heavy_elements(placement.poses[a])
        for b in range(a, len(fractional)):
            elements_b = _heavy_elements(placement.poses[b])
            limits = CLASH_MARGIN + np.array(
                [[closest_approach(e, f) + 0.45 for f in elements_b] for e in elements_a]
            )
            for number, (rotation, shift) in enumerate(matrices):
                if a == b and number == 0:
                    continue
                image = fractional[b] @ rotation.T + shift
                difference = sites_a[:, None] - image[None]
                difference -= np.rint(difference)
                distance = np.linalg.norm(difference @ diffraction.orthogonalisation.T, axis=-1)
                if a == b and (distance.min(axis=1) < COINCIDENCE).mean() > 0.5:
                    continue
                for i, j in np.argwhere(distance < limits):
                    if a < b or number:
                        found.append(
                            f"{elements_a[i]}...{elements_b[j]} {distance[i, j]:.2f} A between"
                            f" molecule {a + 1} and an image of {b + 1}"
                        )
    return found


def _heavy_elements(pose):
    return [pose.molecule.elements[i] for i in pose.molecule.heavy]


@dataclass(frozen=True, eq=False)
class UniqueAtoms:
    """The atoms of a molecule that symmetry does not give, exactly on their special positions.

    Attributes
    ----------
    sites : numpy.ndarray, shape (n, 3)
        Fractional, of all atoms of the molecule.
    representative : numpy.ndarray of int, shape (n,)
        The unique atom that stands for each.
    operators : tuple of cctbx.sgtbx.rt_mx
        What brings the representative to each atom.
    order : int
        Operators that bring the molecule onto itself, the identity included.
    """

    sites: np.ndarray
    representative: np.ndarray
    operators: tuple[sgtbx.rt_mx, ...]
    order: int


def unique_atoms(pose: Pose, diffraction: Diffraction) -> UniqueAtoms:
    """Find the symmetry that brings a molecule onto itself, and put it there exactly.

    Parameters
    ----------
    pose : Pose
    diffraction : Diffraction
        For its cell and space group.
    """
    sites = pose.sites @ diffraction.fractionalisation.T
    n = len(sites)
    elements = np.array(pose.molecule.elements)
    different = elements[:, None] != elements[None]
    heavy = pose.molecule.heavy
    total = sites.copy()
    representative, operators = np.arange(n), [sgtbx.rt_mx()] * n
    order = 1
    for operator in list(diffraction.space_group)[1:]:
        rotation = np.array(operator.r().as_double()).reshape(3, 3)
        image = sites @ rotation.T + np.array(operator.t().as_double())
        lattice = np.rint(sites[heavy].mean(axis=0) - image[heavy].mean(axis=0)).astype(int)
        distance = np.linalg.norm(
            (sites[None] - (image + lattice)[:, None]) @ diffraction.orthogonalisation.T, axis=-1
        )
        _, partners = linear_sum_assignment(distance**2 + 1e3 * different)
        if distance[heavy, partners[heavy]].max() > 2 * COINCIDENCE:
            continue
        moved = sgtbx.rt_mx(
            operator.r(),
            operator.t().plus(
                sgtbx.tr_vec(
                    tuple(int(x) * operator.t().den() for x in lattice), operator.t().den()
                )
            ),
        )
        order += 1
        total[partners] += image + lattice
        for i, j in enumerate(partners):
            if i < representative[j]:
                representative[j], operators[j] = i, moved
    return UniqueAtoms(total / order, representative, tuple(operators), order)
