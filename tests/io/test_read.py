"""Good input: what is read is what was written, whatever the format."""

import pytest

from cctbx import crystal, sgtbx
from cctbx.array_family import flex

from phai_cctbx.io.read import read


def _strong_as_text(rows):
    return "\n".join(
        " ".join((row[:4], row[4:8], row[8:12], row[12:20], row[20:28])) for row in rows
    )


@pytest.fixture
def cif_head():
    return (
        "data_model\n_cell_length_a 6.100(1)\n_cell_length_b 8.2\n_cell_length_c 7.3\n"
        "_cell_angle_alpha 90\n_cell_angle_beta 98.00(1)\n_cell_angle_gamma 90\n"
        "_diffrn_radiation_wavelength 0.71073\n_cell_formula_units_Z 4\n"
        "_chemical_formula_sum 'C2 H4 N O S0.5'\n"
        "loop_\n_symmetry_equiv_pos_as_xyz\n'x,y,z' '1/2-x,1/2+y,1/2-z'\n"
        "'-x,-y,-z' '1/2+x,1/2-y,1/2+z'\n"
    )


def _intensities(data):
    """Index -> intensity, on an arbitrary scale of 1."""
    array = data.observations
    return dict(zip(array.indices(), array.data()))


def _assert_same_observations(data, files, tolerance=0.006):
    expected = dict(zip(files.f_calc.indices(), flex.norm(files.f_calc.data())))
    found = _intensities(data)
    assert set(found) == set(expected)
    assert all(abs(found[h] - expected[h]) < tolerance * max(1, expected[h]) for h in expected)


def test_ins_and_hkl(shelx_files):
    data = read(shelx_files.folder / "x.ins")
    _assert_same_observations(data, shelx_files)
    assert data.title == "simulated"
    assert data.crystal_symmetry.space_group() == sgtbx.space_group_info("P 1 21/n 1").group()
    assert data.crystal_symmetry.unit_cell().parameters() == (6.1, 8.2, 7.3, 90, 98, 90)
    assert data.observations.is_xray_intensity_array()
    assert data.composition.unit_cell_contents == {"C": 8, "N": 4, "O": 4, "S": 2}
    assert data.composition.source == "UNIT"
    assert (data.z, data.wavelength, data.radiation) == (4, 0.71073, "xray")
    assert data.rejected == ()
    assert data.shelx_header[0] == "TITL simulated" and data.shelx_header[-1] == "HKLF 4"


@pytest.mark.parametrize("name", ["x", "x.hkl", "x.ins"])
def test_any_of_the_names(shelx_files, name):
    assert read(shelx_files.folder / name).observations.size() == shelx_files.f_calc.size()


def test_res_is_used_where_there_is_no_ins(shelx_files):
    (shelx_files.folder / "x.ins").rename(shelx_files.folder / "x.res")
    assert read(shelx_files.folder / "x").title == "simulated"


def test_upper_case_extensions(shelx_files):
    (shelx_files.folder / "x.ins").rename(shelx_files.folder / "x.INS")
    (shelx_files.folder / "x.hkl").rename(shelx_files.folder / "x.HKL")
    _assert_same_observations(read(shelx_files.folder / "x.INS"), shelx_files)


def test_hkl_of_another_name(shelx_files):
    (shelx_files.folder / "x.hkl").rename(shelx_files.folder / "other.hkl")
    data = read(shelx_files.folder / "x.ins", hkl=shelx_files.folder / "other.hkl")
    _assert_same_observations(data, shelx_files)


