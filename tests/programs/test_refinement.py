"""phai_cctbx.refine: models in, files out, and what it refuses."""

import json
from pathlib import Path

import pytest

from libtbx.utils import Sorry

from phai_cctbx.aspherical import tables
from phai_cctbx.command_line import refine as command
from phai_cctbx.programs import refinement
from phai_cctbx.programs.hirshfeld_stage import parse_charges
from phai_cctbx.programs.model_file import read_model
from phai_cctbx.refinement.least_squares import prepare_scattering

MODEL = """WGHT 0.02 0.0
FVAR 1.0
C1   1  10.000000 10.500000  0.3275  10.25  0.0100
O1   4  10.000000 10.500000  0.5955  10.25  0.0120
N1   3   0.144700  0.644700  0.1785  10.50  0.0140
H1   2   0.252000  0.752000  0.2800  10.50  0.0300
H2   2   0.143100  0.643100 -0.0100  10.50  0.0300
"""


@pytest.fixture
def urea_files(write_urea):
    """urea.res and urea.hkl with amplitudes of spherical atoms, in an empty working folder."""
    folder = write_urea(MODEL, "res", [], sigma=(0, 0))
    urea = read_model(folder / "urea.res").xray_structure
    f_sq = urea.structure_factors(d_min=0.7, anomalous_flag=False).f_calc().as_intensity_array()
    write_urea(MODEL, "res", ((h, 10 * x) for h, x in f_sq), sigma=(0.05, 0.01))
    return folder


def test_command_writes_all_files_and_repeats_from_its_eff(urea_files):
    assert command.run(["urea.res", "--quiet"]) == 0
    names = {path.name for path in urea_files.glob("urea_phai.*")}
    assert names == {f"urea_phai.{ending}" for ending in refinement.EXTENSIONS}
    summary = json.loads((urea_files / "urea_phai.json").read_text())
    assert summary["r1"] < 0.01
    assert summary["n_xh"] == 2
    assert command.run(["urea.res", "--quiet"]) == 1
    assert command.run(["urea_phai.eff", "--quiet", "output.overwrite=True"]) == 0
    again = json.loads((urea_files / "urea_phai.json").read_text())
    assert again["wr2"] == summary["wr2"]


def test_refinement_with_a_table(urea_files):
    iam = refinement.refine_model("urea.res", directory=None, extinction="no")
    model = read_model("urea.res").xray_structure
    prepare_scattering(model, "xray", 0.71073)
    table = tables.spherical_table(model, iam.refinement.fc_sq.indices())
    tables.write_tsc("urea.tsc", table)
    with_table = refinement.refine_model(
        "urea.res", scattering="tsc:urea.tsc", hydrogens="isotropic", extinction="no"
    )
    assert with_table.refinement.r1 == pytest.approx(iam.refinement.r1, abs=1e-5)
    for ending in ("tsc", "deformation.ccp4", "deformation.png"):
        assert (urea_files / f"urea_phai.{ending}").stat().st_size > 100


def test_wrong_scattering_is_refused(urea_files, capsys):
    with pytest.raises(Sorry, match="iam, har or tsc:FILE"):
        refinement.refine_model("urea.res", scattering="xrf")
    assert command.run(["urea.res", "scattering=tsc:none.tsc", "--quiet"]) == 1
    assert "no such file" in capsys.readouterr().err
    assert not list(urea_files.glob("urea_phai*"))


def test_models_that_cannot_be_refined(urea_files):
    model = Path("urea.res").read_text()
    twin = urea_files / "twin.res"
    twin.write_text(model.replace("WGHT", "TWIN 0 1 0 1 0 0 0 0 -1\nWGHT"))
    with pytest.raises(Sorry, match="TWIN"):
        read_model(twin)
    empty = urea_files / "empty.res"
    empty.write_text(model.partition("C1 ")[0] + "HKLF 4\nEND\n")
    with pytest.raises(Sorry, match="no atoms"):
        read_model(empty)
    broken = urea_files / "broken.res"
    broken.write_text(model.replace("10.000000 10.500000  0.3275", "10.0 x 0.3"))
    with pytest.raises(Sorry, match="broken.res"):
        read_model(broken)


def test_charges_given_as_text():
    assert parse_charges("Cl:-1, C10H10Fe:+1:2") == {
        "Cl": (-1, None),
        "C10H10Fe": (1, 2),
    }
    with pytest.raises(Sorry, match="FORMULA:CHARGE"):
        parse_charges("Cl")


def test_model_keeps_weights_temperature_and_parts(urea_files):
    path = urea_files / "x.res"
    path.write_text(Path("urea.res").read_text().replace("H2   2", "PART 1\nH2   2"))
    model = read_model(path)
    assert (model.weighting.a, model.temperature) == (0.02, -213)
    assert model.conformers == (0, 0, 0, 0, 1)


def test_riding_hydrogens_are_freed(thpp_folder, tmp_path):
    """Sucrose as cctbx installs it, its hydrogens on riding groups."""
    lines = (thpp_folder / "sucrose_p1.res").read_text().splitlines()
    path = tmp_path / "sucrose.res"
    path.write_text("\n".join(x for x in lines if x[:4] not in ("TWIN", "BASF")))
    model = read_model(path)
    assert len(model.constraints) > 0
    assert model.without_riding().constraints == ()
