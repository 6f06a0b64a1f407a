"""Tables of benchmark rows: phasing by space group and volume, solutions one by one."""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import rankdata

# cctbx
from cctbx import sgtbx

from phai_cctbx.phasing.scoring import R_SOLVED
from phai_cctbx.programs.benchmark_entries import KINDS

#: Bounds of the volume bins, A^3.
VOLUME_BOUNDS = (500, 700, 1000, 1500, 2500)
#: Phases that show most of a structure, though not all.
R_USEFUL = 0.85
#: Phases that are wrong.
R_WRONG = 0.7

#: Message of a row whose space group the model was not trained on.
NOT_TRAINED = "the model was not trained on this space group"

_ALL = "all"
_HEADER = (
    f"{'space group':<14s} {'volume':>9s} {'n':>4s} {'mean r':>7s} {f'r>{R_SOLVED}':>7s}"
    f" {f'r>{R_USEFUL}':>7s} {'AUC':>6s} {'seconds':>8s}"
)


def phasing_table(rows) -> list[str]:
    """Lines that sum up phasing by space group type and volume, each kind apart.

    Settings of one space group count together. AUC is the chance that the confidence of a phased
    structure (r > 0.95) is above that of another one. Groups that the model was not trained on
    have a table of their own; structures without a result are counted with what was said of them.
    """
    lines = []
    for kind in KINDS:
        of_kind = [row for row in rows if row.kind == kind]
        phased = [row for row in of_kind if row.r is not None]
        for title, part in (
            ("amplitudes", [row for row in phased if row.message != NOT_TRAINED]),
            (
                "amplitudes in space groups that the model was not trained on",
                [row for row in phased if row.message == NOT_TRAINED],
            ),
        ):
            if part:
                lines += ["", f"{kind.capitalize()} {title}", _HEADER, "-" * len(_HEADER)]
                lines += _phasing_lines(part)
        lines += _confidence_lines(phased)
        failed = failure_lines([row for row in of_kind if row.r is None])
        lines += ["", f"{kind.capitalize()} amplitudes, failures", *failed] if failed else []
    return lines


def solution_table(rows) -> list[str]:
    """Lines that sum up solved structures, each kind apart."""
    lines = []
    for kind in KINDS:
        of_kind = [row for row in rows if row.kind == kind]
        done = [row for row in of_kind if row.seconds is not None and row.solved is not None]
        if not of_kind:
            continue
        lines += ["", f"{kind.capitalize()} data", solution_header(), "-" * len(solution_header())]
        lines += [solution_line(row) for row in done]
        lines += [f"{sum(bool(row.solved) for row in done)} of {len(of_kind)} solved"]
        lines += failure_lines([row for row in of_kind if row not in done])
    return lines


def solution_header() -> str:
    """Head of the columns of `solution_line`."""
    return (
        f"{'id':<16s} {'space group':<14s} {'solved':>6s} {'r':>6s} {'R1':>6s} {'publ.':>6s}"
        f" {'wR2':>6s} {'GooF':>5s} {'rmsd':>6s} {'wrong':>5s} {'s':>5s}  atoms"
    )


def solution_line(row) -> str:
    """One solved structure."""
    return (
        f"{row.id:<16s} {row.space_group or '':<14s} {'yes' if row.solved else 'no':>6s}"
        f" {_figure(row.r, 3):>6s} {_figure(row.r1, 4):>6s} {_figure(row.r1_published, 4):>6s}"
        f" {_figure(row.wr2, 4):>6s} {_figure(row.goof, 2):>5s} {_figure(row.rmsd, 3):>6s}"
        f" {_figure(row.wrong_elements, 0):>5s} {_figure(row.seconds, 0):>5s}  {row.message or ''}"
    )


def failure_lines(rows) -> list[str]:
    """What was said of structures without a result, the same words counted together."""
    messages: dict[str, list[str]] = {}
    for row in rows:
        messages.setdefault(row.message or "no result", []).append(row.id)
    return [
        f"{len(ids)} without a result: {message} ({', '.join(ids)})"
        for message, ids in messages.items()
    ]