def test_every_habit_of_an_ins(shelx_files):
    """Lower case, CR-LF, comments, continuation, missing UNIT and ZERR, .res with atoms."""
    text = (
        "titl Lower case\r\n"
        "cell 0.71073 6.1 8.2 7.3 90 98 90 ! from the diffractometer\r\n"
        "latt 1\r\n"
        "  this line is a comment\r\n"
        "symm .5-x, 1/2+y, =\r\n"
        "  0.5-z\r\n"
        "rem CELL 1 2 3\r\n"
        "REM <olex2.extras>\r\n"
        "sfac c n =\r\n"
        "  o s\r\n"
        "temp -173\r\n"
        "DFIX 1.5 C1 C2\r\n"
        "wght 0.1\r\n"
        "fvar 0.5\r\n"
        "C1 1 0.1 0.2 0.3 11.0 0.03 0.02 =\r\n"
        " 0.02 0.0 0.0 0.0\r\n"
        "AFIX 43\r\n"
        "H1 2 0.1 0.2 0.4 11.0 -1.2\r\n"
        "hklf 4\r\n"
        "end\r\n"
        "WGHT 0.05\r\n"
        "Q1 1 0.1 0.2 0.3 11.0 0.05 0.5\r\n"
    )
    (shelx_files.folder / "x.ins").write_bytes(text.encode())
    (shelx_files.folder / "x.hkl").write_bytes(shelx_files.hkl.replace("\n", "\r\n").encode())
    data = read(shelx_files.folder / "x.ins")
    _assert_same_observations(data, shelx_files)
    assert data.title == "Lower case"
    assert data.z is None
    assert data.crystal_symmetry.space_group() == sgtbx.space_group_info("P 1 21/n 1").group()
    assert data.composition.source == "estimated from the volume"
    assert set(data.composition.unit_cell_contents) == {"C", "N", "O", "S"}
    assert any("no UNIT" in line for line in data.provenance)
    header = "\n".join(data.shelx_header)
    assert "REM <olex2.extras>" in header and "temp -173" in header
    assert not any(word in header for word in ("DFIX", "wght", "fvar", "C1", "AFIX"))


def test_non_standard_settings(shelx_files, tmp_path):
    """P21/a as LATT and SYMM, with the same data in its own setting."""
    cb_op = sgtbx.change_of_basis_op("z,y,-x")
    moved = shelx_files.f_calc.change_basis(cb_op)
    rows = [
        f"{h:4d}{k:4d}{m:4d}{abs(f) ** 2:8.2f}{1:8.2f}"
        for (h, k, m), f in zip(moved.indices(), moved.data())
    ]
    cell = "{:.4f} {:.4f} {:.4f} {:.3f} {:.3f} {:.3f}".format(*moved.unit_cell().parameters())
    symm = next(op.as_xyz() for op in moved.space_group() if op.r().as_xyz() == "-x,y,-z")
    (tmp_path / "a.hkl").write_text("\n".join(rows))
    (tmp_path / "a.ins").write_text(
        f"TITL a\nCELL 0.71 {cell}\nLATT 1\nSYMM {symm}\nSFAC C N O S\nUNIT 8 4 4 2\nHKLF 4\n"
    )
    data = read(tmp_path / "a")
    assert data.crystal_symmetry.space_group() == moved.space_group()
    assert data.observations.sys_absent_flags().data().count(True) == 0


def test_hklf_3_holds_amplitudes(shelx_files):
    (shelx_files.folder / "x.ins").write_text(shelx_files.ins.replace("HKLF 4", "HKLF 3"))
    data = read(shelx_files.folder / "x.ins")
    assert data.observations.is_xray_amplitude_array()


def test_hklf_scale_and_matrix(shelx_files):
    """Indices (h k l) in the file become (k h -l), values and sigmas 10 times larger."""
    moved = [f"{row[4:8]}{row[0:4]}{-int(row[8:12]):4d}{row[12:]}" for row in shelx_files.rows]
    (shelx_files.folder / "x.hkl").write_text("\n".join(moved))
    line = "HKLF 4 10 0 1 0 1 0 0 0 0 -1"
    (shelx_files.folder / "x.ins").write_text(shelx_files.ins.replace("HKLF 4", line))
    data = read(shelx_files.folder / "x.ins")
    array = data.observations
    scaled = dict(zip(array.indices(), array.data()))
    expected = dict(zip(shelx_files.f_calc.indices(), flex.norm(shelx_files.f_calc.data())))
    assert set(scaled) == set(expected)
    assert all(abs(scaled[h] - 10 * expected[h]) < 0.06 for h in expected)
    assert data.shelx_header[-1] == line


