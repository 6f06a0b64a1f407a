"""Charts and the frame of a page."""

import re

import numpy as np
import pytest

from phai_cctbx.io.report.charts import Chart, round_ticks, upper_end
from phai_cctbx.io.report.page import Html, page, table, warnings


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3.2, 7.9), (0, 1234), (0.001, 0.0042)])
def test_ticks_are_round_and_inside(low, high):
    ticks = round_ticks(low, high)
    assert 3 <= len(ticks) <= 12
    assert low <= ticks[0] + 1e-9 and ticks[-1] <= high + 1e-9
    assert all(len(f"{tick:g}") <= 7 for tick in ticks)


def test_the_end_of_an_axis_is_not_below_the_values():
    assert 7.7 <= upper_end([0.3, 7.7]) <= 10
    assert upper_end([np.nan]) > 0


def test_a_line_is_broken_where_a_value_is_missing():
    chart = Chart("x", "y", (0, 3), (0, 1)).line([0, 1, 2, 3], [0, 1, np.nan, 1])
    path = re.search(r'<path d="(M[^"]*)" fill="none" stroke="#1f5f8b"', chart.svg("t"))[1]
    assert path.count("M") == 2 and path.count("L") == 1


def test_bars_stand_on_zero_in_proportion():
    svg = Chart("x", "y", (0, 2), (0, 4)).bars([0, 1, 2], [2, 4]).svg("t")
    heights = [float(h) for h in re.findall(r'height="([\d.]+)" fill=', svg)]
    assert heights[1] == pytest.approx(2 * heights[0], abs=0.1)


def test_what_files_say_is_escaped():
    cells = table(["<i>"], [["<script>"], [Html("<em>x</em>")]])
    text = page("<b>", cells + warnings(["a < b"]))
    assert "<script>" not in text and "&lt;script&gt;" in text and "&lt;i&gt;" in text
    assert "<em>x</em>" in text and "a &lt; b" in text and "<title>&lt;b&gt;</title>" in text
    assert warnings([]) == ""
