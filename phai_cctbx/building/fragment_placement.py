"""Rigid fragments placed in a phased map, against the same search in maps without a structure.

Every fragment is tried in every orientation at every position (`molecule_search`), fitted to the
phased structure factors and ranked by its local map correlation. The same search in the inverted
map and in maps with random phases says how high the correlation becomes by chance. Fragments that
claim the same atoms compete by their likelihoods.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace

import numpy as np

# cctbx
from cctbx import miller
from cctbx.array_family import flex

from phai_cctbx.building.molecule import Molecule
from phai_cctbx.building.molecule_pose import (
    U_START,
    Diffraction,
    FlexibleFit,
    Placement,
    Pose,
)
from phai_cctbx.building.molecule_search import number_of_rotations, phased_search
from phai_cctbx.building.peaks import find_peaks

logger = logging.getLogger(__name__)

N_RANDOM_MAPS = 5
"""Maps with random phases beside the inverted one."""

N_FOUND = 600
"""Overlaps kept of a search: symmetry and that of the fragment repeat each place many times."""

N_PLACES, N_CONTROL_PLACES = 12, 2
"""Different places that are fitted, in the map and in each control."""

N_STEPS = 15
"""Steps of a fit."""

SAME_PLACE = 0.9
"""Candidates whose atoms are all nearer (A) to atoms of another end in one place when fitted."""

SAME_SITE = 0.5
"""Atoms of two fragments nearer than this (A) are at one site."""

OVERLAP = 1.0
"""Atoms of two fragments nearer than this (A) are claims to one atom: no bond is so short."""

RIVAL_SHARE = 0.5
"""Share of the atoms of a fragment that another has to claim to be a rival for its place."""

RADIUS, N_POINTS = 1.1, 24
"""Radius (A) of the sphere about each atom in which densities are compared, and points in it."""

PEAK_ELEMENT = "C"
"""What the peaks around a fragment count as."""

MIN_SIGNIFICANCE = 3.0
"""Standard deviations of the best correlations of the controls by which one has to exceed their
mean, after Fisher's transformation."""

MIN_SPREAD = 0.08
"""Least spread of what chance gives: a few controls do not determine a smaller one."""

MIN_GAP = 3.0
"""log-likelihood (odds of 20 to 1) above every other fragment that claims the same atoms."""

MIN_CORRELATION = 0.8
"""Local map correlation of a fragment that is taken."""

PART, ELEMENTS, ARRANGEMENT = "part", "elements", "arrangement"
"""How two fragments that overlap differ: not at all but in size, in the elements on the same sites,
or in where the atoms are."""


@dataclass(frozen=True, eq=False)
class PlacedFragment:
    """A fragment at a place of the map.

    Attributes
    ----------
    name : str
    placement : Placement
    correlation : float
        Of map and fragment within `RADIUS` of its atoms.
    significance : float
        Standard deviations above the controls (`MIN_SIGNIFICANCE`).
    gain : float
        log-likelihood above a fragment that correlates as the controls do.
    gap : float
        log-likelihood above the next fragment that claims the same atoms and is another; inf
        without one.
    rivals : tuple of str
        Fragments with other elements on the same sites that are as likely within `MIN_GAP`.
    """

    name: str
    placement: Placement
    correlation: float
    significance: float
    gain: float
    gap: float = float("inf")
    rivals: tuple[str, ...] = ()

    @property
    def sites(self) -> np.ndarray:
        """Cartesian, A, shape (n, 3)."""
        return self.placement.poses[0].sites

    @property
    def elements(self) -> tuple[str, ...]:
        """Of its atoms."""
        return self.placement.poses[0].molecule.elements