def test_fractional_indices_are_counted(shelx_files):
    line = "HKLF 4 1 0.5 0 0 0 1 0 0 0 1"
    ins = shelx_files.ins.replace("HKLF 4", line).replace(" 6.1 ", " 3.05 ")
    ins = ins.replace("8 4 4 2", "4 2 2 1")
    (shelx_files.folder / "x.ins").write_text(ins.replace("0.5-X, 0.5+Y, 0.5-Z", "-X,0.5+Y,0.5-Z"))
    data = read(shelx_files.folder / "x.ins")
    n_odd = sum(1 for h in shelx_files.f_calc.indices() if h[0] % 2)
    assert dict(data.rejected) == {"fractional indices after the HKLF matrix": n_odd}


def test_lines_after_the_end_are_reported(shelx_files):
    (shelx_files.folder / "x.hkl").write_text(shelx_files.hkl + "\n_exptl_absorpt 1\n more\n")
    data = read(shelx_files.folder / "x.ins")
    _assert_same_observations(data, shelx_files)
    assert any("2 lines after the 0 0 0 line" in line for line in data.provenance)


def test_values_that_touch_and_implied_decimals(shelx_files):
    """FORMAT(3I4,2F8.2): 12345678 without a point is 123456.78, and columns need no blank."""
    rows = list(shelx_files.rows)
    h = tuple(int(rows[0][4 * i : 4 * i + 4]) for i in range(3))
    rows[0] = rows[0][:12] + "12345678" + "12345.67"
    (shelx_files.folder / "x.hkl").write_text("\n".join(rows) + "\n")
    data = read(shelx_files.folder / "x.ins")
    assert _intensities(data)[h] == pytest.approx(123456.78)
    assert data.observations.sigmas()[0] == pytest.approx(12345.67)


def test_free_format_is_read_and_reported(shelx_files):
    (shelx_files.folder / "x.hkl").write_text(
        "\n".join("\t".join(line.split()) for line in _strong_as_text(shelx_files.rows).split("\n"))
    )
    data = read(shelx_files.folder / "x.ins")
    _assert_same_observations(data, shelx_files)
    assert any("free format" in line for line in data.provenance)


def test_rejected_reflections_are_counted_by_reason(shelx_files):
    rows = list(shelx_files.rows)
    for i in (3, 4):
        rows[i] = rows[i][:20] + "    0.00"
    rows[5] = rows[5][:20] + "   -1.00"
    (shelx_files.folder / "x.hkl").write_text("\n".join(rows))
    data = read(shelx_files.folder / "x.ins")
    assert data.rejected == (("sigma not positive", 3),)
    assert data.observations.size() == len(rows) - 3


@pytest.mark.parametrize(
    ("change", "radiation"),
    [
        (("0.71073", "0.71073"), "xray"),
        (("0.71073", "0.02508"), "electron"),
        (("SFAC", "NEUT\nSFAC"), "neutron"),
    ],
)
def test_radiation(shelx_files, change, radiation):
    (shelx_files.folder / "x.ins").write_text(shelx_files.ins.replace(*change))
    assert read(shelx_files.folder / "x.ins").radiation == radiation


def test_long_form_of_sfac(shelx_files):
    long_form = (
        "SFAC C 0.1361 0.3731 0.5482 3.2814 1.2266 13.0456 0.5971 41.0202 0 0 0 0.12 0.77 12.01\n"
        "SFAC N O S\n"
    )
    (shelx_files.folder / "x.ins").write_text(shelx_files.ins.replace("SFAC C N O S\n", long_form))
    data = read(shelx_files.folder / "x.ins")
    assert data.composition.unit_cell_contents == {"C": 8, "N": 4, "O": 4, "S": 2}


def test_placeholder_unit_is_replaced_and_said(shelx_files):
    (shelx_files.folder / "x.ins").write_text(
        shelx_files.ins.replace("UNIT 8 4 4 2", "UNIT 1 1 0 0")
    )
    data = read(shelx_files.folder / "x.ins")
    assert data.composition.source == "estimated from the volume"
    assert sum(data.composition.unit_cell_contents.values()) == pytest.approx(
        data.crystal_symmetry.unit_cell().volume() / 18
    )
    assert any("placeholder" in line for line in data.provenance)


