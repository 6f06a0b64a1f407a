"""The account of a run for a crystallographer, as plain lines for screen and log file."""

from __future__ import annotations

import math

from phai_cctbx.io.write_cif import formula


def heading(text: str) -> list[str]:
    """A section title."""
    return ["", text, "-" * len(text)]


def data_lines(data, prepared) -> list[str]:
    """Crystal and data statistics.

    Parameters
    ----------
    data : phai_cctbx.io.crystal_data.CrystalData
    prepared : phai_cctbx.phasing.normalisation.PreparedData
    """
    symmetry = data.crystal_symmetry
    cell = symmetry.unit_cell()
    lengths_angles = cell.parameters()
    statistics = prepared.statistics
    r_int = "merged" if statistics.r_int is None else f"R(int) {statistics.r_int:.4f}"
    lines = [
        *_pair("Title", data.title or "-"),
        *_pair("Space group", str(symmetry.space_group_info())),
        *_pair(
            "Cell",
            " ".join(f"{x:.4f}" for x in lengths_angles[:3])
            + " A, "
            + " ".join(f"{x:.3f}" for x in lengths_angles[3:])
            + f" deg, {cell.volume():.1f} A^3",
        ),
        *_pair(
            "Cell contents",
            f"{formula(data.composition.unit_cell_contents)} ({data.composition.source})",
        ),
        *_pair("Radiation", _radiation(data)),
        *_pair(
            "Reflections",
            f"{statistics.n_observations} read, {statistics.n_unique} unique, {r_int},"
            f" {statistics.redundancy:.1f} times measured",
        ),
        *_pair(
            "Resolution",
            f"{_resolution(statistics.d_max)} - {statistics.d_min:.3f} A,"
            f" {100 * statistics.completeness:.1f} % complete",
        ),
        *_pair(
            "Left out",
            f"{statistics.n_absences} systematic absences"
            f" ({statistics.n_strong_absences} of them strong),"
            f" {statistics.n_rejected} unusable, {statistics.n_outside} beyond the limits",
        ),
        *_pair(
            "Wilson plot", f"B {prepared.wilson_b:.2f} A^2, {statistics.n_negative} intensities < 0"
        ),
        "",
        f"{'d_max':>8s} {'d_min':>6s} {'unique':>7s} {'compl.':>7s} {'redund.':>7s}"
        f" {'I/sigma':>7s} {'R(int)':>7s}",
    ]
    for shell in statistics.shells:
        lines.append(
            f"{_resolution(shell.d_max):>8s} {shell.d_min:6.3f} {shell.n_unique:7d}"
            f" {100 * shell.completeness:5.1f} % {shell.redundancy:7.1f}"
            f" {_figure(shell.mean_i_over_sigma, 1):>7s} {_figure(shell.r_int, 3):>7s}"
        )
    return lines


def phasing_lines(candidates) -> list[str]:
    """Table of phasing candidates, in the order in which they are tried."""
    lines = [f"{'':>3s} {'strategy':<18s} {'reflections':>11s} {'d_min':>6s} {'expected r':>10s}"]
    for number, result in enumerate(candidates, start=1):
        merits = ", ".join(
            f"{name} {_merit(value)}"
            for name, value in result.figures_of_merit.items()
            if name not in ("expected_r", "d_min")
        )
        lines.append(
            f"{number:3d} {result.strategy:<18s} {result.f_phased.size():11d}"
            f" {result.f_phased.d_min():6.2f} {result.expected_r:10.3f}  {merits}".rstrip()
        )
    return lines


def solution_lines(solution) -> list[str]:
    """Final figures of a refined structure."""
    a, b = solution.weighting
    return [
        *_pair(
            "Refinement",
            f"{solution.n_reflections} reflections, {solution.n_observed} with I > 2 sigma(I),"
            f" {solution.n_parameters} parameters, {solution.n_restraints} restraints",
        ),
        *_pair(
            "Agreement",
            f"R1 {solution.r1:.4f} (all {solution.r1_all:.4f}), wR2 {solution.wr2:.4f},"
            f" GooF {solution.goof:.3f}",
        ),
        *_pair("Scatterers", solution.scatterers),
        *_pair("Weights", f"a {a:.4f}, b {b:.4f}"),
        *_pair(
            "Difference map",
            f"{solution.difference_peak:+.2f} / {solution.difference_hole:+.2f} e/A^3",
        ),
        *_pair("Shift/esd", _largest_shift(solution.max_shift_over_esd)),
        *_hand_lines(solution.absolute_structure),
        *_twin_lines(solution),
        *_disorder_lines(solution),
    ]


