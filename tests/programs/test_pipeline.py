"""From files to a refined structure and its files."""

import html
import json
from pathlib import Path

import numpy as np
import pytest

# cctbx
import iotbx.cif
import iotbx.mtz
from cctbx import xray
from iotbx.map_manager import map_manager
from libtbx.utils import Sorry

import phai_cctbx
from phai_cctbx.phasing.scoring import R_SOLVED, score_r
from phai_cctbx.programs import pipeline
from phai_cctbx.programs.result_checks import cif_faults, refined_again
from phai_cctbx.refinement.comparison import compare

CONTRACT_KEYS = {
    "solved", "r1", "wr2", "goof", "space_group", "formula", "n_atoms", "confidence", "d_min",
    "seconds", "warnings",
}  # fmt: skip


@pytest.mark.slow
def test_simulated_sucrose_comes_out_whole(sucrose, tmp_path):
    result = phai_cctbx.solve(sucrose.ins, directory=tmp_path)
    assert result.solved and result.solved_by == "r1" and result.exit_status == 0
    assert result.r1 < 0.06
    comparison = compare(result.solution.xray_structure, sucrose.structure)
    assert comparison.n_matched == 23 and comparison.n_missing == 0 and comparison.n_extra == 0
    assert comparison.wrong_elements == 0
    assert comparison.max_distance < 0.05
    assert result.n_atoms == 23 and result.formula == "C12 H22 O11"

    paths = {path.name for path in tmp_path.iterdir()}
    assert paths == {f"sucrose_phai.{extension}" for extension in pipeline.EXTENSIONS}
    refined = result.solution.xray_structure
    from_res = xray.structure.from_shelx(filename=str(result.files["res"]))
    (from_cif,) = iotbx.cif.reader(str(result.files["cif"])).build_crystal_structures().values()
    for written in (from_res, from_cif):
        assert written.scatterers().size() == refined.scatterers().size()
        assert compare(written, refined).max_distance < 0.001
    arrays = {
        array.info().labels[0]: array
        for array in iotbx.mtz.object(str(result.files["mtz"])).as_miller_arrays()
    }
    f_calc = sucrose.structure.structure_factors(d_min=0.9).f_calc()
    assert score_r(arrays["FC"], f_calc).r > 0.98
    assert score_r(arrays["FPHAI"], f_calc).r > 0.8
    density = map_manager(file_name=str(result.files["ccp4"])).map_data()
    at_atoms = [
        density.eight_point_interpolation(scatterer.site)
        for scatterer in refined.scatterers()
        if scatterer.scattering_type == "O"
    ]
    assert min(at_atoms) > 5 * density.as_1d().sample_standard_deviation()


@pytest.mark.slow
def test_thpp_is_solved_and_told(thpp):
    result = phai_cctbx.solve("thpp.ins")
    assert result.solved
    assert result.r1 < 0.06
    assert (result.n_atoms, result.formula) == (16, "C10 H10 F2 N4")
    summary = json.loads(result.files["json"].read_text())
    assert set(summary) >= CONTRACT_KEYS
    assert summary["solved"] is True and summary["space_group"] == "P 1 21/n 1"
    assert summary["r1"] == result.r1 and summary["d_min"] == pytest.approx(0.70, abs=0.01)
    log = result.files["log"].read_text()
    for told in ("Data\n----", "Phasing\n-------", "Summary\n-------", "P 1 21/n 1", "R1 0.0"):
        assert told in log
    # other programs of cctbx take the files as theirs
    assert cif_faults(result.files["cif"]) == []
    assert refined_again(result.files["res"], "thpp.hkl") == pytest.approx(result.r1, abs=0.001)
    with_neut = Path("neut.res")
    with_neut.write_text(Path(result.files["res"]).read_text().replace("SFAC", "NEUT\nSFAC", 1))
    assert refined_again(with_neut, "thpp.hkl") == pytest.approx(result.r1, abs=0.001)
    # two CH2 of the ring are disordered, 0.88 in the published model; two parts in all files
    (group,) = result.solution.disorder
    assert len(group.pairs) == 2 and len(group.first) == len(group.second) == 6
    assert group.occupancy == pytest.approx(0.88, abs=0.01) and group.esd < 0.01
    assert [len(each["first"]) for each in summary["disorder"]] == [2]
    assert any(text.startswith("Disordered over two parts") for text in summary["warnings"])
    res = result.files["res"].read_text()
    assert "PART 1" in res and "PART 2" in res and f" {group.occupancy:.5f}\n" in res
    (block,) = iotbx.cif.reader(str(result.files["cif"])).model().values()
    in_part = dict(zip(block["_atom_site_label"], block["_atom_site_disorder_group"], strict=True))
    assert sorted(in_part.values()).count("2") == 6
    for one, other in zip(
        block["_geom_bond_atom_site_label_1"], block["_geom_bond_atom_site_label_2"], strict=True
    ):
        assert {in_part[one], in_part[other]} != {"1", "2"}
    # the published model of the same data: Olex2's sample, minor disorder included
    published = iotbx.cif.reader(str(thpp_cif(thpp))).build_crystal_structures()
    comparison = compare(result.solution.xray_structure, next(iter(published.values())))
    assert comparison.n_missing == 0 and comparison.max_distance < 0.1


