"""Deformation density: what the aspherical atoms add to spherical ones, and its picture."""

from __future__ import annotations

import numpy as np

# cctbx
from cctbx import miller, xray
from cctbx.array_family import flex

from phai_cctbx.aspherical.tables import FormFactorTable, rotations


def table_structure_factors(
    structure: xray.structure, table: FormFactorTable, indices: flex.miller_index
) -> np.ndarray:
    """Structure factors of a structure with the form factors of a table, without dispersion.

    F(h) = sum over operators (R, t) and atoms of f(h.R) T(h.R) exp 2 pi i (h.R.x + h.t)

    Returns
    -------
    numpy.ndarray, complex, (n_h,), e
    """
    rows = {tuple(h): i for i, h in enumerate(table.indices.tolist())}
    labels = [label.upper() for label in table.labels]
    h = np.array(list(indices), dtype=int)
    group = structure.space_group()
    total = np.zeros(len(h), dtype=complex)
    scatterers = structure.scatterers()
    columns = [labels.index(s.label.upper()) for s in scatterers]
    sites = np.array(structure.sites_frac())
    weights = np.array([s.weight() for s in scatterers])
    for operator, rotation in zip(group.smx(), rotations(group), strict=True):
        turned = h @ rotation
        f = table.values[[rows[tuple(k)] for k in turned.tolist()]][:, columns]
        phase = 2 * np.pi * (turned @ sites.T + (h @ np.array(operator.t().as_double()))[:, None])
        total += (f * weights * debye_waller(structure, turned) * np.exp(1j * phase)).sum(axis=1)
    if group.is_centric():
        inversion = np.array(group(0, 1, 0).t().as_double())
        total = total + np.conj(total) * np.exp(2j * np.pi * (h @ inversion))
    return total * group.n_ltr()


def debye_waller(structure: xray.structure, h: np.ndarray) -> np.ndarray:
    """Displacement factors, (n_h, n_scatterers)."""
    unit_cell = structure.unit_cell()
    indices = flex.miller_index([tuple(k) for k in h.tolist()])
    d_star_sq = np.array(unit_cell.d_star_sq(indices))
    result = np.empty((len(h), structure.scatterers().size()))
    for i, scatterer in enumerate(structure.scatterers()):
        if scatterer.flags.use_u_aniso():
            u11, u22, u33, u12, u13, u23 = scatterer.u_star
            u = np.array([[u11, u12, u13], [u12, u22, u23], [u13, u23, u33]])
            result[:, i] = np.exp(-2 * np.pi**2 * np.einsum("hi,ij,hj->h", h, u, h))
        else:
            result[:, i] = np.exp(-2 * np.pi**2 * scatterer.u_iso * d_star_sq)
    return result


def deformation_coefficients(
    structure: xray.structure,
    table: FormFactorTable,
    spherical: FormFactorTable,
    miller_set: miller.set,
) -> miller.array:
    """Coefficients of the dynamic deformation density, F(aspherical) - F(spherical).

    Both with the positions and displacements of the refined structure.
    """
    indices = miller_set.indices()
    difference = table_structure_factors(structure, table, indices) - table_structure_factors(
        structure, spherical, indices
    )
    return miller.array(miller_set, data=flex.complex_double(difference.tolist()))


PICTURE_SIZE = 7.0
"""Edge of the picture in A."""

CONTOUR_STEP = 0.05
"""e/A^3."""


def draw_section(path, coefficients: miller.array, structure: xray.structure, atoms) -> None:
    """Picture of a density in the plane of three atoms, contours every `CONTOUR_STEP`.

    Parameters
    ----------
    path : path-like
        .png
    coefficients : miller.array
    structure : xray.structure
    atoms : sequence of three Cartesian positions, (3, 3) array, A
        The first is the middle.
    """
    from matplotlib.figure import Figure

    first, second, third = np.asarray(atoms, dtype=float)
    along = (second - first) / np.linalg.norm(second - first)
    across = third - first - along * ((third - first) @ along)
    across /= np.linalg.norm(across)
    steps = np.linspace(-PICTURE_SIZE / 2, PICTURE_SIZE / 2, 141)
    x, y = np.meshgrid(steps, steps)
    points = first + x[..., None] * along + y[..., None] * across
    fft_map = coefficients.fft_map(resolution_factor=0.2)
    fft_map.apply_volume_scaling()
    density = fft_map.real_map_unpadded(in_place=False)
    fractions = structure.unit_cell().fractionalize(
        flex.vec3_double([tuple(p) for p in points.reshape(-1, 3)])
    )
    values = np.array([density.tricubic_interpolation(p) for p in fractions]).reshape(x.shape)
    largest = max(CONTOUR_STEP, float(np.abs(values).max()))
    levels = np.arange(CONTOUR_STEP, largest + CONTOUR_STEP, CONTOUR_STEP)
    figure = Figure(figsize=(5, 5))
    axes = figure.add_axes((0.1, 0.1, 0.85, 0.85))
    axes.contour(x, y, values, levels=levels, colors="tab:blue", linewidths=0.8)
    axes.contour(
        x, y, values, levels=-levels[::-1], colors="tab:red", linewidths=0.8, linestyles="dashed"
    )
    axes.set_aspect("equal")
    axes.set_xlabel("A")
    axes.set_title(f"deformation density, contours {CONTOUR_STEP:g} e/A$^3$", fontsize=9)
    figure.savefig(path, dpi=150)
