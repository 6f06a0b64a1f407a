"""The report as a document: well formed, complete, asking for nothing outside."""

import re
from html.parser import HTMLParser

import pytest

from phai_cctbx.io.report.write import write_report

#: Elements that are never closed.
VOID = {"meta", "input", "br"}


class Document(HTMLParser):
    """Counts elements, and keeps the addresses that they name."""

    def __init__(self, text):
        super().__init__()
        self.open, self.count, self.addresses = [], {}, []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.count[tag] = self.count.get(tag, 0) + 1
        self.addresses += [value for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.count[tag] = self.count.get(tag, 0) + 1

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def written(tmp_path):
    """Function: result -> text of its report."""

    def write(result):
        return write_report(tmp_path / "x.html", result).read_text(encoding="utf-8")

    return write


@pytest.mark.parametrize("name", ["solved_result", "phased_result"])
def test_it_is_whole(name, written, request):
    result = request.getfixturevalue(name)
    text = written(result)
    document = Document(text)
    assert document.addresses == []
    assert document.count["svg"] >= 7 and document.count["script"] == 3
    assert "a warning &lt;first&gt;" in text
    assert text.index("<h2>Warnings") < text.index("<h2>Structure and map")
    for section in ("Phases", "Data"):
        assert f"<h2>{section}</h2>" in text
    visible = re.sub(r"<(script|style).*?</\1>", "", text, flags=re.S)
    assert not re.search(r"\b(nan|inf|None)\b", visible)
    assert len(text) < 1_500_000


def test_figures_of_the_refinement_stand_in_it(solved_result, written):
    text = written(solved_result)
    solution = solved_result.solution
    for figure in (solution.r1, solution.wr2, solution.r1_all):
        assert f"{figure:.4f}" in text
    assert "Hooft y = 0.020 \u00b1 0.050 from 120 Bijvoet pairs" in text
    assert "<h2>Refinement</h2>" in text and "by the refined structure" in text
    expected = re.search(r"by r = ([\d.]+); ([\d.]+) were expected", text)
    assert 0.5 < float(expected[1]) <= 1
    assert float(expected[2]) == pytest.approx(solved_result.confidence, abs=0.001)


def test_phases_alone_claim_no_structure(phased_result, written):
    text = written(phased_result)
    assert "<h2>Refinement</h2>" not in text and "R1," not in text
    assert "by the confidence of the phases alone" in text
