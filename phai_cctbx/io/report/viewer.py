"""Section of a report with a picture in three dimensions: molecule and map in 3Dmol.js.

The viewer is 3Dmol.js 2.5.5 (N. Rego & D. Koes, Bioinformatics 31, 1322, 2015; BSD 3-Clause
licence, ``3Dmol-LICENSE.txt``), the file ``build/3Dmol-min.js`` of the package ``3dmol`` of npm as
it was published. To update: ``npm pack 3dmol``, and copy that file and ``LICENSE`` here.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

# cctbx
from cctbx import xray

from phai_cctbx.building.connectivity import HYDROGENS, bonds, element_of
from phai_cctbx.io.report.density import Box, CellMap
from phai_cctbx.io.report.page import Html

_HERE = Path(__file__).parent
#: How far from the atoms (A) the map is shown.
_MARGIN = 1.6
#: Where the map is drawn first: a share of the median density at the atoms, which is higher where
#: the resolution (A) leaves them broad; the difference map, in its sigma.
SHARP_SHARE, BROAD_SHARE, BROAD_D_MIN = 0.08, 0.45, 1.3
DIFFERENCE_LEVEL = 4.0
#: Of the picture, less an edge.
_WIDTH_OVER_HEIGHT = 1.9
_LARGEST_BYTE = 255


def viewer_section(structure: xray.structure, density: CellMap, difference=None, parts=None):
    """HTML of the section, and of the scripts that go to the end of the page.

    Parameters
    ----------
    structure : xray.structure
        Atoms, or peaks (no bonds are drawn between those labelled Q).
    density : CellMap
    difference : CellMap, optional
    parts : sequence of int, optional
        SHELX PART of each scatterer.

    Returns
    -------
    Html, Html
    """
    sites = np.array(structure.sites_cart()).reshape(-1, 3)
    box = Box.around(sites, _MARGIN, density.d_min)
    near = cKDTree(sites).query(box.points(), distance_upper_bound=_MARGIN)[0] < _MARGIN
    content = {
        "atoms": _atoms(structure, sites @ box.axes.T, parts),
        "box": {"origin": list(box.origin), "step": box.step, "size": list(box.shape)},
        "map": _packed(density, box, near, _first_level(density, structure, sites)),
        "zoom": _zoom(sites @ box.axes.T),
        "difference": difference and _packed(difference, box, near, DIFFERENCE_LEVEL),
    }
    text = json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")
    library = (_HERE / "3Dmol-min.js").read_text(encoding="utf-8")
    own = (_HERE / "viewer.js").read_text(encoding="utf-8")
    markup = (_HERE / "viewer.html").read_text(encoding="utf-8")
    scripts = (
        f'<script type="application/json" id="viewer-content">{text}</script>\n'
        f"<script>{library}</script>\n<script>{own}</script>\n"
    )
    return Html(markup), Html(scripts)


def _zoom(placed):
    """Beyond the sphere around all atoms, which 3Dmol.js fits: the picture is wider than high."""
    offsets = placed - placed.mean(axis=0)
    radius = np.linalg.norm(offsets, axis=1).max() + _MARGIN
    height = np.abs(offsets[:, 1]).max() + _MARGIN
    return round(float(np.clip(radius / height, 1.0, _WIDTH_OVER_HEIGHT)), 3)


def _first_level(density, structure, sites):
    """Level in sigma that shows most atoms, with or without a heavy one beside them."""
    heavy = np.array([element_of(s) not in HYDROGENS for s in structure.scatterers()])
    share = SHARP_SHARE if density.d_min < BROAD_D_MIN else BROAD_SHARE
    return max(0.1, share * float(np.median(density.at(sites[heavy]))) / density.sigma)


def _atoms(structure, sites, parts):
    """Atoms as 3Dmol.js takes them; bonds to symmetry equivalents are left out."""
    neighbours = bonds(structure, parts)
    atoms = []
    for i, scatterer in enumerate(structure.scatterers()):
        is_peak = scatterer.label.startswith("Q")
        bonded = [] if is_peak else [n.index for n in neighbours[i] if n.operator.is_unit_mx()]
        x, y, z = (round(float(value), 4) for value in sites[i])
        atoms.append(
            {
                "elem": "Q" if is_peak else element_of(scatterer).capitalize(),
                "atom": scatterer.label,
                "serial": i,
                "x": x,
                "y": y,
                "z": z,
                "bonds": bonded,
                "bondOrder": [1] * len(bonded),
            }
        )
    return atoms


def _packed(density, box, near, level):
    """The density near the atoms as bytes, with what turns them back into e/A^3."""
    values = np.where(near, density.at(box.points()), 0.0)
    low, high = float(values.min()), float(values.max())
    scale = (high - low) / _LARGEST_BYTE or 1.0
    levels = np.rint((values - low) / scale).astype(np.uint8)
    return {
        "low": low,
        "scale": scale,
        "sigma": density.sigma,
        "level": level,
        "top": max(level, 0.9 * max(high, -low) / density.sigma),
        "values": base64.b64encode(levels.tobytes()).decode("ascii"),
    }
