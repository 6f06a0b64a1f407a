"""Where a rigid conformer may lie: every orientation, and all positions of each by one FFT.

With phases, the overlap of the map with the turned molecule is a single Fourier sum over position.
Without, the fast translation function correlates |F| (Navaza & Vernoslova, Acta Cryst. A51, 445,
1995, as in cctbx), and takes what is already placed into account. Orientations are even: super-
Fibonacci spirals (Alexa, CVPR 2022, 8291).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft
from scipy.spatial.transform import Rotation

# cctbx
from cctbx import maptbx, miller, translation_search
from cctbx.array_family import flex

from phai_cctbx.building.molecule import Molecule
from phai_cctbx.building.molecule_pose import U_START, Diffraction

PSI = 1.533751168755204288118041
"""The second constant of the spirals, psi^4 = psi + 4 (Alexa, 2022); the first is sqrt(2)."""

STEP_PER_RADIUS = 0.3
"""Angle between orientations (radians) times the radius of the molecule, over d_min."""

N_ROTATIONS_MIN, N_ROTATIONS_MAX = 300, 12000

GRID_POINTS_PER_D_MIN = 2.5
"""Grid of positions; maxima between grid points are reached by the local fit."""

SPECIAL_DISTANCE = 0.6
"""A point nearer than this (A) to an image of itself is on a special position."""

BATCH_BYTES = 6e7
"""Memory of the orientations that are transformed together."""


@dataclass(frozen=True)
class Candidate:
    """A rigid conformer at a place.

    Attributes
    ----------
    value : float
        What the search ranks by.
    conformer : int
    rotation : numpy.ndarray, shape (3, 3)
    shift : numpy.ndarray, shape (3,)
        Fractional, of the centre of the non-hydrogen atoms.
    """

    value: float
    conformer: int
    rotation: np.ndarray
    shift: np.ndarray

    def sites(self, molecule: Molecule, diffraction: Diffraction) -> np.ndarray:
        """Cartesian sites of all atoms in the cell, A."""
        turned = molecule.conformers[self.conformer] @ self.rotation.T
        return turned + diffraction.orthogonalisation @ self.shift


def even_rotations(n: int) -> np.ndarray:
    """Rotation matrices spread evenly over all orientations, shape (n, 3, 3)."""
    i = np.arange(n) + 0.5
    r, s = np.sqrt(i / n), np.sqrt(1 - i / n)
    alpha, beta = 2 * np.pi * i / np.sqrt(2), 2 * np.pi * i / PSI
    quaternions = np.stack(
        [r * np.sin(alpha), r * np.cos(alpha), s * np.sin(beta), s * np.cos(beta)], axis=1
    )
    return Rotation.from_quat(quaternions).as_matrix()


def number_of_rotations(radius: float, d_min: float) -> int:
    """Orientations whose mean spacing moves atoms at `radius` by a fraction of `d_min`.

    The share of rotations within an angle a of one is (a - sin a) / pi, about a^3 / (6 pi).
    """
    angle = STEP_PER_RADIUS * d_min / max(radius, 0.5)
    return int(np.clip(6 * np.pi / angle**3, N_ROTATIONS_MIN, N_ROTATIONS_MAX))


def phased_search(
    diffraction: Diffraction,
    molecule: Molecule,
    phase_sets,
    n_rotations: int,
    n_kept: int,
) -> list[list[Candidate]]:
    """The places where a molecule overlaps most with maps.

    Parameters
    ----------
    diffraction : Diffraction
    molecule : Molecule
    phase_sets : sequence of (cctbx.miller.array, numpy.ndarray)
        Complex structure factors, all with the indices of `diffraction`, and their weights.
    n_rotations : int
        Orientations of each conformer.
    n_kept : int

    Returns
    -------
    list of lists of Candidate, one for each phase set, best first
        Values are correlations of map and molecule in units of their spread over orientations.
    """
    expanded = [_half_sphere(f, weights) for f, weights in phase_sets]
    if not expanded:
        return []
    indices = expanded[0][0]
    targets = np.array([coefficients for _, coefficients in expanded])
    stol_sq = np.array([diffraction.unit_cell.stol_sq(tuple(int(x) for x in h)) for h in indices])
    factors = _interpolated_factors(diffraction, stol_sq)
    d_min = 1 / (2 * np.sqrt(stol_sq.max()))
    shape = _grid(diffraction.unit_cell, d_min)
    wrapped = np.rint(indices).astype(int) % shape
    half = shape[2] // 2 + 1
    # The last axis keeps l >= 0 alone: of each Friedel pair the mate that lies there.
    flip = wrapped[:, 2] >= half
    wrapped[flip] = (-np.rint(indices[flip]).astype(int)) % shape
    flat = np.ravel_multi_index(wrapped.T, (shape[0], shape[1], half))
    on_edge = (wrapped[:, 2] == 0) | (2 * wrapped[:, 2] == shape[2])
    mate = (-np.rint(indices).astype(int)) % shape
    mate[flip] = np.rint(indices[flip]).astype(int) % shape
    edge_flat = np.ravel_multi_index(mate[on_edge].T, (shape[0], shape[1], half))
    heavy = molecule.heavy
    symbols = [molecule.elements[i] for i in heavy]
    atom_factors = np.array([factors[e] for e in symbols])
    rotations = even_rotations(n_rotations)
    to_fractional = diffraction.fractionalisation
    found: list[list[tuple]] = [[] for _ in expanded]
    batch = max(1, int(BATCH_BYTES / (8 * max(len(indices) * len(heavy), shape.prod()))))
    for number, conformer in enumerate(molecule.conformers):
        for begin in range(0, n_rotations, batch):
            turned = rotations[begin : begin + batch]
            sites = np.einsum("fc,rcd,ad->raf", to_fractional, turned, conformer[heavy])
            cycles = sites.reshape(-1, 3) @ indices.T
            cycles -= np.rint(cycles)
            angles = (2 * np.pi * cycles).astype(np.float32).reshape(len(turned), len(heavy), -1)
            transform = np.einsum("rah,ah->rh", np.cos(angles), atom_factors) + 1j * np.einsum(
                "rah,ah->rh", np.sin(angles), atom_factors
            )
            size = np.sqrt((np.abs(transform) ** 2).sum(axis=1))
            for k, target in enumerate(targets):
                # Sum over h of conj(target) transform exp(2 pi i h t); irfftn sums exp(+).
                terms = (target.conj() * transform / size[:, None]).astype(np.complex64)
                terms[:, flip] = terms[:, flip].conj()
                box = np.zeros((len(turned), shape[0] * shape[1] * half), dtype=np.complex64)
                box[:, flat] = terms
                box[:, edge_flat] = terms[:, on_edge].conj()
                maps = fft.irfftn(
                    box.reshape(-1, shape[0], shape[1], half), s=tuple(shape), axes=(1, 2, 3)
                ).reshape(len(turned), -1)
                best = maps.argmax(axis=1)
                values = maps[np.arange(len(turned)), best]
                found[k] += [
                    (float(v), number, begin + j, int(p))
                    for j, (v, p) in enumerate(zip(values, best, strict=True))
                ]
    return [_ranked(entries, rotations, shape, n_kept) for entries in found]


def amplitude_search(
    diffraction: Diffraction,
    f_obs: miller.array,
    molecule: Molecule,
    n_rotations: int,
    n_kept: int,
    f_part: np.ndarray | None = None,
    weight: float = 1.0,
    seed: int = 0,
    special: bool = False,
) -> list[Candidate]:
    """The places of a molecule that explain |F| best, with what is already placed.

    Parameters
    ----------
    diffraction : Diffraction
        Of the reflections of `f_obs`.
    f_obs : cctbx.miller.array
        Amplitudes.
    molecule : Molecule
    n_rotations : int
        Orientations of each conformer.
    n_kept : int
    f_part : numpy.ndarray of complex, optional
        Structure factors of what is already placed.
    weight : float
        Occupancy.
    seed : int
        Turns the set of orientations.
    special : bool
        Only positions where symmetry repeats a molecule of this occupancy on itself: 1/2 on a
        centre of inversion, an axis or a mirror plane.

    Returns
    -------
    list of Candidate
        Best first; values are correlations of intensities.
    """
    p1 = f_obs.expand_to_p1()
    indices = p1.indices().as_vec3_double().as_numpy_array()
    stol_sq = p1.sin_theta_over_lambda_sq().data().as_numpy_array()
    factors = _interpolated_factors(diffraction, stol_sq)
    spread = np.interp(stol_sq, *_sorted(diffraction.stol_sq, diffraction.damping(U_START)))
    heavy = molecule.heavy
    atom_factors = weight * np.array([factors[molecule.elements[i]] for i in heavy]) * spread
    part = flex.complex_double()
    if f_part is not None:
        part = flex.complex_double(np.ascontiguousarray(f_part))
    flags = translation_search.symmetry_flags(
        is_isotropic_search_model=False, have_f_part=f_part is not None
    )
    gridding = maptbx.crystal_gridding(
        unit_cell=f_obs.unit_cell(),
        d_min=f_obs.d_min(),
        resolution_factor=1 / GRID_POINTS_PER_D_MIN,
        symmetry_flags=flags,
        space_group_info=f_obs.space_group_info(),
    ).n_real()
    allowed = None
    if special:
        points = special_points(diffraction, gridding, round(1 / weight))
        if not len(points):
            return []
        allowed = flex.size_t(points)
    turn = Rotation.random(random_state=seed).as_matrix()
    rotations = turn @ even_rotations(n_rotations)
    found = []
    for number, conformer in enumerate(molecule.conformers):
        for j, rotation in enumerate(rotations):
            sites = conformer[heavy] @ rotation.T @ diffraction.fractionalisation.T
            cycles = sites @ indices.T
            cycles -= np.rint(cycles)
            angles = (2 * np.pi * cycles).astype(np.float32)
            transform = np.empty(len(indices), dtype=complex)
            transform.real = (np.cos(angles) * atom_factors).sum(axis=0)
            transform.imag = (np.sin(angles) * atom_factors).sum(axis=0)
            correlation = translation_search.fast_nv1995(
                gridding=gridding,
                space_group=f_obs.space_group(),
                anomalous_flag=False,
                miller_indices_f_obs=f_obs.indices(),
                f_obs=f_obs.data(),
                f_part=part,
                miller_indices_p1_f_calc=p1.indices(),
                p1_f_calc=flex.complex_double(transform),
            ).target_map()
            values = correlation.as_1d()
            if allowed is None:
                best = flex.max_index(values)
            else:
                best = allowed[flex.max_index(values.select(allowed))]
            found.append((values[best], number, j, best))
    return _ranked(found, rotations, np.array(gridding), n_kept)


def special_points(diffraction: Diffraction, gridding, order: int) -> np.ndarray:
    """Numbers of the grid points that at least `order` operators leave in their place.

    They may be off by `SPECIAL_DISTANCE`, so that a coarse grid misses no special position.

    Parameters
    ----------
    diffraction : Diffraction
        For its cell and space group.
    gridding : sequence of 3 int
    order : int
        Operators, the identity included.
    """
    points = np.indices(gridding).reshape(3, -1).T / np.array(gridding)
    n_fixed = np.zeros(len(points), dtype=int)
    for operator in diffraction.space_group:
        rotation = np.array(operator.r().as_double()).reshape(3, 3)
        moved = points @ rotation.T + np.array(operator.t().as_double()) - points
        moved -= np.rint(moved)
        distance = np.linalg.norm(moved @ diffraction.orthogonalisation.T, axis=1)
        n_fixed += distance < SPECIAL_DISTANCE
    return np.flatnonzero(n_fixed >= order)


def _ranked(found, rotations, shape, n_kept):
    found = sorted(found, reverse=True)[:n_kept]
    return [
        Candidate(value, conformer, rotations[j], np.array(np.unravel_index(p, shape)) / shape)
        for value, conformer, j, p in found
    ]


def _half_sphere(f_phased, weights):
    """Indices and weighted structure factors in P1, one of each Friedel pair."""
    weighted = f_phased.customized_copy(
        data=f_phased.data() * flex.double(np.ascontiguousarray(weights, dtype=float)),
        sigmas=None,
    ).expand_to_p1()
    return (
        weighted.indices().as_vec3_double().as_numpy_array(),
        weighted.data().as_numpy_array(),
    )


def _grid(unit_cell, d_min) -> np.ndarray:
    limits = unit_cell.max_miller_indices(d_min)
    lengths = np.array(unit_cell.parameters()[:3])
    wanted = np.maximum(GRID_POINTS_PER_D_MIN * lengths / d_min, 2 * np.array(limits) + 1)
    return np.array([fft.next_fast_len(int(np.ceil(n)), real=True) for n in wanted])


def _sorted(x, y):
    order = np.argsort(x)
    return x[order], y[order]


def _interpolated_factors(diffraction, stol_sq):
    """Form factors at any reflection within the sphere of the data."""
    result = {}
    for element, values in diffraction.factors.items():
        result[element] = np.interp(stol_sq, *_sorted(diffraction.stol_sq, values))
    return result
