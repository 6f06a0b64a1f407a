"""Sections of a report on the refined structure: its way, its agreement, the density left over."""

from __future__ import annotations

import math

import numpy as np

# cctbx
from cctbx import sgtbx

from phai_cctbx.building.connectivity import u_equivalent
from phai_cctbx.building.peaks import find_peaks
from phai_cctbx.io.report.charts import BLUE, GREEN, GREY, Chart, upper_end
from phai_cctbx.io.report.page import Html, table

#: Dots of a scatter chart at most.
_MOST_POINTS = 1500
_SHELLS, _BINS = 10, 60
#: Rows of the tables of difference peaks (and of holes) and of reflections.
_N_EXTREMA, _N_OUTLIERS = 5, 10


def refinement_section(solution, f_sq, difference) -> Html:
    """HTML of the section on least squares.

    Parameters
    ----------
    solution : Solution
    f_sq : miller.array
        The intensities it was refined against.
    difference : miller.array
        Coefficients of the difference map.
    """
    f_obs, f_calc = _amplitudes(solution, f_sq)
    figures = [
        history_figure(solution.history),
        agreement_figure(f_obs, f_calc),
        shells_figure(f_obs, f_calc, f_sq),
    ]
    return Html(
        "<section><h2>Refinement</h2>"
        f'<div class="figures">{"".join(figures)}</div>'
        f"<h3>Final figures</h3>{final_table(solution)}"
        f"<details><summary>Largest difference peaks and holes</summary>"
        f"{difference_table(difference, solution.xray_structure)}</details>"
        f"<details><summary>Reflections that disagree most</summary>"
        f"{outlier_table(f_obs, f_calc, solution, f_sq)}</details>"
        f"<details><summary>Every step</summary>{history_table(solution.history)}</details>"
        f"<details><summary>Atoms</summary>{atom_table(solution.xray_structure)}</details>"
        "</section>"
    )


def history_figure(history) -> Html:
    """R1 after each step of the completion."""
    r1 = [step.r1 for step in history]
    x = range(1, len(r1) + 1)
    every = math.ceil(len(r1) / 6)
    ticks = [(step, str(step)) for step in range(every, len(r1) + 1, every)]
    chart = Chart("step", "R1", (0.5, len(r1) + 0.5), (0, upper_end(r1)), ticks)
    chart.line(x, r1, GREY).points(x, r1, BLUE)
    return chart.svg("On the way to the structure")


def agreement_figure(f_obs, f_calc) -> Html:
    """F(obs) against F(calc)."""
    shown = np.linspace(0, f_obs.size - 1, min(f_obs.size, _MOST_POINTS)).astype(int)
    top = upper_end([f_obs.max(), f_calc.max()])
    chart = Chart("F(calc)", "F(obs)", (0, top), (0, top))
    chart.line([0, top], [0, top], GREY)
    order = np.argsort(f_calc)[shown]
    chart.points(f_calc[order], f_obs[order], BLUE, radius=1.6, opacity=0.6)
    return chart.svg("Agreement of amplitudes")


