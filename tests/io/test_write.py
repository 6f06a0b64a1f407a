"""What is written is read back the same: .res, .fcf, .mtz, .ccp4, .json, .eff."""

import json
import math
import os
from types import SimpleNamespace

import numpy as np
import pytest

import iotbx.phil
from cctbx import sgtbx, xray
from cctbx.array_family import flex
from iotbx import map_manager
from libtbx.utils import Sorry

from phai_cctbx.building.hydrogens import HydrogenGroup
from phai_cctbx.io.atomic_file import write_text
from phai_cctbx.io.crystal_data import Composition, CrystalData
from phai_cctbx.io.read import read
from phai_cctbx.io.write_fcf import write_fcf
from phai_cctbx.io.write_map import write_map
from phai_cctbx.io.write_mtz import write_mtz
from phai_cctbx.io.write_res import res_text, write_res
from phai_cctbx.io.write_summary import write_eff, write_json


def _solution(structure, **fields):
    defaults = {
        "xray_structure": structure,
        "r1": 0.0312,
        "r1_all": 0.0345,
        "wr2": 0.0812,
        "goof": 1.051,
        "weighting": (0.05, 0.12),
        "n_reflections": 500,
        "n_observed": 450,
        "n_parameters": 30,
        "n_restraints": 0,
        "scale_factor": 0.25,
        "difference_peak": 0.31,
        "difference_hole": -0.22,
        "riding": (),
    }
    return SimpleNamespace(**{**defaults, **fields})


def _data(structure, header=None, wavelength=0.71073):
    f_sq = structure.structure_factors(d_min=0.9).f_calc().as_intensity_array()
    f_sq = f_sq.customized_copy(sigmas=flex.sqrt(flex.abs(f_sq.data())) * 0.05 + 0.1)
    return CrystalData(
        title="simulated crystal",
        crystal_symmetry=structure.crystal_symmetry(),
        observations=f_sq.set_observation_type_xray_intensity(),
        composition=Composition({"C": 4.0, "N": 4.0, "O": 4.0, "S": 2.0}, "UNIT"),
        z=4,
        wavelength=wavelength,
        radiation="xray",
        provenance=(),
        rejected=(),
        shelx_header=header,
    )


def _relative_difference(structure, other):
    f_calc = structure.structure_factors(d_min=0.8, algorithm="direct").f_calc()
    f_other = f_calc.structure_factors_from_scatterers(other, algorithm="direct").f_calc()
    return flex.sum(flex.abs(f_calc.data() - f_other.data())) / flex.sum(flex.abs(f_calc.data()))


@pytest.mark.parametrize(
    "symbol", ["P -1", "P 1 21/n 1", "P 21 21 21", "P 21 21 2", "R -3 :H", "C 1 2/c 1"]
)
def test_res_gives_the_same_structure_factors(tmp_path, structure_in, symbol):
    structure = structure_in(symbol)
    path = write_res(tmp_path / "y.res", _data(structure), _solution(structure))
    back = xray.structure.from_shelx(file=path.open())
    assert back.space_group() == structure.space_group()
    back.scattering_type_registry(table="it1992")
    assert _relative_difference(structure, back) < 1e-4
    assert back.scatterers().extract_occupancies().all_approx_equal(1, 1e-4)


def test_res_moves_the_origin_to_the_centre_of_symmetry(tmp_path):
    """SHELX needs the centre at the origin: P n n n in origin choice 1 is moved to choice 2."""
    symmetry = sgtbx.space_group_info("P n n n :1")
    structure = xray.structure(
        crystal_symmetry=symmetry.any_compatible_crystal_symmetry(volume=800),
        scatterers=flex.xray_scatterer(
            [xray.scatterer("C1", (0.11, 0.23, 0.37), u=0.03, scattering_type="C")]
        ),
    )
    path = write_res(tmp_path / "y.res", _data(structure), _solution(structure))
    back = xray.structure.from_shelx(file=path.open())
    assert back.space_group().is_origin_centric()
    f_calc = structure.structure_factors(d_min=1, algorithm="direct").f_calc()
    f_back = back.structure_factors(d_min=1, algorithm="direct").f_calc()
    moduli = dict(zip(f_back.indices(), flex.abs(f_back.data())))
    assert all(abs(moduli[h] - abs(f)) < 0.01 for h, f in zip(f_calc.indices(), f_calc.data()))


