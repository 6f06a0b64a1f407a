"""Sections and projections of maps as contour drawings."""

from __future__ import annotations

from html import escape

import numpy as np

# cctbx
from cctbx import xray

from phai_cctbx.building.connectivity import HYDROGENS, bonds, element_of, fragments
from phai_cctbx.io.report.charts import figure
from phai_cctbx.io.report.density import CellMap, contour, principal_axes
from phai_cctbx.io.report.page import Html

#: Edge (A) that a section leaves around its atoms, its largest half width, and its grid spacing.
_MARGIN, _LARGEST, _STEP = 1.6, 8.0, 0.12
#: Contours of a map: the lowest in sigma, and each over the one before.
_LOWEST_SIGMA, _RATIO, _N_LEVELS = 1.0, 1.6, 10
#: Contours of a difference map, in its sigma, and how many on either side.
_DIFFERENCE_SIGMA, _N_DIFFERENCE = 2.0, 6
#: Atoms this far (A) from the plane are drawn with it.
_NEAR = 0.6
_SIZE = 420


class MoleculePlane:
    """The best plane through the largest fragment of a structure.

    Parameters
    ----------
    structure : xray.structure
    parts : sequence of int, optional
        SHELX PART of each scatterer.
    """

    def __init__(self, structure: xray.structure, parts=None):
        sites = np.array(structure.sites_cart()).reshape(-1, 3)
        elements = [element_of(scatterer) for scatterer in structure.scatterers()]
        neighbours = bonds(structure, parts)
        largest = [i for i, _ in fragments(neighbours)[0] if elements[i] not in HYDROGENS]
        chosen = sites[largest] if len(largest) > 2 else sites
        self.centre = (chosen.min(axis=0) + chosen.max(axis=0)) / 2
        self.axes = principal_axes(chosen)
        in_plane = (chosen - self.centre) @ self.axes.T
        middle = (in_plane.min(axis=0) + in_plane.max(axis=0)) / 2
        height = in_plane[:, 2].mean()
        self.centre = self.centre + np.array([*middle[:2], height]) @ self.axes
        half = np.ptp(in_plane[:, :2], axis=0) / 2 + _MARGIN
        self.half = np.minimum(np.maximum(half, 2 * _MARGIN), _LARGEST)
        placed = (sites - self.centre) @ self.axes.T
        near = (np.abs(placed[:, 2]) < _NEAR) & np.all(np.abs(placed[:, :2]) < self.half, axis=1)
        self.atoms = [
            (structure.scatterers()[int(i)].label, elements[i], placed[i, :2])
            for i in np.flatnonzero(near)
        ]
        self.bonds = [
            placed[[i, n.index], :2]
            for i in np.flatnonzero(near)
            for n in neighbours[i]
            if n.index > i and near[n.index] and n.operator.is_unit_mx()
        ]

    def values(self, density: CellMap) -> np.ndarray:
        """The density on the grid of the plane, shape (nx, ny)."""
        u, v = (np.arange(-h, h + _STEP / 2, _STEP) for h in self.half)
        grid = np.stack(np.meshgrid(u, v, indexing="ij"), axis=-1)
        return density.at(self.centre + grid @ self.axes[:2])

    def figure(self, density: CellMap, title: str, difference: bool = False) -> Html:
        """The section of a map, or of a difference map, as a figure."""
        values = self.values(density)
        levels = _difference_levels(density) if difference else _map_levels(density, values)
        to_plane = lambda pieces: pieces * _STEP - self.half  # noqa: E731
        note = _note(density, levels, difference)
        svg = _drawing(
            values, levels, to_plane, -self.half, self.half, self.atoms, lines=self.bonds
        )
        return figure(title, svg, note=note)