def area_under_curve(scores, positive) -> float:
    """Area under the receiver operating characteristic, nan where only one class is there.

    It is the share of (positive, negative) pairs in which the positive has the higher score, ties
    counting half (Mann & Whitney, Ann. Math. Stat. 18, 50, 1947).
    """
    positive = np.asarray(positive, dtype=bool)
    n_positive, n_negative = positive.sum(), (~positive).sum()
    if n_positive == 0 or n_negative == 0:
        return math.nan
    ranks = rankdata(scores)
    return float(
        (ranks[positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative)
    )


def volume_bin(volume) -> str:
    """Name of the bin of a cell volume in A^3."""
    below = [bound for bound in VOLUME_BOUNDS if bound <= volume]
    above = [bound for bound in VOLUME_BOUNDS if bound > volume]
    if not below:
        return f"<{above[0]}"
    return f"{below[-1]}-{above[0]}" if above else f">{below[-1]}"


def _confidence_lines(rows):
    """What the confidence is worth, and whether a better candidate was passed over."""
    rows = [row for row in rows if row.details]
    if not rows:
        return []
    sums = np.sum([row.details["reliability"] for row in rows], axis=0)
    n, confidence, cosine = sums[sums[:, 0] > 0].T
    told = [row for row in rows if row.r > R_SOLVED or row.r < R_WRONG]
    auc = area_under_curve([row.confidence for row in told], [row.r > R_SOLVED for row in told])
    passed_over = [
        row.id for row in rows if row.r <= R_SOLVED and row.details["r_candidates"] > R_SOLVED
    ]
    return [
        "",
        "Confidence of a reflection, its mean cosine of the phase error, and reflections:",
        "  "
        + "  ".join(f"{c / k:.2f} {t / k:.2f} ({k:.0f})" for k, c, t in zip(n, confidence, cosine)),
        f"Expected calibration error {np.abs(confidence - cosine).sum() / n.sum():.3f};"
        f" AUC of r > {R_SOLVED} against r < {R_WRONG}: {_figure(auc, 3)}",
        f"A candidate with r > {R_SOLVED} was there and not the first:"
        f" {', '.join(passed_over) or 'none'}",
    ]


def _phasing_lines(rows):
    bins = list(dict.fromkeys(volume_bin(row.volume) for row in sorted(rows, key=_volume)))
    groups: dict[str, list] = {}
    for row in rows:
        groups.setdefault(_reference_symbol(row.space_group), []).append(row)
    lines = []
    for symbol, members in sorted(groups.items(), key=_group_number):
        in_bins = {
            name: [row for row in members if volume_bin(row.volume) == name] for name in bins
        }
        filled = {name: of_bin for name, of_bin in in_bins.items() if of_bin}
        lines += [_phasing_line(symbol, name, of_bin) for name, of_bin in filled.items()]
        if len(filled) > 1:
            lines.append(_phasing_line(symbol, _ALL, members))
    if len(groups) > 1:
        for name in bins:
            of_bin = [row for row in rows if volume_bin(row.volume) == name]
            lines.append(_phasing_line(_ALL, name, of_bin))
        lines.append(_phasing_line(_ALL, _ALL, rows))
    return lines


def _phasing_line(symbol, volume, rows):
    r = np.array([row.r for row in rows])
    confidence = [math.nan if row.confidence is None else row.confidence for row in rows]
    known = ~np.isnan(confidence)
    auc = area_under_curve(np.asarray(confidence)[known], (r > R_SOLVED)[known])
    seconds = np.mean([row.seconds for row in rows])
    return (
        f"{symbol:<14s} {volume:>9s} {len(rows):4d} {r.mean():7.3f}"
        f" {100 * (r > R_SOLVED).mean():5.0f} % {100 * (r > R_USEFUL).mean():5.0f} %"
        f" {_figure(auc, 2):>6s} {seconds:8.1f}"
    )


def _reference_symbol(space_group):
    return str(sgtbx.space_group_info(space_group).reference_setting())


def _group_number(item):
    return sgtbx.space_group_info(item[0]).type().number()


def _volume(row):
    return row.volume


def _figure(value, decimals):
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return f"{value:.{decimals}f}"
