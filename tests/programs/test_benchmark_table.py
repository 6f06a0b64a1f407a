"""Rows and tables of the benchmark."""

import json
import math
from dataclasses import replace

import pytest

# cctbx
from libtbx.utils import Sorry

from phai_cctbx.programs.benchmark_rows import Row, read_rows, write_rows
from phai_cctbx.programs.benchmark_table import (
    NOT_TRAINED,
    area_under_curve,
    phasing_table,
    solution_table,
    volume_bin,
)

KEYS = [
    "id", "job", "kind", "space_group", "volume", "d_min", "r", "confidence", "solved", "r1",
    "r1_published", "wr2", "goof", "rmsd", "wrong_elements", "seconds", "message",
]  # fmt: skip


def phased(id, space_group, volume, r, confidence, kind="calculated"):
    return Row(
        id=id, job="phasing", kind=kind, space_group=space_group, volume=volume, d_min=2.0, r=r,
        confidence=confidence, solved=r > 0.95, seconds=1.5,
    )  # fmt: skip


def test_rows_have_the_keys_of_the_contract_and_null(tmp_path):
    path = tmp_path / "rows.json"
    rows = [phased("x", "P 1 21/c 1", 612.5, 0.97, math.nan), Row(id="y", job="phasing", kind="m")]
    write_rows(path, rows)
    written = json.loads(path.read_text())
    assert [list(row) for row in written] == [KEYS, KEYS]
    assert written[0]["confidence"] is None
    assert written[1]["r"] is None
    assert read_rows(path)[1] == rows[1]
    assert [each.name for each in tmp_path.iterdir()] == ["rows.json"]


def test_other_files_are_not_taken_for_rows(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text('[{"id": 1}]')
    with pytest.raises(Sorry, match="rows.json"):
        read_rows(path)


@pytest.mark.parametrize(
    ("volume", "name"),
    [(220, "<500"), (500, "500-700"), (999.9, "700-1000"), (1500, "1500-2500"), (4000, ">2500")],
)
def test_volume_bins(volume, name):
    assert volume_bin(volume) == name


def test_area_under_curve_counts_ordered_pairs():
    # pairs (positive, negative): 0.9 > 0.6, 0.9 > 0.2, 0.5 < 0.6, 0.5 > 0.2: three of four
    assert area_under_curve([0.9, 0.5, 0.6, 0.2], [True, True, False, False]) == 0.75
    assert area_under_curve([0.5, 0.5], [True, False]) == 0.5
    assert math.isnan(area_under_curve([0.5, 0.7], [True, True]))


def test_settings_of_one_group_count_together_and_kinds_apart():
    rows = [
        phased("a", "P 1 21/c 1", 600, 0.99, 0.9),
        phased("b", "P 1 21/n 1", 600, 0.50, 0.4),
        phased("c", "P -1", 1600, 0.90, 0.8),
        phased("d", "P -1", 450, 0.97, 0.9, kind="measured"),
        Row(id="e", job="phasing", kind="calculated", message="out of memory"),
    ]
    lines = phasing_table(rows)
    text = "\n".join(lines)
    calculated, measured = text.split("Measured amplitudes", 1)
    assert "P 1 21/c 1       500-700    2   0.745    50 %    50 %   1.00" in calculated
    assert "P -1           1500-2500    1   0.900     0 %   100 %      -" in calculated
    assert "1 without a result: out of memory (e)" in calculated
    assert "P -1                <500    1   0.970   100 %   100 %" in measured
    assert "e" not in [line.split()[0] for line in measured.splitlines() if line]


def test_groups_that_the_model_does_not_know_are_apart():
    known = phased("a", "P -1", 600, 0.99, 0.9)
    unknown = replace(phased("b", "P b c a", 600, 0.30, 0.4), message=NOT_TRAINED)
    first, second = "\n".join(phasing_table([known, unknown])).split("not trained on")
    assert "P -1" in first and "P b c a" not in first
    assert "P b c a          500-700    1   0.300" in second and "P -1" not in second


def test_solution_table():
    rows = [
        Row(id="a", job="solve", kind="measured", space_group="P -1", solved=True, r1=0.04123,
            r1_published=0.039, rmsd=0.012, wrong_elements=0, seconds=11.0,
            message="16 of 16 atoms, 0 extra"),
        Row(id="b", job="solve", kind="measured", message="b.ins, line 1: no CELL"),
    ]  # fmt: skip
    text = "\n".join(solution_table(rows))
    assert "0.0412 0.0390" in text
    assert "16 of 16 atoms" in text
    assert "1 of 2 solved" in text
    assert "1 without a result: b.ins, line 1: no CELL (b)" in text
