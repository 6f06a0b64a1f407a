"""Section of a report on the measured data: Wilson plot, shells, distribution of intensities."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import erf

from phai_cctbx.io.report.charts import BLUE, GREEN, GREY, ORANGE, Chart, upper_end
from phai_cctbx.io.report.page import Html, table
from phai_cctbx.phasing.normalisation import WilsonPlot, normalise, wilson_curve

#: Points of a Wilson plot at most, and reflections in each at least.
_POINTS, _LEAST_PER_POINT = 30, 10
#: Largest z of the cumulative distribution N(z) (Howells, Phillips & Rogers, 1950).
_Z_MAX = 2.0
#: <|E^2 - 1|> expected by Wilson's statistics.
E_CENTRIC, E_ACENTRIC = 0.968, 0.736


def data_section(data, prepared) -> Html:
    """HTML of the section.

    Parameters
    ----------
    data : CrystalData
    prepared : PreparedData
    """
    statistics = prepared.statistics
    figures = [
        wilson_figure(data, prepared),
        completeness_figure(statistics.shells),
        signal_figure(statistics.shells),
        distribution_figure(data, prepared),
    ]
    left_out = (
        f"{statistics.n_observations} reflections read, {statistics.n_unique} unique;"
        f" {statistics.n_absences} systematic absences ({statistics.n_strong_absences} of them"
        f" strong), {statistics.n_rejected} unusable, {statistics.n_outside} beyond the limits,"
        f" {statistics.n_negative} merged intensities below zero."
    )
    return Html(
        f'<section><h2>Data</h2><p class="faint">{left_out}</p>'
        f'<div class="figures">{"".join(figures)}</div>'
        f"<details><summary>Resolution shells</summary>{shell_table(statistics.shells)}</details>"
        "</section>"
    )


def wilson_figure(data, prepared) -> Html:
    """Wilson plot with the line that gives scale and B."""
    f_sq = prepared.f_sq
    unit = wilson_curve(
        f_sq,
        WilsonPlot(scale=1.0, b=0.0, at_bound=False),
        data.composition.unit_cell_contents,
        data.radiation,
    )
    epsilon = f_sq.epsilons().data().as_numpy_array()
    intensity = f_sq.data().as_numpy_array() / epsilon
    s_sq = f_sq.d_star_sq().data().as_numpy_array() / 4
    order = np.argsort(s_sq)
    n_points = int(np.clip(order.size // _LEAST_PER_POINT, 1, _POINTS))
    shells = np.array_split(order, n_points)
    x = np.array([s_sq[rows].mean() for rows in shells])
    mean = np.array([intensity[rows].mean() / unit[rows].mean() for rows in shells])
    y = np.log(np.where(mean > 0, mean, np.nan))
    ends = np.array([0.0, s_sq.max()])
    line = math.log(prepared.wilson_scale) - 2 * prepared.wilson_b * ends
    values = np.concatenate([y[np.isfinite(y)], line])
    chart = Chart(
        "sin\u00b2\u03b8 / \u03bb\u00b2  (\u00c5\u207b\u00b2)",
        "ln(\u27e8I\u27e9 / \u03a3f\u00b2)",
        (0, s_sq.max()),
        (values.min() - 0.3, values.max() + 0.3),
    )
    chart.line(ends, line, color=ORANGE).points(x, y, color=BLUE)
    return chart.svg("Wilson plot", f"B = {prepared.wilson_b:.2f} \u00c5\u00b2")


def completeness_figure(shells) -> Html:
    """Completeness by resolution shell."""
    chart = _over_shells(shells, "complete (%)", 100.0)
    chart.bars(_edges(shells), [100 * shell.completeness for shell in shells], color=BLUE)
    return chart.svg("Completeness")


def signal_figure(shells) -> Html:
    """Mean I/sigma by resolution shell."""
    signal = [_value(shell.mean_i_over_sigma) for shell in shells]
    chart = _over_shells(shells, "\u27e8I / \u03c3(I)\u27e9", upper_end(signal, 5.0))
    chart.bars(_edges(shells), np.nan_to_num(signal), color=GREEN)
    known = any(math.isfinite(value) for value in signal)
    return chart.svg("Signal", "" if known else "The data have no standard uncertainties.")


def distribution_figure(data, prepared) -> Html:
    """Cumulative distribution of z = E^2 beside those of Wilson's statistics."""
    e = normalise(prepared.f_obs, data.composition.unit_cell_contents, data.radiation)
    e_sq = np.sort(e.data().as_numpy_array() ** 2)
    z = np.linspace(0, _Z_MAX, 60)
    observed = np.searchsorted(e_sq, z, side="right") / e_sq.size
    chart = Chart("z = |E|\u00b2", "N(z)", (0, _Z_MAX), (0, 1))
    chart.line(z, erf(np.sqrt(z / 2)), color=ORANGE, name="centric", dashed=True)
    chart.line(z, 1 - np.exp(-z), color=GREY, name="acentric", dashed=True)
    chart.line(z, observed, color=BLUE, name="measured")
    note = (
        f"\u27e8|E\u00b2 \u2212 1|\u27e9 = {np.abs(e_sq - 1).mean():.3f}"
        f" (centric {E_CENTRIC}, acentric {E_ACENTRIC})"
    )
    return chart.svg("Distribution of intensities", note)


def shell_table(shells) -> Html:
    """Figures of the resolution shells."""
    rows = [
        [
            _resolution(shell.d_max),
            f"{shell.d_min:.3f}",
            str(shell.n_unique),
            f"{100 * shell.completeness:.1f}",
            f"{shell.redundancy:.1f}",
            _text(shell.mean_i_over_sigma, 1),
            _text(shell.r_int, 3),
        ]
        for shell in shells
    ]
    columns = ("d_max / \u00c5", "d_min / \u00c5", "Unique", "Complete / %", "Redundancy",
               "\u27e8I/\u03c3\u27e9", "R(int)")  # fmt: skip
    return table([f">{name}" for name in columns], rows)


def _edges(shells):
    """Shell limits as d*^2: of equal volume they would crowd as d*."""
    first = shells[0].d_max
    low = 0.0 if not math.isfinite(first) or first <= 0 else first**-2
    return [low, *(shell.d_min**-2 for shell in shells)]


def _over_shells(shells, label, top):
    edges = _edges(shells)
    step = max(1, math.ceil(len(shells) / 5))
    ticks = [(shell.d_min**-2, f"{shell.d_min:.2f}") for shell in shells[::-step]]
    return Chart("d_min (\u00c5)", label, (edges[0], edges[-1]), (0, top), ticks)


def _value(number):
    return math.nan if number is None else float(number)


def _text(number, decimals):
    return "\u2013" if number is None or not math.isfinite(number) else f"{number:.{decimals}f}"


def _resolution(d):
    return "\u221e" if not math.isfinite(d) or d <= 0 else f"{d:.2f}"
