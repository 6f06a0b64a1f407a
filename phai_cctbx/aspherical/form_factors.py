"""Form factors of the scatterers of a crystal from the Hirshfeld atoms of its molecules.

f(h) = f_0(|h|) + sum over the grid of w_A (rho - rho_promolecule) exp(2 pi i h.(r - r_A)),
with f_0 the spherical proatom of the same method: the sharp cores are integrated in one
dimension, and the grid carries the deformation alone. Where an effective core potential
stands for a core, f_0 is the tabulated spherical form factor, core included.
"""

from __future__ import annotations

import numpy as np
from scipy.interpolate import CubicSpline

# cctbx
from cctbx import xray
from cctbx.array_family import flex
from cctbx.eltbx import tiny_pse, xray_scattering

from phai_cctbx.aspherical.molecules import operator_arrays, orthogonalization
from phai_cctbx.aspherical.tables import FormFactorTable, expanded_indices, site_rotations
from phai_cctbx.aspherical.worker import BOHR, RADII

N_NODES = 400
"""Points of 1/d at which the spherical form factors are integrated; a spline between them is
exact to 1e-6 e."""


def spherical_form_factor(density: np.ndarray, d_star: np.ndarray) -> np.ndarray:
    """Form factor of a spherical density, by the trapezium rule in ln r.

    f(S) = 4 pi int r^2 rho(r) sin(2 pi S r) / (2 pi S r) dr

    Parameters
    ----------
    density : numpy.ndarray
        e/bohr^3 at the worker's RADII.
    d_star : numpy.ndarray
        1/d in A^-1.

    Returns
    -------
    numpy.ndarray, e
    """
    argument = 2 * d_star[:, None] * BOHR * RADII[None, :]
    return np.trapezoid(4 * np.pi * RADII**3 * density * np.sinc(argument), np.log(RADII), axis=1)


def neutral_atom(z: int, d_star: np.ndarray) -> np.ndarray:
    """Tabulated form factor of a neutral atom, e (Waasmaier & Kirfel, 1995)."""
    gaussian = xray_scattering.wk1995(tiny_pse.table(z).symbol()).fetch()
    return np.array([gaussian.at_d_star_sq(float(s) ** 2) for s in d_star])


class IndexSet:
    """Miller indices closed under the point group, with the permutation of each rotation.

    Parameters
    ----------
    indices : flex.miller_index
        Reflections; h.R and their Friedel mates are added.
    space_group : cctbx.sgtbx.space_group
    """

    def __init__(self, indices, space_group):
        self.expanded = expanded_indices(indices, space_group)
        self.all = np.unique(np.concatenate([self.expanded, -self.expanded]), axis=0)
        self._h_max = np.abs(self.all).max(axis=0)
        self._codes = self._code(self.all)
        self.rows = np.searchsorted(self._codes, self._code(self.expanded))

    def _code(self, h):
        span = 2 * self._h_max + 1
        shifted = h + self._h_max
        return (shifted[:, 0] * span[1] + shifted[:, 1]) * span[2] + shifted[:, 2]

    def permutation(self, rotation: np.ndarray) -> np.ndarray:
        """Rows of h.R for every h of the set."""
        return np.searchsorted(self._codes, self._code(self.all @ rotation))


def deformation_form_factors(
    structure, molecules, densities, index_set, quantum, orientations=None
):
    """Aspherical parts of the form factors of all scatterers, obeying the symmetry.

    A member that an operator (R, t) brings to its place has f_member(h) = f(h.R), so each
    image gives f(h) = f_member(h.R^-1); images and site symmetry are averaged.

    Parameters
    ----------
    orientations : list of numpy.ndarray (3, 3), optional
        Rotations that bring each density from the frame it was calculated in to that of the
        crystal now; none have turned where it is not given.

    Returns
    -------
    values : numpy.ndarray, complex, (n_scatterers, n_h)
        On ``index_set.all``.
    """
    fractionalization = np.linalg.inv(orthogonalization(structure))
    n = structure.scatterers().size()
    values = np.zeros((n, len(index_set.all)), dtype=complex)
    counts = np.zeros(n)
    orientations = orientations or [np.eye(3)] * len(molecules)
    for molecule, density, turn in zip(molecules, densities, orientations, strict=True):
        transformed = quantum.transform(
            density,
            range(len(molecule.numbers)),
            fractionalization @ turn,
            index_set.all,
            f"{molecule.name()}: transform",
        )
        for row, (i, operator) in zip(transformed, molecule.members, strict=True):
            rotation, _ = operator_arrays(operator)
            back = np.round(np.linalg.inv(rotation)).astype(int)
            values[i] += row[index_set.permutation(back)]
            counts[i] += 1
    values /= np.maximum(counts, 1)[:, None]
    for i in structure.special_position_indices():
        values[i] = np.mean(
            [values[i][index_set.permutation(r)] for r in site_rotations(structure, i)], axis=0
        )
    return values


def spherical_parts(structure: xray.structure, molecules, densities, indices, quantum):
    """Spherical form factor of every scatterer at some indices, (n_scatterers, n_h)."""
    d_star_sq = np.array(
        structure.unit_cell().d_star_sq(flex.miller_index([tuple(h) for h in indices.tolist()]))
    )
    d_star = np.sqrt(d_star_sq)
    nodes = np.linspace(0, d_star.max() + 1e-6, N_NODES)
    values = np.empty((structure.scatterers().size(), len(indices)))
    curves = {}
    for molecule, density in zip(molecules, densities, strict=True):
        for atom, (i, _) in enumerate(molecule.members):
            z, core = int(molecule.numbers[atom]), int(density.n_core[atom])
            if (z, core) not in curves:
                if core:
                    curve = neutral_atom(z, d_star)
                else:
                    radial = quantum.proatom(z)["density"]
                    curve = CubicSpline(nodes, spherical_form_factor(radial, nodes))(d_star)
                curves[z, core] = curve
            values[i] = curves[z, core]
    return values


def orientation(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The rotation that brings one set of positions onto another best (Kabsch, 1976).

    Parameters
    ----------
    before, after : numpy.ndarray, (n, 3)

    Returns
    -------
    numpy.ndarray, (3, 3)
        Proper; acts on columns.
    """
    covariance = (after - after.mean(axis=0)).T @ (before - before.mean(axis=0))
    left, _, right = np.linalg.svd(covariance)
    sign = np.diag([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    return left @ sign @ right


def form_factor_table(
    structure, molecules, densities, indices, quantum, title="", orientations=None
):
    """Table of aspherical form factors of a structure for the reflections of a refinement.

    Parameters
    ----------
    structure : xray.structure
    molecules : list of Molecule
        Every kind in the crystal; each scatterer belongs to one of them.
    densities : list of MoleculeDensity
    indices : flex.miller_index
    quantum : Quantum
    orientations : list of numpy.ndarray, optional
        As in `deformation_form_factors`.

    Returns
    -------
    FormFactorTable
    """
    index_set = IndexSet(indices, structure.space_group())
    values = deformation_form_factors(
        structure, molecules, densities, index_set, quantum, orientations
    )
    values = values[:, index_set.rows] + spherical_parts(
        structure, molecules, densities, index_set.expanded, quantum
    )
    labels = tuple(s.label for s in structure.scatterers())
    return FormFactorTable(labels, index_set.expanded, values.T, title)