class PhasedMap:
    """A map, the structure factors it is made of, and how well atoms agree with it.

    Parameters
    ----------
    f_phased : cctbx.miller.array
        Complex structure factors of unique reflections.
    confidence : cctbx.miller.array
        Expected cosines of their phase errors.
    elements : iterable of str
    n_atoms : int
        Of the asymmetric unit: as many peaks stand for what is not a fragment.
    radiation : {"xray", "electron", "neutron"}
    """

    def __init__(self, f_phased, confidence, elements, n_atoms, radiation="xray"):
        self.f_phased = f_phased
        elements = {*elements, PEAK_ELEMENT}
        self.diffraction = Diffraction(abs(f_phased), elements, radiation, f_phased, confidence)
        group = f_phased.space_group()
        self.operators = [
            (np.array(op.r().as_double()).reshape(3, 3), np.array(op.t().as_double()))
            for op in group
        ]
        self.multiplicity = group.multiplicity(f_phased.indices(), False).as_numpy_array()
        weighted = f_phased.customized_copy(data=f_phased.data() * confidence.data(), sigmas=None)
        peaks = np.array(find_peaks(weighted, n_atoms).sites).reshape(-1, 3)
        self.peaks = peaks @ self.diffraction.orthogonalisation.T
        damping = self.diffraction.damping(U_START)
        self.peak_factors = np.array(
            [
                self.diffraction.contribution([PEAK_ELEMENT], np.ones(1), peak[None])[0] * damping
                for peak in self.peaks
            ]
        ).reshape(len(self.peaks), -1)

    @property
    def coefficients(self) -> np.ndarray:
        """Structure factors times confidence."""
        return self.diffraction.phased * self.diffraction.confidence

    def densities(self, coefficients: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Fourier syntheses at Cartesian points, on an arbitrary common scale.

        Parameters
        ----------
        coefficients : numpy.ndarray of complex, shape (reflections, k)
        points : numpy.ndarray, shape (n, 3)

        Returns
        -------
        numpy.ndarray, shape (k, n)
        """
        fractional = points @ self.diffraction.fractionalisation.T
        total = np.zeros((len(points), coefficients.shape[1]))
        primitive = self.operators[: self.f_phased.space_group().order_p()]
        for rotation, shift in primitive:
            cycles = (fractional @ rotation.T + shift) @ self.diffraction.indices.T
            angles = (2 * np.pi * (cycles - np.rint(cycles))).astype(np.float32)
            total += np.cos(angles) @ (coefficients.real * self.multiplicity[:, None])
            total += np.sin(angles) @ (coefficients.imag * self.multiplicity[:, None])
        return total.T

    def rest(self, sites: np.ndarray) -> np.ndarray:
        """Structure factors of the peaks that are no atoms at these Cartesian sites."""
        if not len(self.peaks):
            return np.zeros(self.diffraction.n_reflections, dtype=complex)
        free = self.distances(sites, self.peaks).min(axis=0) > OVERLAP
        return self.peak_factors[free].sum(axis=0)

    def fitted(self, start: Placement) -> Placement:
        """A fragment moved to where it, with the peaks around it, agrees best with the map."""
        diffraction = copy(self.diffraction)
        diffraction.fixed = self.rest(start.poses[0].sites)
        return FlexibleFit(diffraction, start).run(N_STEPS)

    def correlations(self, placements: Sequence[Placement]) -> tuple[np.ndarray, float]:
        """Local correlations of placements, all within the spheres about all of their atoms.

        Each is the multiple correlation of the map with the density of the fragment and that of
        the peaks around it.

        Returns
        -------
        correlations : numpy.ndarray, shape (k,)
        n_places : float
            Independent places in these spheres: their volume over (d_min / 2)^3.
        """
        sites = np.concatenate([p.poses[0].sites for p in placements])
        points = (sites[:, None] + _sphere()[None]).reshape(-1, 3)
        distance = np.linalg.norm(points[:, None] - sites[None], axis=-1)
        weights = 1 / (distance < RADIUS + 1e-6).sum(axis=1)
        own = [self.diffraction.f_calc(p) for p in placements]
        rest = [self.rest(p.poses[0].sites) for p in placements]
        columns = [f * self.diffraction.confidence for f in (*own, *rest)]
        found, *expected = self.densities(np.stack([self.coefficients, *columns], axis=1), points)
        pairs = zip(expected[: len(own)], expected[len(own) :], strict=True)
        volume = weights.sum() * 4 / 3 * np.pi * RADIUS**3 / N_POINTS
        n_places = volume / (self.f_phased.d_min() / 2) ** 3
        return np.array([_correlation(found, np.array(p), weights) for p in pairs]), n_places

    def distances(self, sites: np.ndarray, others: np.ndarray, skip_identity=False) -> np.ndarray:
        """Shortest distances (A) from sites to the images of others, shape (n, m).

        Parameters
        ----------
        sites, others : numpy.ndarray, shape (n, 3) and (m, 3)
            Cartesian, A.
        skip_identity : bool
            Leave out the others themselves; their lattice translations count.
        """
        a, b = (x @ self.diffraction.fractionalisation.T for x in (sites, others))
        shortest = np.full((len(a), len(b)), np.inf)
        for number, (rotation, shift) in enumerate(self.operators):
            if number == 0 and skip_identity:
                continue
            difference = a[:, None] - (b @ rotation.T + shift)[None]
            difference -= np.rint(difference)
            length = np.linalg.norm(difference @ self.diffraction.orthogonalisation.T, axis=-1)
            shortest = np.minimum(shortest, length)
        return shortest


def place_fragments(
    f_phased: miller.array,
    confidence: miller.array,
    fragments: Sequence[tuple[str, Molecule]],
    contents: dict[str, float],
    radiation: str = "xray",
    seed: int = 0,
    progress: Callable | None = None,
) -> list[PlacedFragment]:
    """Fragments that a phased map shows, by themselves, beyond what chance gives.

    Parameters
    ----------
    f_phased, confidence : cctbx.miller.array
        Phased structure factors and the expected cosines of their phase errors.
    fragments : sequence of (str, Molecule)
        Without hydrogens.
    contents : dict of str to float
        Element -> atoms in the asymmetric unit: no more are placed.
    radiation : {"xray", "electron", "neutron"}
    seed : int
        Of the random phases.
    progress : callable, optional
        Called with (fragments done, fragments in all).

    Returns
    -------
    list of PlacedFragment
        None overlaps another; the largest gain first.
    """
    elements = {e for _, molecule in fragments for e in molecule.elements}
    n_atoms = round(sum(n for e, n in contents.items() if e not in ("H", "D")))
    phased, *controls = (
        PhasedMap(f, confidence, elements, n_atoms, radiation)
        for f in (f_phased, *control_maps(f_phased, seed))
    )
    found: list[PlacedFragment] = []
    for number, (name, molecule) in enumerate(fragments):
        if progress:
            progress(number, len(fragments))
        found += _placed(name, molecule, phased, controls)
    return _without_conflicts(found, phased, contents)


def control_maps(f_phased: miller.array, seed: int = 0) -> list[miller.array]:
    """The inverted map, and maps of the same amplitudes with random phases.

    Phases that symmetry restricts become one of the two that it allows.

    Parameters
    ----------
    f_phased : cctbx.miller.array
    seed : int
    """
    rng = np.random.default_rng(seed)
    data = f_phased.data().as_numpy_array()
    centric = f_phased.centric_flags().data().as_numpy_array()
    turned = [-data]
    for _ in range(N_RANDOM_MAPS):
        turns = rng.uniform(0, 2 * np.pi, len(data))
        turns[centric] = np.pi * rng.integers(0, 2, centric.sum())
        turned.append(data * np.exp(1j * turns))
    return [
        f_phased.customized_copy(data=flex.complex_double(np.ascontiguousarray(t)), sigmas=None)
        for t in turned
    ]


def _placed(name, molecule, phased, controls) -> list[PlacedFragment]:
    """The places of a fragment that agree with the map, and how far they stand out."""
    maps = [phased, *controls]
    n_rotations = number_of_rotations(molecule.radius, phased.f_phased.d_min())
    searched = phased_search(
        phased.diffraction,
        molecule,
        [(each.f_phased, each.diffraction.confidence) for each in maps],
        n_rotations,
        N_FOUND,
    )
    by_map = []
    for each, candidates in zip(maps, searched, strict=True):
        n_places = N_PLACES if each is phased else N_CONTROL_PLACES
        by_map.append(
            [
                (each.correlations([fitted])[0][0], fitted)
                for fitted in map(each.fitted, _places(each, molecule, candidates, n_places))
            ]
        )
    own, *others = by_map
    chance = np.arctanh([max((cc for cc, _ in each), default=0.0) for each in others])
    mean, spread = chance.mean(), max(chance.std(ddof=1), MIN_SPREAD)
    result = []
    for correlation, placement in own:
        significance = (np.arctanh(min(correlation, 0.9999)) - mean) / spread
        if correlation < MIN_CORRELATION:
            continue
        sites = placement.poses[0].sites
        if phased.distances(sites, sites, skip_identity=True).min() < OVERLAP:
            continue
        _, n_places = phased.correlations([placement])
        gain = _log_likelihood(correlation, np.tanh(mean), n_places)
        result.append(
            PlacedFragment(name, placement, float(correlation), float(significance), gain)
        )
    if own:
        logger.debug(
            "%s: correlation %.3f, by chance %.3f", name, max(c for c, _ in own), np.tanh(mean)
        )
    return result


def _places(phased, molecule, candidates, n_places) -> list[Placement]:
    """Different places among the candidates of a search, best first."""
    chosen: list[Placement] = []
    for candidate in candidates:
        sites = candidate.sites(molecule, phased.diffraction)
        if any(
            phased.distances(sites, other.poses[0].sites).min(axis=1).max() < SAME_PLACE
            for other in chosen
        ):
            continue
        chosen.append(Placement((Pose(molecule, sites),), (1.0,), U_START))
        if len(chosen) == n_places:
            break
    return chosen


def _without_conflicts(found, phased, contents) -> list[PlacedFragment]:
    """Fragments that do not overlap, each likelier than all others that claim its atoms."""
    room = dict(contents)
    taken: list[PlacedFragment] = []
    significant = [each for each in found if each.significance > MIN_SIGNIFICANCE]
    for fragment in sorted(significant, key=lambda each: -each.gain):
        if any(_overlap(phased, fragment, each) for each in taken):
            continue
        if any(fragment.elements.count(e) > room.get(e, 0) + 1e-6 for e in fragment.elements):
            continue
        gap, rivals = np.inf, []
        for other in found:
            if other is fragment or _share_claimed(phased, fragment, other) < RIVAL_SHARE:
                continue
            relation = _relation(phased, fragment, other)
            if relation == PART:
                continue
            difference = _gap(phased, fragment, other)
            if relation == ELEMENTS and abs(difference) < MIN_GAP:
                rivals.append(other.name)
            else:
                gap = min(gap, difference)
        if gap < MIN_GAP:
            continue
        for element in fragment.elements:
            room[element] -= 1
        taken.append(replace(fragment, gap=float(gap), rivals=tuple(dict.fromkeys(rivals))))
    return taken


def _relation(phased, fragment, other) -> str:
    """What another fragment that overlaps says of the same atoms."""
    distance = phased.distances(fragment.sites, other.sites)
    elements = fragment.elements, other.elements
    if len(fragment.sites) > len(other.sites):
        distance, elements = distance.T, elements[::-1]
    if distance.min(axis=1).max() > SAME_SITE:
        return ARRANGEMENT
    partners = distance.argmin(axis=1)
    same = all(elements[0][i] == elements[1][j] for i, j in enumerate(partners))
    return PART if same else ELEMENTS


def _share_claimed(phased, fragment, other) -> float:
    """Share of the atoms of a fragment that another claims as well."""
    return float((phased.distances(fragment.sites, other.sites).min(axis=1) < OVERLAP).mean())


def _overlap(phased, first, second) -> bool:
    return bool(phased.distances(first.sites, second.sites).min() < OVERLAP)


def _gap(phased, first, second) -> float:
    """log-likelihood of one fragment minus that of another, where both lie."""
    moved = _nearest_image(phased, first, second)
    (a, b), n_places = phased.correlations([first.placement, moved])
    return _log_likelihood(a, b, n_places)


def _nearest_image(phased, first, second) -> Placement:
    """The second fragment moved by the operator that brings it nearest to the first."""
    sites = second.sites @ phased.diffraction.fractionalisation.T
    own = first.sites @ phased.diffraction.fractionalisation.T
    best, shortest = None, np.inf
    for rotation, shift in phased.operators:
        image = sites @ rotation.T + shift
        difference = own[:, None] - image[None]
        lattice = np.rint(difference)
        length = np.linalg.norm(
            (difference - lattice) @ phased.diffraction.orthogonalisation.T, axis=-1
        )
        if length.min() < shortest:
            i, j = np.unravel_index(length.argmin(), length.shape)
            shortest, best = length.min(), image + lattice[i, j]
    pose = second.placement.poses[0]
    moved = replace(pose, sites=best @ phased.diffraction.orthogonalisation.T)
    return replace(second.placement, poses=(moved,))


def _log_likelihood(correlation, other, n_places) -> float:
    """n/2 ln of the ratio of what two correlations leave unexplained, of n places."""
    left, left_by_other = (1 - max(c, 0.0) ** 2 for c in (correlation, other))
    return float(0.5 * n_places * np.log(max(left_by_other, 1e-6) / max(left, 1e-6)))


def _correlation(found, parts, weights) -> float:
    """Weighted multiple correlation of a density with a fragment and its surroundings; 0 where the
    fragment would count negative."""
    root = np.sqrt(weights)
    found = root * (found - np.average(found, weights=weights))
    centred = root * (parts - np.average(parts, weights=weights, axis=1)[:, None])
    shares = np.linalg.lstsq(centred.T, found, rcond=None)[0]
    if shares[0] <= 0:
        return 0.0
    left = found - shares @ centred
    return float(np.sqrt(max(1 - (left @ left) / max(found @ found, 1e-30), 0.0)))


def _sphere() -> np.ndarray:
    """Points spread evenly in a sphere of `RADIUS`, shape (n, 3)."""
    i = np.arange(N_POINTS) + 0.5
    radius = RADIUS * (i / N_POINTS) ** (1 / 3)
    azimuth, height = np.pi * (1 + np.sqrt(5)) * i, 1 - 2 * ((i * 0.61803398875) % 1.0)
    flat = np.sqrt(1 - height**2)
    directions = np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), height], axis=1)
    return radius[:, None] * directions