LOOPS = {
    "_refln_F_squared_meas": ("_refln_F_squared_sigma", True),
    "_refln_intensity_meas": ("_refln_intensity_sigma", True),
    "_refln_F_meas": ("_refln_F_sigma", False),
    "_refln.F_meas_au": ("_refln.F_meas_sigma_au", False),
    "_refln.F_squared_meas": ("_refln.F_squared_meas_su", True),
}


@pytest.mark.parametrize("tag", LOOPS)
def test_cif_loops(shelx_files, cif_head, tag):
    sigma, intensities = LOOPS[tag]
    dot = "." if "_refln." in tag else "_"
    loop = f"loop_\n_refln{dot}index_h\n_refln{dot}index_k\n_refln{dot}index_l\n{tag}\n{sigma}\n"
    path = shelx_files.folder / "m.cif"
    path.write_text(cif_head + loop + _strong_as_text(shelx_files.rows) + "\n")
    data = read(path)
    assert data.observations.is_xray_intensity_array() == intensities
    _assert_same_observations(data, shelx_files)
    assert data.crystal_symmetry.space_group() == sgtbx.space_group_info("P 1 21/n 1").group()
    assert data.composition.unit_cell_contents == {"C": 8, "H": 16, "N": 4, "O": 4, "S": 2}
    assert data.composition.source == "_chemical_formula_sum"
    assert (data.z, data.wavelength, data.title) == (4, 0.71073, "model")


def test_cif_without_sigmas_and_with_unmeasured(shelx_files, cif_head):
    """A list of a powder: intensities alone; ? and status x are left out and counted."""
    rows = [row[:20] + " o" for row in shelx_files.rows]
    rows[2] = rows[2][:12] + " ? o"
    rows[3] = rows[3][:20] + " x"
    text = "\n".join(" ".join((row[:4], row[4:8], row[8:12], row[12:])) for row in rows)
    loop = (
        "loop_\n_refln_index_h\n_refln_index_k\n_refln_index_l\n_refln_F_squared_meas\n"
        "_refln_observed_status\n"
    )
    path = shelx_files.folder / "m.cif"
    path.write_text(cif_head + loop + text + "\n")
    data = read(path)
    assert data.observations.sigmas() is None
    assert dict(data.rejected) == {
        "marked as unreliable (status x)": 1,
        "no value (? or .)": 1,
    }


@pytest.mark.parametrize("tag", ["_shelx_hkl_file", "_iucr_refine_reflections_details"])
def test_cif_with_embedded_files(shelx_files, cif_head, tag):
    path = shelx_files.folder / "m.cif"
    path.write_text(
        f"{cif_head}_shelx_res_file\n;\n{shelx_files.ins};\n{tag}\n;\n{shelx_files.hkl};\n"
    )
    data = read(path)
    _assert_same_observations(data, shelx_files)
    assert data.shelx_header[0] == "TITL simulated"


def test_cif_model_with_reflections_beside_it(shelx_files, cif_head):
    path = shelx_files.folder / "x.cif"
    path.write_text(cif_head)
    data = read(path)
    _assert_same_observations(data, shelx_files)
    assert any("HKLF 4 assumed" in line for line in data.provenance)


def test_hkl_that_is_a_cif(shelx_files):
    """Reflection files of databases carry the extension .hkl and are CIF."""
    loop = (
        "data_x\nloop_\n_refln_index_h\n_refln_index_k\n_refln_index_l\n_refln_F_squared_meas\n"
        "_refln_F_squared_sigma\n"
    )
    (shelx_files.folder / "x.hkl").write_text(loop + _strong_as_text(shelx_files.rows) + "\n")
    _assert_same_observations(read(shelx_files.folder / "x.hkl"), shelx_files)


