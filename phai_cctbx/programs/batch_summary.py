"""The page of a batch: how many sets ended how, and a table of all of them."""

from __future__ import annotations

from collections import Counter
from html import escape
from pathlib import Path

from phai_cctbx.io.report.page import Html, badge, keys, link, page, table
from phai_cctbx.programs.batch_rows import CRASHED, NOT_SOLVED, REFUSED, SOLVED, STATES, TIMED_OUT

#: How often the browser looks again while the batch runs, s.
REFRESH = 10

_KINDS = {SOLVED: "good", NOT_SOLVED: "warn", REFUSED: "bad", TIMED_OUT: "bad", CRASHED: "bad"}
_COLUMNS = (
    "Data set",
    "State",
    "Space group",
    "Formula",
    ">d_min / \u00c5",
    ">Complete",
    ">R(int)",
    ">R1",
    ">wR2",
    ">GooF",
    ">Confidence",
    ">Time / s",
)
#: A click on a column title sorts by it, numbers as numbers.
_SORT = """<script>
document.querySelectorAll("#sets th").forEach((th, i) => {
  th.style.cursor = "pointer";
  th.onclick = () => {
    const body = document.querySelector("#sets tbody"), down = th.dataset.down !== "1";
    th.dataset.down = down ? "1" : "";
    const value = row => row.cells[i].textContent.replace("%", "").trim();
    const order = (a, b) => {
      const x = parseFloat(value(a)), y = parseFloat(value(b));
      return isNaN(x) || isNaN(y) ? value(a).localeCompare(value(b)) : x - y;
    };
    [...body.rows].sort((a, b) => down ? order(a, b) : order(b, a))
      .forEach(row => body.append(row));
  };
});
</script>"""


def summary_page(folder, rows, n_sets: int) -> str:
    """The HTML document.

    Parameters
    ----------
    folder : path
        Where the data sets lie.
    rows : list of SetRow
        Of the sets that have ended.
    n_sets : int
        Of all sets.
    """
    count = Counter(row.state for row in rows)
    done = len(rows) == n_sets
    pairs = [("data sets", str(n_sets)), *((state, str(count[state])) for state in STATES)]
    if not done:
        pairs.insert(1, ("to go", str(n_sets - len(rows))))
    state = badge("finished", "good") if done else badge("running", "warn")
    head = "" if done else f'<meta http-equiv="refresh" content="{REFRESH}">\n'
    body = (
        f"<header><h1>{escape(Path(folder).name)}</h1>{state}</header>\n{keys(pairs)}\n"
        f"<section>{table(_COLUMNS, [_cells(row) for row in rows], identity='sets')}</section>"
        f"\n{_SORT}"
    )
    return page(f"{Path(folder).name}: phai_cctbx.batch", body, head)


def _cells(row):
    name = link(row.id, f"{row.results}.html") if row.results else Html(escape(row.id))
    if row.message:
        name = Html(f'{name}<br><span class="faint">{escape(row.message)}</span>')
    complete = "" if row.completeness is None else f"{100 * row.completeness:.1f} %"
    return [
        name,
        badge(row.state, _KINDS[row.state]),
        row.space_group or "",
        row.formula or "",
        _number(row.d_min, 2),
        complete,
        _number(row.r_int, 4),
        _number(row.r1, 4),
        _number(row.wr2, 4),
        _number(row.goof, 3),
        _number(row.confidence, 3),
        _number(row.seconds, 1),
    ]


def _number(value, decimals):
    return "" if value is None else f"{value:.{decimals}f}"