def projection_figure(density: CellMap, sites_frac, title: str) -> Html:
    """The cell seen along its shortest axis: the largest density along it.

    Parameters
    ----------
    density : CellMap
    sites_frac : sequence of 3 floats
        Peaks to mark.
    title : str
    """
    axis = int(np.argmin(density.unit_cell.parameters()[:3]))
    kept = [(1, 2), (2, 0), (0, 1)][axis]
    values = density.values.max(axis=axis)
    if kept[0] > kept[1]:
        values = values.T
    values = np.pad(values, ((0, 1), (0, 1)), mode="wrap")
    vectors = np.array(density.unit_cell.orthogonalization_matrix()).reshape(3, 3).T
    along = vectors[axis] / np.linalg.norm(vectors[axis])
    first, second = (vectors[i] - (vectors[i] @ along) * along for i in kept)
    across = first / np.linalg.norm(first)
    up = np.cross(along, across)
    frame = np.array([[v @ across, v @ up] for v in (first, second)])
    scale = np.array(values.shape) - 1
    corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1)]) @ frame
    atoms = [("", "Q", np.array([s[i] % 1.0 for i in kept]) @ frame) for s in sites_frac]
    levels = _map_levels(density, values)
    svg = _drawing(
        values, levels, lambda pieces: (pieces / scale) @ frame, corners.min(axis=0),
        corners.max(axis=0), atoms, outline=corners,
    )  # fmt: skip
    return figure(title, svg, note=f"Along {'abc'[axis]}. {_note(density, levels, False)}")


def _map_levels(density, values):
    levels = _LOWEST_SIGMA * density.sigma * _RATIO ** np.arange(_N_LEVELS)
    return [level for level in levels if level < values.max()] or [values.max() / 2]


def _difference_levels(density):
    step = _DIFFERENCE_SIGMA * density.sigma
    return [sign * step * n for sign in (1, -1) for n in range(1, _N_DIFFERENCE + 1)]


def _note(density, levels, difference):
    if difference:
        step = abs(levels[0])
        return f"Contours every {step:.3f} e/\u00c5\u00b3, positive green, negative red."
    return (
        f"Contours from {levels[0]:.2f} e/\u00c5\u00b3 ({levels[0] / density.sigma:.1f} \u03c3),"
        f" each {_RATIO} times the last."
    )


def _drawing(values, levels, to_plane, low, high, atoms, lines=(), outline=None):
    scale = _SIZE / max(high - low)
    width, height = (high - low) * scale
    to_picture = lambda xy: np.stack(  # noqa: E731
        [(xy[..., 0] - low[0]) * scale, height - (xy[..., 1] - low[1]) * scale], axis=-1
    )
    parts = [
        f'<svg viewBox="-2 -2 {width + 4:.0f} {height + 4:.0f}" role="img" font-size="11"'
        f' style="max-height:380px">'
        f'<rect width="{width:.1f}" height="{height:.1f}" fill="#fff" stroke="#dce2e8"/>'
    ]
    if outline is not None:
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in to_picture(outline))
        parts.append(f'<path d="M{path}Z" fill="none" stroke="#9aa7b4"/>')
    for (x0, y0), (x1, y1) in (to_picture(ends) for ends in lines):
        parts.append(
            f'<path d="M{x0:.1f} {y0:.1f}L{x1:.1f} {y1:.1f}" stroke="#c3ccd4" stroke-width="2.5"/>'
        )
    signed = any(level < 0 for level in levels)
    for number, level in enumerate(levels):
        color = ("#1b7f4d" if level > 0 else "#b3372f") if signed else "#1f5f8b"
        strength = 0.9 if signed else 0.35 + 0.6 * number / max(1, len(levels) - 1)
        ends = to_picture(to_plane(contour(values, level)))
        path = "".join(f"M{x0:.1f} {y0:.1f}L{x1:.1f} {y1:.1f}" for (x0, y0), (x1, y1) in ends)
        if path:
            parts.append(
                f'<path d="{path}" stroke="{color}" stroke-opacity="{strength:.2f}" fill="none"/>'
            )
    for label, element, site in atoms:
        x, y = to_picture(site)
        radius = 2 if element in HYDROGENS else 3
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="#1d2733"/>')
        if label and element not in HYDROGENS:
            parts.append(
                f'<text x="{x + 5:.1f}" y="{y - 5:.1f}" fill="#1d2733" stroke="#fff"'
                f' stroke-width="3" paint-order="stroke">{escape(label)}</text>'
            )
    return Html("".join(parts) + "</svg>")