def test_two_files_of_different_cells(shelx_files, cif_head):
    from libtbx.utils import Sorry

    other = cif_head.replace("8.2", "9.9") + "_shelx_hkl_file\n;\n" + shelx_files.hkl + ";\n"
    (shelx_files.folder / "other.fcf").write_text(other)
    with pytest.raises(Sorry, match=r"other.fcf: its cell .* is not the cell .*x.ins"):
        read(shelx_files.folder / "x.ins", hkl=shelx_files.folder / "other.fcf")


@pytest.mark.parametrize(("probe", "radiation"), [("neutron", "neutron"), ("electron", "electron")])
def test_probe_of_a_cif(shelx_files, cif_head, probe, radiation):
    (shelx_files.folder / "x.cif").write_text(cif_head + f"_diffrn_radiation_probe {probe}\n")
    assert read(shelx_files.folder / "x.cif").radiation == radiation


@pytest.mark.parametrize("intensities", [True, False])
def test_mtz(shelx_files, intensities):
    array = shelx_files.f_calc.amplitudes()
    sigmas = array.data() * 0.01 + 0.01
    array = array.customized_copy(sigmas=sigmas).set_observation_type_xray_amplitude()
    if intensities:
        array = array.f_as_f_sq()
    dataset = array.as_mtz_dataset(column_root_label="I" if intensities else "F", wavelength=0.7)
    dataset.add_miller_array(array.generate_r_free_flags(), column_root_label="FreeR_flag")
    dataset.add_miller_array(shelx_files.f_calc, column_root_label="FC")
    dataset.mtz_object().write(str(shelx_files.folder / "m.mtz"))
    data = read(shelx_files.folder / "m.mtz")
    assert data.observations.is_xray_intensity_array() == intensities
    assert data.observations.correlation(array).coefficient() == pytest.approx(1, abs=1e-6)
    assert data.wavelength == pytest.approx(0.7)
    assert data.composition.source == "estimated from the volume"
    assert data.crystal_symmetry.is_similar_symmetry(shelx_files.f_calc.crystal_symmetry())


def test_unmerged_bijvoet_mates_stay_apart(tmp_path, structure_in):
    structure = structure_in("P 21 21 21")
    f_calc = structure.structure_factors(d_min=0.9, anomalous_flag=True).f_calc()
    rows = [
        f"{h:4d}{k:4d}{m:4d}{abs(f) ** 2:8.2f}{1:8.2f}"
        for (h, k, m), f in zip(f_calc.indices(), f_calc.data())
        for _ in range(2)
    ]
    (tmp_path / "c.hkl").write_text("\n".join(rows))
    (tmp_path / "c.ins").write_text(
        "TITL c\nCELL 1.54178 5.9 7.1 8.3 90 90 90\nLATT -1\nSYMM 0.5-X,-Y,0.5+Z\n"
        "SYMM -X,0.5+Y,0.5-Z\nSYMM 0.5+X,0.5-Y,-Z\nSFAC C N O\nUNIT 4 4 4\nHKLF 4\n"
    )
    data = read(tmp_path / "c.ins")
    assert data.observations.anomalous_flag()
    assert data.observations.size() == 2 * f_calc.size()
    merged = data.observations.merge_equivalents()
    assert merged.array().size() == f_calc.size()


def test_measured_data_of_cctbx(thpp_folder):
    """thpp, C10H10F2N4 (Z = 4, P 1 21/n 1): its own published cell contents."""
    data = read(thpp_folder / "thpp.ins")
    assert data.observations.size() == 14205
    assert data.composition.unit_cell_contents == {"C": 40, "H": 40, "F": 8, "N": 16}
    assert data.z == 4
    expected = crystal.symmetry((6.9196, 14.5749, 9.7248, 90, 90.637, 90), "P 1 21/n 1")
    assert data.crystal_symmetry.is_similar_symmetry(expected)


def test_every_measured_set_is_read(shared_data):
    for folder in sorted(path for path in (shared_data / "measured").iterdir() if path.is_dir()):
        data = read(folder / f"{folder.name}.ins")
        assert data.observations.size() > 500
        assert sum(number for _, number in data.rejected) <= 1