def thpp_cif(ins):
    import smtbx

    return f"{smtbx.__path__[0]}/regression/test_data/thpp.cif"


def test_coarse_data_give_phases_and_no_structure(thpp):
    result = phai_cctbx.solve("thpp.ins", d_min=2.0, n_starts=4)
    assert result.solution is None and result.solved_by == "confidence"
    assert result.solved == (result.confidence > R_SOLVED)
    summary = json.loads(result.files["json"].read_text())
    assert summary["r1"] is None and summary["n_atoms"] is None
    assert summary["confidence"] == pytest.approx(result.phasing.expected_r)
    assert {path.name for path in thpp.parent.glob("thpp_phai.*")} == {
        f"thpp_phai.{extension}" for extension in pipeline.EXTENSIONS
    }
    peaks = [line for line in result.files["res"].read_text().splitlines() if line[:1] == "Q"]
    assert len(peaks) >= 4
    assert summary["n_atoms_expected"] == 16 and len(summary["peaks"]) == len(peaks)
    heights = [peak["over_sigma"] for peak in summary["peaks"]]
    assert heights == sorted(heights, reverse=True) and heights[-1] > 0
    (left_open,) = [text for text in summary["warnings"] if text.startswith("No structure")]
    assert "No molecule was given" in left_open
    for name in ("log", "html"):
        assert left_open in html.unescape(result.files[name].read_text())


def test_the_eff_repeats_the_run_and_another_seed_does_not(thpp, monkeypatch):
    from phai_cctbx.command_line.solve import run

    # one pass solves nothing: seeds that lead to the solution would all lead to one
    monkeypatch.setattr("phai_cctbx.phasing.neural.anneal", lambda model, start, *_: model(start))
    arguments = ["d_min=2.0", "strategy=neural", "n_starts=2", "--quiet"]
    statuses = [run(["thpp.ins", "seed=7", *arguments])]
    first = json.loads((thpp.parent / "thpp_phai.json").read_text())
    phases = f_phased(thpp.parent / "thpp_phai.mtz")
    statuses.append(run(["thpp_phai.eff", "--overwrite", "--quiet"]))
    second = json.loads((thpp.parent / "thpp_phai.json").read_text())
    assert statuses[0] == statuses[1] in (0, 3)
    for summary in (first, second):
        del summary["seconds"]
    assert first == second and first["seed"] == 7
    assert np.array_equal(phases, f_phased(thpp.parent / "thpp_phai.mtz"))
    run(["thpp.ins", "seed=8", *arguments, "--overwrite"])
    assert not np.array_equal(phases, f_phased(thpp.parent / "thpp_phai.mtz"))


def f_phased(path):
    arrays = iotbx.mtz.object(str(path)).as_miller_arrays()
    (array,) = (array for array in arrays if array.info().labels[0] == "FPHAI")
    return array.data().as_numpy_array()


def test_existing_results_are_refused_before_the_work(thpp, monkeypatch):
    (thpp.parent / "thpp_phai.res").write_text("mine")
    monkeypatch.setattr(pipeline, "read", lambda *_: pytest.fail("the work has begun"))
    with pytest.raises(Sorry, match=r"thpp_phai\.res would be overwritten"):
        phai_cctbx.solve("thpp.ins")
    assert (thpp.parent / "thpp_phai.res").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"path": ""}, "No input"),
        ({"path": "nothing.ins"}, "nothing.ins"),
        ({"d_min": -1.0}, "d_min=-1.0"),
        ({"d_min": float("nan")}, "d_min=nan"),
        ({"d_min": 50.0}, "reflection"),
        ({"model": "none.pt"}, "none.pt"),
        ({"hkl": "none.hkl"}, "none.hkl"),
        ({"directory": "none"}, "none"),
        ({"prefix": "a/b"}, "prefix=a/b"),
        ({"strategy": "guess"}, "guess"),
        ({"strategy": "charge_flipping", "model": __file__}, "model"),
        ({"n_starts": 0}, "n_starts"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_parameters_leave_no_file(thpp, arguments, told):
    before = sorted(thpp.parent.iterdir())
    with pytest.raises(Sorry, match=told):
        phai_cctbx.solve(**{"path": "thpp.ins", **arguments})
    assert sorted(thpp.parent.iterdir()) == before


def test_bad_input_by_command_is_1_and_leaves_no_file(thpp, capsys):
    from phai_cctbx.command_line.solve import run

    thpp.with_suffix(".hkl").write_bytes(b"\x00\x01binary")
    before = sorted(thpp.parent.iterdir())
    assert run(["thpp.ins"]) == 1
    captured = capsys.readouterr()
    assert "Sorry: " in captured.err and "thpp.hkl" in captured.err
    assert "Traceback" not in captured.err + captured.out
    assert sorted(thpp.parent.iterdir()) == before


def test_screen_and_summary_off_a_terminal(thpp, capsys):
    from phai_cctbx.command_line.solve import run

    run(["thpp", "d_min=2.0", "n_starts=2", "--json-filename", "mine"])
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "Summary\n-------" in captured.out and "%|" not in captured.out
    written = json.loads((thpp.parent / "thpp_phai.json").read_text())
    assert json.loads((thpp.parent / "mine.json").read_text()) == written
