"""The report of a run: one HTML file that a browser shows without network, warnings first."""

from __future__ import annotations

from html import escape
from pathlib import Path

import numpy as np

# cctbx
from cctbx import miller, xray

from phai_cctbx.building.connectivity import assemble
from phai_cctbx.building.disorder import parts
from phai_cctbx.io.atomic_file import write_text
from phai_cctbx.io.report.data import data_section
from phai_cctbx.io.report.density import CellMap
from phai_cctbx.io.report.molecule import molecule_section
from phai_cctbx.io.report.page import Html, badge, keys, page, table, warnings
from phai_cctbx.io.report.phases import phases_section
from phai_cctbx.io.report.sections import MoleculePlane, projection_figure
from phai_cctbx.io.report.structure import refinement_section, residual_figure
from phai_cctbx.io.report.viewer import viewer_section
from phai_cctbx.refinement.maps import difference_coefficients, observed_coefficients

#: Displacement (A^2) and element of the scatterers that stand for peaks.
_U_PEAK, _PEAK_ELEMENT = 0.05, "C"
#: What decided whether a run counts as solved, by `SolveResult.solved_by`.
_JUDGED_BY = {
    "r1": "the refined structure",
    "molecule": "what speaks for and against the molecule that was given",
    "proposal": "what speaks for and against a molecule that the cell contents suggest",
    "confidence": "the confidence of the phases alone: the data are too coarse to build freely",
}


def write_report(path, result) -> Path:
    """Write the report and return its path.

    Parameters
    ----------
    path : path-like
    result : phai_cctbx.programs.pipeline.SolveResult
        Or anything with its attributes.
    """
    return write_text(path, report_html(result))


def report_html(result) -> str:
    """The report as an HTML document."""
    title = result.data.title or "Crystal structure"
    parts = [_head(result, title), warnings(result.warnings), _main_figures(result)]
    sections = _phased_sections if result.solution is None else _structure_sections
    body, scripts = sections(result)
    return page(f"{title}: phai_cctbx", "\n".join([*parts, *body]), scripts=scripts)


def _head(result, title):
    verdict = badge("solved", "good") if result.solved else badge("not solved", "bad")
    symmetry = result.data.crystal_symmetry
    a, b, c, *angles = symmetry.unit_cell().parameters()
    cell = (
        f"{a:.4f} \u00d7 {b:.4f} \u00d7 {c:.4f} \u00c5,"
        f" {angles[0]:.3f}\u00b0 {angles[1]:.3f}\u00b0 {angles[2]:.3f}\u00b0,"
        f" V = {symmetry.unit_cell().volume():.1f} \u00c5\u00b3"
    )
    reason = f"judged by {_JUDGED_BY[result.solved_by]}"
    told = f"{result.formula}, {result.space_group}; {cell}"
    return Html(
        f"<header><h1>{escape(title)}</h1>{verdict}<span class='faint'>{reason}</span></header>"
        f"<p class='faint'>{escape(told)}</p>"
    )


def _main_figures(result):
    solution, statistics = result.solution, result.prepared.statistics
    pairs = []
    if solution is not None:
        pairs += [
            ("R1, I > 2\u03c3(I)", f"{solution.r1:.4f}"),
            ("wR2", f"{solution.wr2:.4f}"),
            ("goodness of fit", f"{solution.goof:.3f}"),
            (
                "residual, e/\u00c5\u00b3",
                f"{solution.difference_peak:+.2f} / {solution.difference_hole:+.2f}",
            ),
            ("atoms, hydrogens", f"{result.n_atoms}, {result.n_hydrogens}"),
        ]
    pairs += [
        ("confidence", f"{result.confidence:.3f}"),
        ("resolution, \u00c5", f"{result.d_min:.2f}"),
        ("complete", f"{100 * statistics.completeness:.1f} %"),
        ("R(int)", "merged" if statistics.r_int is None else f"{statistics.r_int:.4f}"),
    ]
    return keys(pairs)


def _structure_sections(result):
    """Sections of a built structure, and the scripts of the page."""
    solution = result.solution
    f_sq = solution.refinement.f_sq
    observed = CellMap(observed_coefficients(solution.refinement))
    difference = difference_coefficients(solution.refinement, f_sq)
    residual = CellMap(difference)
    structure = solution.xray_structure
    part = parts(structure.scatterers().size(), getattr(solution, "disorder", ()))
    plane = MoleculePlane(structure, part)
    pictures = [
        plane.figure(observed, "F(obs) in the plane of the molecule"),
        plane.figure(residual, "F(obs) \u2212 F(calc) in this plane", difference=True),
        residual_figure(residual),
    ]
    viewer, scripts = viewer_section(structure, observed, residual, part)
    known = [molecule_section(result.known, result.proposals)] if result.known else []
    return [
        viewer,
        *known,
        Html(f'<section><h2>Maps</h2><div class="figures">{"".join(pictures)}</div></section>'),
        refinement_section(solution, f_sq, difference),
        phases_section(result.phasing, solution),
        data_section(result.data, result.prepared),
    ], scripts


def _phased_sections(result):
    """Sections of phases alone, and the scripts of the page."""
    prepared, phasing = result.prepared, result.phasing
    coefficients = _weighted(prepared, phasing)
    structure = _peak_structure(result.peaks)
    density = CellMap(coefficients)
    sites = list(structure.sites_frac())
    picture = projection_figure(density, sites, "Phased map: the whole cell in projection")
    viewer, scripts = viewer_section(structure, density)
    return [
        viewer,
        Html(
            f'<section><h2>Map</h2><div class="figures">{picture}</div>'
            f"{_fragment_table(result.peaks)}"
            f"<details><summary>Peaks</summary>{_peak_table(result.peaks)}</details></section>"
        ),
        phases_section(phasing, None),
        data_section(result.data, prepared),
    ], scripts


def _weighted(prepared, phasing) -> miller.array:
    """F(obs) times confidence with the phases, on the Wilson scale."""
    f_phased = phasing.f_phased
    scale = 1 / np.sqrt(prepared.wilson_scale)
    return f_phased.customized_copy(data=f_phased.data() * (phasing.confidence.data() * scale))


def _peak_structure(trial) -> xray.structure:
    structure = trial.xray_structure.deep_copy_scatterers()
    for number, (site, _) in enumerate(trial.peaks, start=1):
        structure.add_scatterer(
            xray.scatterer(f"Q{number}", site=site, u=_U_PEAK, scattering_type=_PEAK_ELEMENT)
        )
    return assemble(structure)


def _fragment_table(trial) -> str:
    """The fragments that the map shows, nothing without any."""
    rows = [
        [
            each.name,
            " ".join(trial.labels(number)),
            f"{each.correlation:.2f}",
            f"{each.significance:.1f}",
            ", ".join(each.rivals),
        ]
        for number, each in enumerate(trial.fragments)
    ]
    if not rows:
        return ""
    head = ("Fragment", "Atoms", ">Map correlation", ">Deviations above chance", "Elements also of")
    return f"<h3>Fragments</h3>{table(head, rows)}"


def _peak_table(trial) -> Html:
    rows = [
        [
            f"Q{number}",
            f"{height:.2f}",
            f"{height / trial.sigma:.1f}",
            *(f"{x:.4f}" for x in site),
        ]
        for number, (site, height) in enumerate(trial.peaks, start=1)
    ]
    return table(("", ">e/\u00c5\u00b3", ">/ \u03c3 of the map", ">x", ">y", ">z"), rows)