def _hand_lines(absolute) -> list[str]:
    """x by every method that gave one."""
    if absolute is None:
        return []
    estimates = (
        ("refined", absolute.flack, absolute.flack_esd),
        ("Parsons", absolute.parsons, absolute.parsons_esd),
        ("Hooft", absolute.hooft, absolute.hooft_esd),
    )
    told = [f"{name} {x:.3f}({esd:.3f})" for name, x, esd in estimates if math.isfinite(esd)]
    return _pair("Flack x", f"{', '.join(told)}; {absolute.n_pairs} Friedel pairs")


def _twin_lines(solution) -> list[str]:
    """The second domain, or what the laws of the lattice would give."""
    if solution.twin is not None:
        return _pair("Twin", f"{solution.twin.as_hkl}, fraction {solution.twin.fraction:.3f}")
    tried = [f"{law} {share:.3f}" for law, (share, _) in solution.twin_fractions.items()]
    return _pair("Twin laws", f"none; fractions would be {', '.join(tried)}") if tried else []


def _disorder_lines(solution) -> list[str]:
    """The groups in two parts, with the occupancy of the first."""
    lines = []
    for group in disorder_summary(solution):
        first, second = (" ".join(group[part]) for part in ("first", "second"))
        lines += _pair("Disorder", f"{first} {group['occupancy']:.3f}, or {second}")
    return lines


def disorder_summary(solution) -> list[dict]:
    """Groups in two parts: labels of the atoms that stand for one another, occupancy, esd.

    Parameters
    ----------
    solution : Solution or None
    """
    if solution is None:
        return []
    summary = []
    for group in getattr(solution, "disorder", ()):
        first, second = group.labels(solution.xray_structure)
        summary.append(
            {"first": first, "second": second, "occupancy": group.occupancy, "esd": group.esd}
        )
    return summary


def summary_lines(result) -> list[str]:
    """What came out, warnings first.

    Parameters
    ----------
    result : phai_cctbx.programs.pipeline.SolveResult
    """
    lines = [f"Warning: {warning}" for warning in result.warnings]
    lines += [""] if lines else []
    lines += [*_pair("Solved", _verdict(result))]
    lines += [*_pair("Formula", f"{result.formula}, {result.space_group}")]
    if result.solution is not None:
        lines += [
            *_pair("Atoms", f"{result.n_atoms} and {result.n_hydrogens} hydrogens"),
            *_pair(
                "Agreement", f"R1 {result.r1:.4f}, wR2 {result.wr2:.4f}, GooF {result.goof:.3f}"
            ),
        ]
    lines += [
        *_pair("Phases", f"{result.phasing.strategy}, expected r {result.confidence:.3f}"),
        *_pair("Time", f"{result.seconds:.1f} s"),
        *_pair("Results", f"{result.files['res'].with_suffix('')}.{{{','.join(result.files)}}}"),
    ]
    return lines


def _verdict(result):
    if result.solved_by == "r1":
        return f"{'yes' if result.solved else 'no'}, by the refined structure"
    if result.solved_by == "proposal":
        name = result.proposals.taken.proposal.name
        return f"yes, by {name}, which the cell contents suggest: nothing speaks against it"
    if result.solved_by == "molecule":
        verdict = "nothing speaks against" if result.solved else "there is evidence against"
        return f"{'yes' if result.solved else 'no'}, {verdict} the molecule that was given"
    return (
        f"{'yes' if result.solved else 'no'}, by the confidence of the phases alone: data to"
        f" {result.d_min:.2f} A do not decide between structures that refine freely"
    )


def _largest_shift(value):
    return "not estimated" if not math.isfinite(value) else f"{value:.3f} at most"


def _pair(name, text):
    return [f"{name:<16s} {text}"]


def _radiation(data):
    if data.wavelength is None:
        return f"{data.radiation}, wavelength not known"
    return f"{data.radiation}, {data.wavelength:.5f} A"


def _resolution(d):
    return "inf" if not math.isfinite(d) or d <= 0 else f"{d:.2f}"


def _merit(value):
    return f"{value:d}" if isinstance(value, int) else f"{value:.3f}"


def _figure(value, decimals):
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.{decimals}f}"
