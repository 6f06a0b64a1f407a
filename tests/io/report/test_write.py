"""The report as a document: well formed, complete, asking for nothing outside."""

import re
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest

# cctbx
from cctbx import sgtbx
from cctbx.array_family import flex

from phai_cctbx.io.report.structure import difference_table, outlier_table
from phai_cctbx.io.report.write import write_report
from phai_cctbx.refinement.molecule_judgement import AtomFigure, Judgement

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
    assert "<h2>Refinement</h2>" in text and "judged by the refined structure" in text
    expected = re.search(r"by r = ([\d.]+); ([\d.]+) were expected", text)
    assert 0.5 < float(expected[1]) <= 1
    assert float(expected[2]) == pytest.approx(solved_result.confidence, abs=0.001)


def test_difference_peaks_name_the_atom_that_is_missing(solved_result):
    """Left out of the model, the oxygen is the highest peak, where it was taken from."""
    refined = solved_result.solution.refinement
    structure = refined.xray_structure
    labels = list(structure.scatterers().extract_labels())
    oxygen = labels.index("O1")
    without = structure.select(flex.size_t([i for i in range(len(labels)) if i != oxygen]))
    full = refined.f_calc
    left = full.structure_factors_from_scatterers(without, algorithm="direct").f_calc()
    difference = full.customized_copy(data=full.data() - left.data())
    rows = re.findall(r"<tr>(.*?)</tr>", difference_table(difference, without))
    assert len(rows) == 1 + 2 * 5
    height, distance, label, x, y, z = re.findall(r"<td[^>]*>(.*?)</td>", rows[1])
    assert float(height) > 3 and label == "C1" and float(distance) == pytest.approx(1.37, abs=0.1)
    peak = sgtbx.sym_equiv_sites(
        structure.space_group(), (float(x), float(y), float(z)), structure.unit_cell()
    )
    site = structure.sites_frac()[oxygen]
    assert sgtbx.min_sym_equiv_distance_info(peak, site).dist() < 0.1


def test_the_reflection_that_was_spoilt_disagrees_most(solved_result):
    solution = solved_result.solution
    f_sq = solved_result.prepared.f_sq.map_to_asu()
    strongest = flex.max_index(f_sq.data())
    data = f_sq.data().deep_copy()
    data[strongest] *= 4
    f_calc = solution.refinement.fc_sq.data().as_numpy_array() ** 0.5
    f_obs = (data.as_numpy_array().clip(0) / solution.scale_factor) ** 0.5
    spoilt = f_sq.customized_copy(data=data, sigmas=f_sq.sigmas())
    rows = re.findall(r"<tr>(.*?)</tr>", outlier_table(f_obs, f_calc, solution, spoilt))
    hkl = " ".join(str(x) for x in f_sq.indices()[strongest])
    assert f">{hkl}<" in rows[1]


def test_a_known_molecule_is_judged_atom_by_atom(solved_result, written):
    atoms = (
        AtomFigure("O1", 0.93, 0.98, False),
        AtomFigure("C<7>", 0.12, 0.2, True),
    )
    level = SimpleNamespace(name="torsions", n_parameters=9, n_restraints=0, held_out_r=0.046)
    known = SimpleNamespace(
        molecules=(SimpleNamespace(name="Oc1ccccc1"),),
        placed=SimpleNamespace(best=SimpleNamespace(r1=0.21)),
        refined=SimpleNamespace(levels=(level,), level=level),
        judgement=Judgement(False, ("x",), 0.31, float("inf"), 0.9, atoms, ()),
    )
    solved_result = SimpleNamespace(
        **{**vars(solved_result), "known": known, "proposals": None, "solved_by": "molecule"}
    )
    text = written(solved_result)
    assert text.index("<h2>Known molecule</h2>") < text.index("<h2>Refinement</h2>")
    assert "for and against the molecule" in text
    assert "C&lt;7&gt;" in text and text.count("not shown by the data") == 1
    assert "no other found" in text and "0.310" in text


def test_phases_alone_claim_no_structure(phased_result, written):
    text = written(phased_result)
    assert "<h2>Refinement</h2>" not in text and "R1," not in text
    assert "by the confidence of the phases alone" in text
