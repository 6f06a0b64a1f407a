"""Section of a report on the phases: their confidence, the candidates, what the structure says."""

from __future__ import annotations

import numpy as np

from phai_cctbx.io.report.charts import BLUE, GREEN, GREY, ORANGE, Chart, upper_end
from phai_cctbx.io.report.page import Html, table
from phai_cctbx.phasing.scoring import apply_match, score_r
from phai_cctbx.refinement.maps import friedel_average

_BINS = 20
#: Reflections of one point of a mean, at least; in a small set fewer, for so many points.
_LEAST_PER_POINT, _FEWEST_PER_POINT, _POINTS_OF_FEW = 20, 5, 4
_NAMES = {
    "expected_r": "expected r",
    "n_agreeing": "starts that agree",
    "n_starts": "starts",
    "cc_held_out": "CC of amplitudes held out",
    "probability_right": "probability to be right",
    "cc": "CC of all amplitudes",
    "sigma_a": "\u03c3A",
    "symmetry_agreement": "agreement with the symmetry",
    "d_min": "d_min",
}


def phases_section(phasing, solution) -> Html:
    """HTML of the section.

    Parameters
    ----------
    phasing : PhasingResult
        The candidate that was taken.
    solution : Solution or None
        Its refined structure judges the phases where it is solved.
    """
    figures = [confidence_figure(phasing), resolution_figure(phasing)]
    told = ""
    if solution is not None and solution.solved:
        match = score_r(phasing.f_phased, friedel_average(solution.refinement.f_calc))
        told = (
            f"<p>The map of these phases correlates with that of the refined structure by"
            f" r = {match.r:.3f}; {phasing.expected_r:.3f} were expected.</p>"
        )
        figures.append(calibration_figure(phasing, solution, match))
    agreement = agreement_figure((phasing, *phasing.alternatives))
    if agreement:
        figures.append(agreement)
    return Html(
        f'<section><h2>Phases</h2>{told}<div class="figures">{"".join(figures)}</div>'
        f"<h3>Candidates</h3>{candidate_table((phasing, *phasing.alternatives))}</section>"
    )


def confidence_figure(phasing) -> Html:
    """Histogram of the confidence."""
    confidence = phasing.confidence.data().as_numpy_array()
    counts, edges = np.histogram(confidence, bins=_BINS, range=(0, 1))
    chart = Chart("confidence: expected cos(phase error)", "reflections", (0, 1),
                  (0, upper_end(counts)))  # fmt: skip
    chart.bars(edges, counts)
    note = f"Mean {confidence.mean():.3f}, weighted by |F|\u00b2 {phasing.expected_r:.3f}."
    return chart.svg("Confidence of the phases", note)


def resolution_figure(phasing) -> Html:
    """Mean confidence by resolution, of strong and of weak reflections."""
    d_star_sq = phasing.f_phased.d_star_sq().data().as_numpy_array()
    amplitude = np.abs(phasing.f_phased.data().as_numpy_array())
    confidence = phasing.confidence.data().as_numpy_array()
    ticks = [(d**-2, f"{d:.2f}") for d in d_star_sq.max() ** -0.5 * np.array([1, 1.2, 1.6, 3])]
    chart = Chart("d (\u00c5)", "mean confidence", (0, d_star_sq.max()), (0, 1), ticks)
    strong = amplitude > np.median(amplitude)
    for rows, name, color in ((~strong, "weaker half", GREY), (strong, "stronger half", BLUE)):
        x, y = _means(d_star_sq[rows], confidence[rows])
        chart.line(x, y, color, name).points(x, y, color)
    return chart.svg("Confidence by resolution")


def calibration_figure(phasing, solution, match) -> Html:
    """Cosine of the phase error, the refined structure being right, against the confidence."""
    f_phased = apply_match(phasing.f_phased, match)
    f_phased, f_calc = f_phased.common_sets(friedel_average(solution.refinement.f_calc))
    confidence, _ = phasing.confidence.common_sets(f_phased)
    cosine = np.cos(
        np.angle(f_phased.data().as_numpy_array() * f_calc.data().as_numpy_array().conj())
    )
    x, y = _means(confidence.data().as_numpy_array(), cosine)
    chart = Chart("confidence", "mean cos(phase error)", (0, 1), (min(0, y.min(initial=0)), 1))
    chart.line([0, 1], [0, 1], GREY, "exact", dashed=True)
    chart.line(x, y, GREEN, "found").points(x, y, GREEN)
    return chart.svg("Confidence and truth", "Phases of the refined structure taken for true.")


def agreement_figure(candidates) -> Html:
    """How many starts led to each candidate, nothing where there was one start or none says so."""
    counts = [c.figures_of_merit.get("n_agreeing") for c in candidates]
    known = [n for n in counts if n is not None]
    starts = max((c.figures_of_merit.get("n_starts", 0) for c in candidates), default=0)
    if not known or starts < 2:
        return Html("")
    n = len(counts)
    ticks = [(i + 0.5, str(i + 1)) for i in range(n)]
    chart = Chart("candidate", "starts", (0, n), (0, upper_end(known, 5)), ticks)
    edges = [x for i in range(n) for x in (i + 0.2, i + 0.8)]
    heights = [x for count in counts for x in (count or 0, 0)][:-1]
    chart.bars(edges, heights, ORANGE)
    note = f"Of {starts:d} random starts." if starts else ""
    return chart.svg("Starts that agree", note)


def candidate_table(candidates) -> Html:
    """All candidates with their figures of merit."""
    rows = []
    for number, result in enumerate(candidates, start=1):
        merits = ", ".join(
            f"{_NAMES.get(name, name.replace('_', ' '))} {_number(value)}"
            for name, value in result.figures_of_merit.items()
            if name not in ("expected_r", "d_min")
        )
        rows.append([
            str(number),
            result.strategy.replace("_", " "),
            str(result.f_phased.size()),
            f"{result.f_phased.d_min():.2f}",
            f"{result.expected_r:.3f}",
            merits,
        ])  # fmt: skip
    columns = ("", "Strategy", ">Reflections", ">d_min / \u00c5", ">Expected r", "Figures of merit")
    return table(columns, rows)


def _means(x, y):
    """Means of y in groups of like x."""
    if x.size == 0:
        return np.zeros(0), np.zeros(0)
    n_points = max(x.size // _LEAST_PER_POINT, min(x.size // _FEWEST_PER_POINT, _POINTS_OF_FEW))
    groups = np.array_split(np.argsort(x), int(np.clip(n_points, 1, 12)))
    return np.array([x[g].mean() for g in groups]), np.array([y[g].mean() for g in groups])


def _number(value):
    return f"{value:d}" if isinstance(value, int) else f"{value:.3f}"
