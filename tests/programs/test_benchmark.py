"""The benchmark command on a folder of two known structures."""

import json
import shutil
from io import StringIO

import pytest

from phai_cctbx.command_line.benchmark import run


@pytest.fixture
def folder(thpp_folder, sucrose, tmp_path):
    """Measured thpp, calculated sucrose, and a CIF that holds no model."""
    measured = tmp_path / "measured" / "thpp"
    measured.mkdir(parents=True)
    for source, target in (("thpp.ins", "thpp.ins"), ("thpp.hkl", "thpp.hkl"),
                           ("thpp.cif", "thpp_ref.cif")):  # fmt: skip
        shutil.copy(thpp_folder / source, measured / target)
    structures = tmp_path / "structures"
    structures.mkdir()
    (structures / "sucrose.cif").write_text(cif_text(sucrose.structure))
    (structures / "broken.cif").write_text("data_broken\n_cell_length_a ?\n")
    return tmp_path


def cif_text(structure):
    out = StringIO()
    structure.as_cif_simple(out=out)
    return out.getvalue()


def rows_of(path):
    return {row["id"]: row for row in json.loads(path.read_text())}


@pytest.mark.slow
def test_phasing(folder, tmp_path, capsys):
    path = tmp_path / "rows.json"
    arguments = [f"data={folder}", f"json={path}", "strategy=charge_flipping", "jobs=2"]
    assert run(["d_min=1.0", *arguments]) == 0
    out = capsys.readouterr().out
    rows = rows_of(path)
    assert set(rows) == {"thpp", "sucrose", "broken"}
    assert rows["thpp"]["kind"] == "measured" and rows["sucrose"]["kind"] == "calculated"
    for name in ("thpp", "sucrose"):
        assert rows[name]["r"] > 0.95 and rows[name]["solved"] is True
        assert 0 < rows[name]["confidence"] <= 1
        assert rows[name]["d_min"] == pytest.approx(1.0, abs=0.01)
        assert rows[name]["r1"] is None and rows[name]["rmsd"] is None
    assert rows["sucrose"]["volume"] == pytest.approx(722.2, abs=0.1)
    assert rows["broken"]["r"] is None and "broken.cif" in rows["broken"]["message"]
    assert "Measured amplitudes" in out and "Calculated amplitudes" in out
    assert "without a result" in out

    assert run(arguments) == 1
    assert "overwrite=True" in capsys.readouterr().err
    assert run(["d_min=1.0", *arguments, "resume=True"]) == 0
    assert "0 structures to run, 3 kept" in capsys.readouterr().out
    assert rows_of(path) == rows


@pytest.mark.slow
def test_solve(folder, tmp_path, capsys):
    path = tmp_path / "rows.json"
    assert run(["job=solve", f"data={folder}", "ids=thpp", f"json={path}"]) == 0
    row = rows_of(path)["thpp"]
    assert row["job"] == "solve" and row["solved"] is True
    assert row["r1"] < 0.06 and row["wr2"] < 0.2
    assert row["rmsd"] < 0.05 and row["wrong_elements"] == 0
    assert row["message"].startswith("16 of 16 atoms, 0 extra, C-H +0")
    assert row["details"]["as_published"] is True and row["details"]["cif_faults"] == 0
    assert row["details"]["r1_again"] == pytest.approx(row["r1"], abs=0.001)
    told = capsys.readouterr().out
    assert "1 of 1 solved" in told and "1 of 1 as good as published" in told
    assert not list(folder.rglob("*_phai.*"))


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        ([], 1, "data=DIR is needed"),
        (["data=nowhere"], 1, "no such folder"),
        (["data=.", "job=molecule", "molecules=no.tsv"], 1, "molecules=no.tsv"),
        (["job=guess"], 2, "guess"),
        (["d_min=-2", "data=."], 1, "d_min=-2.0"),
        (["data=.", "json=nowhere/rows.json"], 1, "nowhere"),
        (["data=.", "resume=True"], 1, "resume=True"),
        (["data=.", "job=aspherical", "kinds=calculated"], 1, "measured data alone"),
        (["data=.", "jobs=0"], 2, "jobs"),
        (["data=.", "ids=no_such"], 1, "no_such"),
    ],
)
def test_what_cannot_run(arguments, status, told, folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    assert run([*arguments, "seed=1"]) == status
    assert told in capsys.readouterr().err