def test_res_fixes_what_the_site_symmetry_fixes(structure_in):
    """SHELXL holds a coordinate written as 10 + x; occupancies carry the site multiplicity."""
    structure = structure_in("C 1 2/c 1")
    lines = res_text(_data(structure), _solution(structure)).splitlines()
    x, y, z, occupancy = next(line for line in lines if line.startswith("S1")).split()[2:6]
    assert (x, z, occupancy) == ("10.000000", "10.250000", "10.50000")
    assert float(y) == pytest.approx(0.21)
    o1 = next(line for line in lines if line.startswith("O1")).split()
    assert o1[5] == "11.00000" and len(o1) == 7


def test_res_displacements_are_in_the_order_of_shelx(structure_in):
    """U11 U22 = U33 U23 U13 U12."""
    from cctbx import adptbx

    structure = structure_in("P -1")
    n1 = structure.scatterers()[2]
    u11, u22, u33, u12, u13, u23 = adptbx.u_star_as_u_cif(structure.unit_cell(), n1.u_star)
    lines = res_text(_data(structure), _solution(structure)).splitlines()
    i = next(i for i, line in enumerate(lines) if line.startswith("N1"))
    assert lines[i].endswith("=") and lines[i + 1].startswith(" ")
    written = [float(lines[i].split()[6])] + [float(u) for u in lines[i + 1].split()]
    assert written == pytest.approx([u11, u22, u33, u23, u13, u12], abs=1e-6)
    assert all(len(line) <= 80 for line in lines)


def test_res_keeps_the_header_of_the_ins(shelx_files):
    ins = shelx_files.ins.replace(
        "L.S. 4", "L.S. 7\nTEMP -100\nREM <olex2.extras>\nSIZE 0.1 0.1 0.2"
    )
    (shelx_files.folder / "x.ins").write_text(ins.replace("HKLF 4", "HKLF 4 0.5"))
    data = read(shelx_files.folder / "x.ins")
    text = res_text(data, _solution(shelx_files.structure))
    for line in (
        "ZERR 4 0.001 0.002 0.001 0 0.01 0",
        "SFAC C N O S",
        "UNIT 8 4 4 2",
        "L.S. 7",
        "TEMP -100",
        "REM <olex2.extras>",
        "SIZE 0.1 0.1 0.2",
        "HKLF 4 0.5",
    ):
        assert text.splitlines().count(line) == 1
    assert text.index("UNIT") < text.index("TEMP") < text.index("WGHT") < text.index("FVAR")
    assert "WGHT 0.0500 0.1200" in text and "FVAR 0.500000" in text
    assert "L.S. 10" not in text and "ACTA" in text


def test_res_adds_an_element_that_the_header_lacks(shelx_files):
    (shelx_files.folder / "x.ins").write_text(
        shelx_files.ins.replace("C N O S", "C N O").replace("8 4 4 2", "8 4 4")
    )
    data = read(shelx_files.folder / "x.ins")
    path = write_res(shelx_files.folder / "y.res", data, _solution(shelx_files.structure))
    back = xray.structure.from_shelx(file=path.open())
    assert [s.scattering_type for s in back.scatterers()] == ["O", "C", "N", "S"]