def shells_figure(f_obs, f_calc, f_sq) -> Html:
    """R1 of all reflections by resolution."""
    d_star_sq = f_sq.d_star_sq().data().as_numpy_array()
    n_shells = max(f_obs.size // 20, min(f_obs.size // 8, 4))
    groups = np.array_split(np.argsort(d_star_sq), int(np.clip(n_shells, 1, _SHELLS)))
    edges = [d_star_sq.min(), *(d_star_sq[rows].max() for rows in groups)]
    r1 = [np.abs(f_obs[g] - f_calc[g]).sum() / max(f_obs[g].sum(), 1e-12) for g in groups]
    ticks = [(edge, f"{edge**-0.5:.2f}") for edge in edges[:0:-2]]
    chart = Chart("d_min (\u00c5)", "R1, all reflections", (edges[0], edges[-1]),
                  (0, upper_end(r1)), ticks)  # fmt: skip
    chart.bars(edges, r1, GREEN)
    return chart.svg("Agreement by resolution")


def residual_figure(difference) -> Html:
    """Histogram of the difference density.

    Parameters
    ----------
    difference : phai_cctbx.io.report.density.CellMap
    """
    values = difference.values
    reach = upper_end([np.abs(values).max()])
    counts, edges = np.histogram(values, bins=_BINS, range=(-reach, reach))
    logarithm = np.log10(np.maximum(counts, 1))
    chart = Chart("density (e/\u00c5\u00b3)", "log\u2081\u2080 of grid points", (-reach, reach),
                  (0, upper_end(logarithm)))  # fmt: skip
    chart.bars(edges, logarithm)
    return chart.svg("Residual density", f"\u03c3 = {difference.sigma:.3f} e/\u00c5\u00b3")


def final_table(solution) -> Html:
    """The figures of the last refinement."""
    a, b = solution.weighting
    rows = [
        ["R1, I > 2\u03c3(I)", f"{solution.r1:.4f} ({solution.n_observed} reflections)"],
        ["R1, all", f"{solution.r1_all:.4f} ({solution.n_reflections} reflections)"],
        ["wR2", f"{solution.wr2:.4f}"],
        ["Goodness of fit", f"{solution.goof:.3f}"],
        ["Parameters, restraints", f"{solution.n_parameters}, {solution.n_restraints}"],
        ["Scatterers", solution.scatterers],
        ["Weights", f"a = {a:.4f}, b = {b:.4f}"],
        ["Largest shift/esd", _number(solution.max_shift_over_esd, 3)],
        [
            "Difference density",
            f"{solution.difference_peak:+.2f} / {solution.difference_hole:+.2f} e/\u00c5\u00b3,"
            f" \u03c3 {solution.difference_rms:.3f}",
        ],
    ]
    if solution.extinction is not None:
        rows.append(["Extinction", f"{solution.extinction:.4f}"])
    if solution.absolute_structure is not None:
        hand = solution.absolute_structure
        x, esd, method = hand.x
        rows += [
            ["Absolute structure", f"x = {x:.3f} \u00b1 {esd:.3f}, {method}"],
            [
                "",
                f"Hooft y = {hand.hooft:.3f} \u00b1 {hand.hooft_esd:.3f}"
                f" from {hand.n_pairs} Bijvoet pairs",
            ],
        ]
    if solution.twin is not None:
        rows.append(["Second domain", f"{solution.twin.as_hkl}, {solution.twin.fraction:.3f}"])
    return table(("Figure", "Value"), rows)


def difference_table(difference, structure) -> Html:
    """Extrema of the difference map with the atom that is nearest to each.

    Parameters
    ----------
    difference : miller.array
    structure : xray.structure
    """
    rows = []
    for negative in (False, True):
        extrema = find_peaks(difference, _N_EXTREMA, negative=negative)
        for site, height in zip(extrema.sites, extrema.heights):
            label, distance = _nearest_atom(structure, site)
            rows.append(
                [f"{height:+.2f}", f"{distance:.2f}", label, *(f"{x:.4f}" for x in site)]
            )
    columns = (">e/\u00c5\u00b3", ">Distance / \u00c5", "from", ">x", ">y", ">z")
    return table(columns, rows)


def outlier_table(f_obs, f_calc, solution, f_sq) -> Html:
    """The reflections with the largest |F(obs)^2 - F(calc)^2| in its standard uncertainty.

    The uncertainty is that of the weighting scheme, so that the figure is the one that SHELXL
    lists.
    """
    if f_sq.sigmas() is None:
        return Html("<p class='faint'>The data have no standard uncertainties.</p>")
    a, b = solution.weighting
    observed = f_sq.data().as_numpy_array() / solution.scale_factor
    sigma = f_sq.sigmas().as_numpy_array() / solution.scale_factor
    p = (np.maximum(observed, 0) + 2 * f_calc**2) / 3
    error = np.abs(observed - f_calc**2) / np.sqrt(sigma**2 + (a * p) ** 2 + b * p)
    d = f_sq.d_spacings().data().as_numpy_array()
    indices = f_sq.indices()
    rows = [
        [
            " ".join(f"{x:d}" for x in indices[int(i)]),
            f"{f_obs[i]:.2f}",
            f"{f_calc[i]:.2f}",
            f"{error[i]:.1f}",
            f"{d[i]:.2f}",
        ]
        for i in np.argsort(-error)[:_N_OUTLIERS]
    ]
    columns = (">h k l", ">F(obs)", ">F(calc)", ">error / esd", ">d / \u00c5")
    return table(columns, rows)


def history_table(history) -> Html:
    """What was done, and where the model stood after it."""
    rows = [
        [str(number), step.action, f"{step.r1:.4f}", str(step.n_atoms)]
        for number, step in enumerate(history, start=1)
    ]
    return table((">", "Step", ">R1", ">Atoms"), rows)


def atom_table(structure) -> Html:
    """Sites and displacements."""
    rows = []
    for scatterer in structure.scatterers():
        u = u_equivalent(scatterer, structure.unit_cell())
        rows.append(
            [
                scatterer.label,
                scatterer.element_symbol(),
                *(f"{x:.5f}" for x in scatterer.site),
                f"{u:.4f}",
                f"{scatterer.occupancy:.3f}",
            ]
        )
    columns = ("Atom", "Element", ">x", ">y", ">z", ">U(eq) / \u00c5\u00b2", ">Occupancy")
    return table(columns, rows)


def _nearest_atom(structure, site):
    """Label of the nearest atom, symmetry equivalents included, and its distance (A)."""
    equivalents = sgtbx.sym_equiv_sites(structure.space_group(), site, structure.unit_cell())
    distances = [
        sgtbx.min_sym_equiv_distance_info(equivalents, scatterer.site).dist()
        for scatterer in structure.scatterers()
    ]
    nearest = int(np.argmin(distances))
    return structure.scatterers()[nearest].label, distances[nearest]


def _amplitudes(solution, f_sq):
    """F(obs) and F(calc) on the absolute scale, in the order of `f_sq`."""
    observed = np.maximum(f_sq.data().as_numpy_array(), 0) / solution.scale_factor
    calculated = np.maximum(solution.refinement.fc_sq.data().as_numpy_array(), 0)
    return np.sqrt(observed), np.sqrt(calculated)


def _number(value, decimals):
    return "\u2013" if value is None or math.isnan(value) else f"{value:.{decimals}f}"
