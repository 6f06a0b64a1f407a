"""Hirshfeld atoms as the last stage of a solution."""

import importlib.util
import json

import numpy as np
import pytest

from cctbx import crystal, miller, xray
from cctbx.array_family import flex
from libtbx.utils import Sorry

from phai_cctbx.aspherical import deformation
from phai_cctbx.aspherical.hirshfeld import FormFactors
from phai_cctbx.aspherical.neutron import hydrogen_bond_lengths
from phai_cctbx.programs import hirshfeld_stage, pipeline
from phai_cctbx.programs.hirshfeld_stage import HirshfeldParameters


@pytest.fixture
def urea(tmp_path, write_urea):
    """urea.ins and urea.hkl with amplitudes of Hirshfeld atoms (HF/STO-3G, isolated)."""
    for name in hirshfeld_stage.NEEDED:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    structure = xray.structure(
        crystal.special_position_settings(
            crystal.symmetry((5.565, 5.565, 4.684, 90, 90, 90), "P -4 21 m")
        ),
        flex.xray_scatterer(
            [
                xray.scatterer("C1", site=(0, 0.5, 0.3275), u=0.010),
                xray.scatterer("O1", site=(0, 0.5, 0.5955), u=0.012),
                xray.scatterer("N1", site=(0.1447, 0.6447, 0.1785), u=0.014),
                xray.scatterer("H1", site=(0.2557, 0.7557, 0.2841), u=0.030),
                xray.scatterer("H2", site=(0.1431, 0.6431, -0.0348), u=0.030),
            ]
        ),
    )
    structure.scattering_type_registry(table="it1992")
    har = HirshfeldParameters(
        method="HF", basis="STO-3G", cluster_radius=0, threads=1, cache=str(tmp_path / "cache")
    )
    miller_set = miller.build_set(structure, anomalous_flag=False, d_min=0.7)
    table, _ = FormFactors(har.quantum(), har.settings())(structure, miller_set.indices())
    f_calc = deformation.table_structure_factors(structure, table, miller_set.indices())
    intensities = zip(miller_set.indices(), 20 * np.abs(f_calc) ** 2, strict=True)
    write_urea("", "ins", intensities, sigma=(0.1, 0.01))
    return har


@pytest.mark.slow
def test_last_stage_finds_the_nuclei_and_writes_its_files(urea, tmp_path):
    """The N-H distances of the model come back (1.005 and 0.999 A), spherical atoms miss them."""
    result = pipeline.solve("urea.ins", scattering="har", har=urea)
    assert result.solved and result.exit_status == 0
    lengths = [b.length for b in hydrogen_bond_lengths(result.solution.xray_structure)]
    spherical = result.hirshfeld.result.independent_atoms
    short = [b.length for b in hydrogen_bond_lengths(spherical.xray_structure)]
    np.testing.assert_allclose(sorted(lengths), [0.9991, 1.0045], atol=0.004)
    assert min(short) < 0.96 and max(short) < min(lengths) - 0.01
    assert result.r1 < 0.6 * spherical.r1
    names = {path.name for path in tmp_path.glob("urea_phai.*")}
    endings = pipeline.EXTENSIONS + hirshfeld_stage.ASPHERICAL_EXTENSIONS
    assert names == {f"urea_phai.{ending}" for ending in endings}
    summary = json.loads((tmp_path / "urea_phai.json").read_text())
    assert summary["scattering"] == "har" and summary["r1"] == result.r1
    assert summary["hirshfeld"]["converged"] is True
    assert "AFIX" not in (tmp_path / "urea_phai.res").read_text()
    assert "Hirshfeld atom refinement" in (tmp_path / "urea_phai.cif").read_text()
    log = (tmp_path / "urea_phai.log").read_text()
    assert log.index("where nothing is in the cache yet") < log.index("HAR cycle 1")


@pytest.mark.slow
def test_stage_that_fails_is_said_and_loses_nothing(urea, tmp_path):
    """Without hydrogens there is no molecule to calculate: the structure stays, the status is 3."""
    result = pipeline.solve("urea.ins", hydrogens=False, scattering="har", har=urea)
    assert result.solved and result.exit_status == 3
    assert "no hydrogen atoms" in result.not_done[0]
    assert result.not_done[0] in result.warnings
    names = {path.name for path in tmp_path.glob("urea_phai.*")}
    assert names == {f"urea_phai.{ending}" for ending in pipeline.EXTENSIONS}
    summary = json.loads((tmp_path / "urea_phai.json").read_text())
    assert summary["scattering"] == "iam" and summary["not_done"]


def test_missing_packages_are_told_before_the_work(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Sorry, match="needs pyscf and finufft.*pip install"):
        hirshfeld_stage.check_possible(HirshfeldParameters())


def test_other_radiation_is_refused():
    with pytest.raises(Sorry, match="electron data"):
        hirshfeld_stage.check_possible(HirshfeldParameters(), "electron")