def test_res_with_another_space_group_gets_a_new_header(shelx_files, structure_in):
    data = read(shelx_files.folder / "x.ins")
    triclinic = shelx_files.structure.expand_to_p1()
    for i, scatterer in enumerate(triclinic.scatterers()):
        scatterer.label = f"X{i}"
    text = res_text(data, _solution(triclinic))
    assert "LATT -1" in text.splitlines() and "SYMM" not in text


def test_riding_hydrogens(structure_in):
    structure = structure_in("P 1 21/n 1")
    u_eq = structure.scatterers()[1].u_iso
    structure.add_scatterer(
        xray.scatterer("H1", (0.3, 0.2, 0.5), u=1.2 * u_eq, scattering_type="H")
    )
    structure.add_scatterer(xray.scatterer("H2", (0.1, 0.1, 0.3), u=0.09, scattering_type="H"))
    groups = (
        HydrogenGroup("planar", 1, (), 1.0, (4,)),
        HydrogenGroup("hydroxyl", 0, (), 1.0, (5,)),
    )
    lines = res_text(_data(structure), _solution(structure, riding=groups)).splitlines()
    i = next(i for i, line in enumerate(lines) if line.startswith("C1"))
    assert lines[i + 1] == "AFIX 43" and lines[i + 2].startswith("H1")
    assert lines[i + 2].endswith(" -1.20000") and lines[i + 3] == "AFIX 0"
    i = next(i for i, line in enumerate(lines) if line.startswith("O1"))
    # U of H2 is no multiple of that of its oxygen: it is written as it is.
    assert lines[i + 1] == "AFIX 147" and lines[i + 2].endswith(" 0.090000")


def test_difference_peaks_and_agreement_follow_the_atoms(structure_in):
    structure = structure_in("P -1")
    peaks = [((0.1, 0.2, 0.3), 0.41), ((0.4, 0.5, 0.6), 0.33)]
    text = res_text(_data(structure), _solution(structure), peaks=peaks)
    assert text.index("HKLF 4") < text.index("END") < text.index("Q1")
    assert text.splitlines()[-1].split()[:2] == ["Q2", "1"]
    assert "REM R1 =  0.0312 for     450 Fo > 4sig(Fo)  and  0.0345 for all     500 data" in text


@pytest.mark.parametrize("label", ["C", "LONGER", "1C"])
def test_labels_that_shelx_cannot_read_are_refused(structure_in, label):
    structure = structure_in("P -1")
    structure.scatterers()[1].label = label
    if label == "C":
        structure.scatterers()[0].label = "c"
    with pytest.raises(Sorry, match="atom label"):
        res_text(_data(structure), _solution(structure))


def test_unusual_wavelength_gets_dispersion(structure_in):
    """SHELXL has f' and f'' for Cu, Mo and Ag only: S at 0.6 A, Sasaki's tables."""
    structure = structure_in("P -1")
    lines = res_text(_data(structure, wavelength=0.6), _solution(structure)).splitlines()
    fp, fdp = next(line for line in lines if line.startswith("DISP S ")).split()[2:]
    assert 0.05 < float(fp) < 0.12 and 0.07 < float(fdp) < 0.12
    assert "DISP" not in res_text(_data(structure), _solution(structure))


def test_fcf_round_trip(tmp_path, structure_in):
    structure = structure_in("P 21 21 21")
    data = _data(structure)
    f_sq = data.observations.customized_copy(
        data=data.observations.data() * 4, sigmas=data.observations.sigmas() * 4
    )
    path = write_fcf(tmp_path / "y.fcf", "y", f_sq, data.observations, 4.0, 0.71073)
    back = read(path)
    assert back.observations.is_xray_intensity_array()
    assert back.crystal_symmetry.is_similar_symmetry(data.crystal_symmetry)
    one, other = back.observations.map_to_asu().common_sets(data.observations.map_to_asu())
    assert one.size() == data.observations.size()
    assert flex.max(flex.abs(one.data() - other.data()) / (1 + other.data())) < 1e-5
    assert flex.max(flex.abs(one.sigmas() - other.sigmas()) / other.sigmas()) < 1e-5


