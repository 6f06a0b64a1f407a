"""Molecules in a crystal: position, orientation and torsions as parameters, fitted to amplitudes.

Structure factors and their gradients are analytic. The target is least squares on |F|, or on
complex structure factors where phases are known, with one scale and one displacement parameter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize

# cctbx
from cctbx import miller, xray

from phai_cctbx.building.molecule import Molecule, rotation_matrix, turn

FORM_FACTOR_TABLES = {"xray": "it1992", "electron": "electron", "neutron": "neutron"}

U_START = 0.04
"""Displacement parameter (A^2) of a molecule that has not been refined."""

U_MIN, U_MAX = 0.002, 0.25

N_STEPS = 60
"""Steps of a local fit: it converges to a few hundredths of an angstrom."""


@dataclass(frozen=True, eq=False)
class Pose:
    """One copy of a molecule in the crystal.

    Attributes
    ----------
    molecule : Molecule
    sites : numpy.ndarray, shape (n, 3)
        Cartesian coordinates in the cell, A.
    """

    molecule: Molecule
    sites: np.ndarray

    @property
    def heavy_sites(self) -> np.ndarray:
        """Sites of the atoms other than hydrogen."""
        return self.sites[self.molecule.heavy]


@dataclass(frozen=True, eq=False)
class Placement:
    """All copies of all molecules of the asymmetric unit.

    Attributes
    ----------
    poses : tuple of Pose
    weights : tuple of float
        Occupancy of each pose: below 1 where a molecule lies on a special position.
    u_iso : float
        A^2.
    score : float
        Correlation of |F_obs| and |F_calc|.
    residual : float
        sum (|F_obs| - k |F_calc|)^2 / sum |F_obs|^2.
    r1 : float
        sum ||F_obs| - k |F_calc|| / sum |F_obs|.
    origin : str
        How it was found.
    """

    poses: tuple[Pose, ...]
    weights: tuple[float, ...]
    u_iso: float
    score: float = 0.0
    residual: float = 1.0
    r1: float = 1.0
    origin: str = ""


class Diffraction:
    """Observed amplitudes, and what atoms contribute to them.

    Parameters
    ----------
    f_obs : cctbx.miller.array
        Amplitudes of unique reflections, non-anomalous.
    elements : iterable of str
        Every element that will occur.
    radiation : {"xray", "electron", "neutron"}
    f_phased : cctbx.miller.array, optional
        Complex structure factors with the indices of `f_obs`: the fit is then to phases as well.
    confidence : cctbx.miller.array, optional
        Expected cosines of their phase errors, their weights.
    """

    def __init__(self, f_obs, elements, radiation="xray", f_phased=None, confidence=None):
        group = f_obs.space_group()
        self.unit_cell = f_obs.unit_cell()
        self.space_group = group
        self.orthogonalisation = np.array(self.unit_cell.orthogonalization_matrix()).reshape(3, 3)
        self.fractionalisation = np.linalg.inv(self.orthogonalisation)
        self.indices = f_obs.indices().as_vec3_double().as_numpy_array()
        self.amplitudes = np.abs(f_obs.data().as_numpy_array())
        self.stol_sq = f_obs.sin_theta_over_lambda_sq().data().as_numpy_array()
        operators = [group(0, 0, i) for i in range(group.n_smx())]
        rotations = [np.array(op.r().as_double()).reshape(3, 3) for op in operators]
        shifts = [np.array(op.t().as_double()) for op in operators]
        self.rotated = np.concatenate([self.indices @ r for r in rotations])
        self.shifts = np.concatenate(
            [np.exp(2j * np.pi * (self.indices @ t)) for t in shifts]
        ).astype(np.complex64)
        self.inversion = None
        if group.is_centric():
            centre = np.array(group(0, 1, 0).t().as_double())
            self.inversion = np.exp(2j * np.pi * (self.indices @ centre))
        self.n_operators = len(operators)
        self.factors = _form_factors(f_obs, sorted(set(elements)), radiation)
        self.fixed = np.zeros(len(self.indices), dtype=complex)
        self.phased = None
        if f_phased is not None:
            self.phased = f_phased.data().as_numpy_array()
            self.confidence = (
                np.ones(len(self.phased))
                if confidence is None
                else np.clip(confidence.data().as_numpy_array(), 0, 1)
            )

    @property
    def n_reflections(self) -> int:
        """Unique reflections."""
        return len(self.indices)

    def select(self, chosen: np.ndarray) -> Diffraction:
        """The same with some of the reflections alone.

        Parameters
        ----------
        chosen : numpy.ndarray of bool or int
        """
        other = object.__new__(Diffraction)
        other.__dict__.update(self.__dict__)
        n = self.n_reflections
        kept = np.arange(n)[chosen]
        blocks = (np.arange(self.n_operators)[:, None] * n + kept).ravel()
        for name in ("indices", "amplitudes", "stol_sq", "fixed", "inversion", "phased"):
            value = getattr(self, name)
            setattr(other, name, None if value is None else value[kept])
        if self.phased is not None:
            other.confidence = self.confidence[kept]
        other.rotated, other.shifts = self.rotated[blocks], self.shifts[blocks]
        other.factors = {element: f[kept] for element, f in self.factors.items()}
        return other

    def contribution(self, elements: Sequence[str], weights: np.ndarray, sites: np.ndarray):
        """Structure factors at U = 0 of atoms and their images, and a function for gradients.

        Parameters
        ----------
        elements : sequence of str
        weights : numpy.ndarray, shape (n,)
            Occupancies.
        sites : numpy.ndarray, shape (n, 3)
            Cartesian, A.

        Returns
        -------
        f_calc : numpy.ndarray of complex, shape (n_reflections,)
        gradient : callable
            Of g with dE = Re sum conj(g) dF; returns dE/dsites, shape (n, 3).
        """
        return self.summed(self.atom_factors(elements, weights), sites)

    def atom_factors(self, elements: Sequence[str], weights: np.ndarray) -> np.ndarray:
        """Form factors times occupancies, shape (n_reflections, n atoms)."""
        table = {element: f.astype(np.float32) for element, f in self.factors.items()}
        return np.array([table[e] for e in elements]).T * np.asarray(weights, dtype=np.float32)

    def summed(self, factors: np.ndarray, sites: np.ndarray):
        """What `contribution` returns, of atoms whose factors `atom_factors` gave."""
        cycles = self.rotated @ (sites @ self.fractionalisation.T).T
        cycles -= np.rint(cycles)
        angles = (2 * np.pi * cycles).astype(np.float32)
        waves = np.empty(angles.shape, dtype=np.complex64)
        np.cos(angles, out=waves.real)
        np.sin(angles, out=waves.imag)
        waves *= self.shifts[:, None]
        waves = waves.reshape(self.n_operators, self.n_reflections, -1)
        half = (waves.sum(axis=0) * factors).sum(axis=1, dtype=complex)
        f_calc = half if self.inversion is None else half + self.inversion * half.conj()

        def gradient(g):
            if self.inversion is not None:
                g = g + g.conj() * self.inversion
            g = g.astype(np.complex64)
            terms = (waves.imag * g.real[:, None] - waves.real * g.imag[:, None]) * factors
            along = -2 * np.pi * terms.reshape(-1, terms.shape[-1]).T @ self.rotated
            return along @ self.fractionalisation

        return f_calc, gradient

    def damping(self, u_iso: float) -> np.ndarray:
        """exp(-8 pi^2 U (sin theta / lambda)^2)."""
        return np.exp(-8 * np.pi**2 * u_iso * self.stol_sq)

    def f_calc(self, placement: Placement) -> np.ndarray:
        """Structure factors of a placement."""
        elements, weights, sites = atoms_of(placement)
        return self.contribution(elements, weights, sites)[0] * self.damping(placement.u_iso)

    def judged(self, placement: Placement) -> Placement:
        """The placement with its figures of merit on these reflections."""
        f_calc = np.abs(self.f_calc(placement))
        return replace(placement, **agreement(self.amplitudes, f_calc))


def agreement(f_obs: np.ndarray, f_calc: np.ndarray) -> dict[str, float]:
    """`score`, `residual` and `r1` of a `Placement`, from amplitudes."""
    scale = (f_obs @ f_calc) / max(f_calc @ f_calc, 1e-30)
    difference = f_obs - scale * f_calc
    return {
        "score": float(np.corrcoef(f_obs, f_calc)[0, 1]) if len(f_obs) > 2 else 0.0,
        "residual": float(difference @ difference / (f_obs @ f_obs)),
        "r1": float(np.abs(difference).sum() / f_obs.sum()),
    }


def atoms_of(placement: Placement):
    """Elements, occupancies and Cartesian sites of all atoms of a placement."""
    elements = [e for pose in placement.poses for e in pose.molecule.elements]
    weights = np.concatenate(
        [
            np.full(len(pose.sites), weight)
            for pose, weight in zip(placement.poses, placement.weights, strict=True)
        ]
    )
    return elements, weights, np.concatenate([pose.sites for pose in placement.poses])


def _form_factors(f_obs: miller.array, elements, radiation) -> dict[str, np.ndarray]:
    structure = xray.structure(crystal_symmetry=f_obs.crystal_symmetry())
    for element in elements:
        structure.add_scatterer(xray.scatterer(element, scattering_type=element))
    registry = structure.scattering_type_registry(table=FORM_FACTOR_TABLES[radiation])
    stol_sq = f_obs.sin_theta_over_lambda_sq().data()
    return {
        element: np.array([registry.gaussian(element).at_stol_sq(x) for x in stol_sq])
        for element in elements
    }


class FlexibleFit:
    """Least squares on the parameters of poses: rotation, translation and torsions of each.

    Parameters
    ----------
    diffraction : Diffraction
    placement : Placement
        The start.
    torsions, hydrogen_torsions : bool
        Whether rotatable bonds turn; of non-hydrogen atoms, of hydrogens alone.
    movable : iterable of int, optional
        Poses that move, all by default.
    """

    def __init__(
        self, diffraction, placement, torsions=True, hydrogen_torsions=False, movable=None
    ):
        self.diffraction = diffraction
        self.start = placement
        self.movable = list(range(len(placement.poses)) if movable is None else movable)
        self.turning = [
            (pose.molecule.torsions if torsions else ())
            + (pose.molecule.hydrogen_torsions if hydrogen_torsions else ())
            for pose in placement.poses
        ]
        elements, weights, _ = atoms_of(placement)
        self.factors = diffraction.atom_factors(elements, weights)
        # Which atoms each torsion moves, as rows of ones: sums over them are one product.
        self.moves = []
        for pose, turning in zip(placement.poses, self.turning, strict=True):
            rows = np.zeros((len(turning), len(pose.sites)))
            for row, torsion in zip(rows, turning, strict=True):
                row[list(torsion.moving)] = 1.0
            self.moves.append(rows)

    @property
    def n_parameters(self) -> int:
        """Of all poses that move, scale and U included."""
        return sum(6 + len(self.turning[i]) for i in self.movable) + 2

    def _parts(self, parameters):
        position = 0
        for i in self.movable:
            size = 6 + len(self.turning[i])
            yield i, slice(position, position + size)
            position += size

    def _moved(self, parameters):
        """Sites of every pose, and how they turn."""
        sites = [pose.sites for pose in self.start.poses]
        chains = {}
        for i, part in self._parts(parameters):
            pose = self.start.poses[i]
            values = parameters[part]
            coordinates = pose.sites.copy()
            for torsion, angle in zip(self.turning[i], values[6:], strict=True):
                if angle:
                    turn(coordinates, torsion, angle)
            centre = pose.heavy_sites.mean(axis=0)
            turned = (coordinates - centre) @ rotation_matrix(values[:3]).T
            chains[i] = centre + values[3:6]
            sites[i] = turned + chains[i]
        return sites, chains

    def value_and_gradient(self, parameters: np.ndarray):
        """The target and its gradient.

        Parameters
        ----------
        parameters : numpy.ndarray
            For each pose that moves: rotation vector (radians), shift (A), torsions (radians);
            last U_iso (A^2, times 10).
        """
        diffraction = self.diffraction
        u_iso = parameters[-1] / 10
        sites, chains = self._moved(parameters)
        f_atoms, site_gradient = diffraction.summed(self.factors, np.concatenate(sites))
        damping = diffraction.damping(u_iso)
        f_calc = diffraction.fixed + f_atoms * damping
        value, g = _target(diffraction, f_calc)
        on_sites = site_gradient(g * damping)
        result = np.zeros_like(parameters)
        begins = np.cumsum([0, *(len(s) for s in sites)])
        for i, part in self._parts(parameters):
            own = on_sites[begins[i] : begins[i + 1]]
            values = parameters[part]
            arms = sites[i] - chains[i]
            torques = cross(arms, own)
            gradient = np.empty(len(values))
            gradient[:3] = left_jacobian(values[:3]).T @ torques.sum(axis=0)
            gradient[3:6] = own.sum(axis=0)
            if self.turning[i]:
                begin, end = np.array([torsion.axis for torsion in self.turning[i]]).T
                axes = arms[end] - arms[begin]
                axes /= np.linalg.norm(axes, axis=1)[:, None]
                about_begin = self.moves[i] @ torques - cross(arms[begin], self.moves[i] @ own)
                gradient[6:] = (axes * about_begin).sum(axis=1)
            result[part] = gradient
        derivative_u = -8 * np.pi**2 * diffraction.stol_sq * f_atoms * damping
        result[-1] = np.real(np.conj(g) @ derivative_u) / 10
        return value, result

    def placement(self, parameters) -> Placement:
        """The placement that the parameters describe, judged."""
        sites, _ = self._moved(parameters)
        poses = tuple(
            replace(pose, sites=moved) for pose, moved in zip(self.start.poses, sites, strict=True)
        )
        moved = replace(self.start, poses=poses, u_iso=float(parameters[-1] / 10))
        return self.diffraction.judged(moved)

    def run(self, n_steps: int = N_STEPS) -> Placement:
        """The local minimum nearest to the start."""
        start = np.zeros(self.n_parameters - 1)
        start[-1] = 10 * self.start.u_iso
        bounds = [(None, None)] * (len(start) - 1) + [(10 * U_MIN, 10 * U_MAX)]
        found = minimize(
            self.value_and_gradient,
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxiter": n_steps, "ftol": 1e-6, "maxls": 10},
        )
        return self.placement(found.x)


def _target(diffraction, f_calc):
    """Least-squares residual and g with dE = Re sum conj(g) dF."""
    f_obs = diffraction.amplitudes
    if diffraction.phased is not None:
        weights, observed = diffraction.confidence, diffraction.phased
        norm = weights @ f_obs**2
        scale = (weights * observed.conj() * f_calc).real.sum() / max(
            weights @ np.abs(f_calc) ** 2, 1e-30
        )
        scale = max(scale, 0.0)
        difference = observed - scale * f_calc
        return float(weights @ np.abs(difference) ** 2 / norm), (
            -2 * scale * weights * difference / norm
        )
    modulus = np.abs(f_calc)
    norm = f_obs @ f_obs
    scale = (f_obs @ modulus) / max(modulus @ modulus, 1e-30)
    difference = f_obs - scale * modulus
    g = -2 * scale * difference * f_calc / np.maximum(modulus, 1e-12) / norm
    return float(difference @ difference / norm), g


def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cross products of rows; `numpy.cross` takes longer to look at its arguments than this does.

    Parameters
    ----------
    a, b : numpy.ndarray, shape (n, 3)
    """
    product = np.empty_like(a)
    product[:, 0] = a[:, 1] * b[:, 2] - a[:, 2] * b[:, 1]
    product[:, 1] = a[:, 2] * b[:, 0] - a[:, 0] * b[:, 2]
    product[:, 2] = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    return product


def left_jacobian(vector: np.ndarray) -> np.ndarray:
    """How the rotation of a rotation vector turns as the vector changes; shape (3, 3).

    J = sin(a)/a I + (1 - sin(a)/a) n n^T + (1 - cos(a))/a [n]x, a the angle and n the axis
    (Chirikjian, Stochastic Models, Information Theory, and Lie Groups, vol. 2, 2011).
    """
    angle = np.linalg.norm(vector)
    if angle < 1e-8:
        return np.eye(3)
    n = vector / angle
    cross = np.array([[0, -n[2], n[1]], [n[2], 0, -n[0]], [-n[1], n[0], 0]])
    s, c = np.sin(angle) / angle, (1 - np.cos(angle)) / angle
    return s * np.eye(3) + (1 - s) * np.outer(n, n) + c * cross