@pytest.mark.parametrize("symbol", ["P -1", "P 1 21/n 1", "P 21 21 21", "R -3 :H"])
def test_mtz_round_trip(tmp_path, structure_in, symbol):
    structure = structure_in(symbol)
    f_calc = structure.structure_factors(d_min=1.0).f_calc()
    f_obs = f_calc.amplitudes().set_observation_type_xray_amplitude()
    f_obs = f_obs.customized_copy(sigmas=f_obs.data() * 0.02 + 0.01)
    confidence = f_obs.array(data=flex.random_double(f_obs.size()))
    path = write_mtz(
        tmp_path / "y.mtz",
        title="y",
        wavelength=0.7,
        f_sq=f_obs.f_as_f_sq(),
        f_obs=f_obs,
        f_phased=f_calc,
        confidence=confidence,
        map_coefficients=f_calc,
        difference_coefficients=None,
    )
    from iotbx import mtz

    arrays = {a.info().labels[0]: a for a in mtz.object(str(path)).as_miller_arrays()}
    assert set(arrays) == {"I", "F", "FPHAI", "FOM", "FWT"}
    assert arrays["FPHAI"].info().labels == ["FPHAI", "PHIPHAI"]
    assert arrays["FWT"].info().labels == ["FWT", "PHWT"]
    assert arrays["F"].space_group() == structure.space_group()
    one, other = arrays["FPHAI"].common_sets(f_calc.map_to_asu())
    assert one.size() == f_calc.size()
    assert flex.max(flex.abs(one.data() - other.data())) < 1e-3
    one, other = arrays["F"].common_sets(f_obs.map_to_asu())
    assert flex.max(flex.abs(one.sigmas() - other.sigmas())) < 1e-4
    one, other = arrays["FOM"].common_sets(confidence.map_to_asu())
    assert flex.max(flex.abs(one.data() - other.data())) < 1e-6


def test_map_round_trip(tmp_path, structure_in):
    f_calc = structure_in("P 1 21/n 1").structure_factors(d_min=1.0).f_calc()
    for i in range(12):  # cctbx counts the labels of earlier maps where it is given none
        path = write_map(tmp_path / f"y{i}.ccp4", f_calc)
    back = map_manager.map_manager(str(path))
    fft_map = f_calc.fft_map(resolution_factor=0.25).apply_volume_scaling()
    expected = fft_map.real_map_unpadded().as_numpy_array()
    found = back.map_data().as_numpy_array()
    assert found.shape == expected.shape
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] == pytest.approx(1, abs=1e-6)
    assert found.max() == pytest.approx(expected.max(), rel=1e-5)
    assert back.unit_cell().is_similar_to(f_calc.unit_cell())


def test_summary_holds_plain_json(tmp_path):
    path = write_json(
        tmp_path / "y.json",
        {"r1": np.float32(0.5), "goof": math.nan, "solved": np.True_, "warnings": ("a",), "n": 3},
    )
    assert json.loads(path.read_text()) == {
        "r1": 0.5,
        "goof": None,
        "solved": True,
        "warnings": ["a"],
        "n": 3,
    }


def test_parameters_repeat_the_run(tmp_path):
    scope = iotbx.phil.parse("solve { d_min = 1.2\n .type = float\n }")
    path = write_eff(tmp_path / "y.eff", scope)
    again = scope.fetch(iotbx.phil.parse(path.read_text())).extract()
    assert again.solve.d_min == 1.2


def test_a_failure_leaves_no_file(tmp_path):
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "y.res", "\ud800")
    assert os.listdir(tmp_path) == []


def test_a_missing_folder_is_one_sorry(tmp_path):
    with pytest.raises(Sorry, match=r"y.res: cannot be written \(No such file"):
        write_text(tmp_path / "nowhere" / "y.res", "TITL")
