"""Every kind of unusable input ends in one Sorry that names the file, the place and the fault."""

import os
import re

import pytest

from libtbx.utils import Sorry

from phai_cctbx.io.read import read

# Each case: what it does to the good pair x.ins and x.hkl, the file that is read, and the
# pattern of the message. F stands for the full name of the file at fault.


def _ins(old, new):
    def change(files):
        assert old in files.ins
        (files.folder / "x.ins").write_text(files.ins.replace(old, new))

    return change


def _hkl(line, new):
    """Replace reflection number `line` (from 0)."""

    def change(files):
        rows = [*files.rows, "   0   0   0    0.00    0.00"]
        rows[line] = new
        (files.folder / "x.hkl").write_text("\n".join(rows) + "\n")

    return change


def _file(name, content):
    def change(files):
        if isinstance(content, bytes):
            (files.folder / name).write_bytes(content)
        else:
            (files.folder / name).write_text(content)

    return change


def _rows(transform):
    """Rewrite every reflection by a function (h, k, l, intensity, sigma) -> line or None."""

    def change(files):
        lines = []
        for row in files.rows:
            indices = [int(row[4 * i : 4 * i + 4]) for i in range(3)]
            line = transform(*indices, float(row[12:20]), float(row[20:28]))
            if line is not None:
                lines.append(line)
        (files.folder / "x.hkl").write_text("\n".join(lines) + "\n")

    return change


def _remove(name):
    return lambda files: (files.folder / name).unlink()


def _row(h, k, m, intensity, sigma):
    return f"{h:4d}{k:4d}{m:4d}{intensity:8.2f}{sigma:8.2f}"


def _directory(files):
    (files.folder / "x.hkl").unlink()
    (files.folder / "d.hkl").mkdir()


def _half_hkl(files):
    text = "\n".join(files.rows)
    (files.folder / "x.hkl").write_text(text[: len(text) // 2 // 29 * 29 + 17])


def _denied(files):
    (files.folder / "x.hkl").chmod(0)


def _wrong_laue(files):
    """Equivalents of a higher Laue group that are not equal."""
    _ins("SYMM 0.5-X, 0.5+Y, 0.5-Z", "SYMM 0.5-X,0.5+Y,-Z\nSYMM 0.5+X,0.5-Y,-Z\nSYMM -X,-Y,Z")(
        files
    )
    text = (files.folder / "x.ins").read_text().replace("90 98 90", "90 90 90")
    (files.folder / "x.ins").write_text(text)
    rows = [row for row in files.rows if all(int(row[4 * i : 4 * i + 4]) for i in range(3))]
    (files.folder / "x.hkl").write_text("\n".join(rows) + "\n")


def _overlaps(h, k, m, intensity, sigma):
    partner = f"{_row(h, k, m, intensity, sigma)}{-2:4d}"
    return f"{partner}\n{_row(-h, k, -m, intensity, sigma)}{1:4d}"


CIF = """data_model
_cell_length_a 6.1
_cell_length_b 8.2
_cell_length_c 7.3
_cell_angle_alpha 90
_cell_angle_beta 98
_cell_angle_gamma 90
_space_group_name_H-M_alt 'P 1 21/n 1'
_diffrn_radiation_wavelength 0.71073
_cell_formula_units_Z 4
_chemical_formula_sum 'C2 N O S0.5'
"""
LOOP = """loop_
_refln_index_h
_refln_index_k
_refln_index_l
_refln_F_squared_meas
_refln_F_squared_sigma
"""


def _cif(old="", new="", extra=None, cut=None, name="m.cif"):
    """Write a CIF of the good data with one change."""

    def change(files):
        rows = "\n".join(
            " ".join((row[:4], row[4:8], row[8:12], row[12:20], row[20:28])) for row in files.rows
        )
        text = CIF + (LOOP + rows + "\n" if extra is None else extra)
        assert old in text
        text = text.replace(old, new, 1)
        (files.folder / name).write_text(text[:cut])

    return change


def _mtz(label, size=None):
    """Write an MTZ with one column of that label, cut to a size."""

    def change(files):
        amplitudes = files.f_calc.amplitudes()
        if label == "R-free-flags":
            amplitudes = amplitudes.generate_r_free_flags()
        path = files.folder / "m.mtz"
        amplitudes.as_mtz_dataset(column_root_label=label).mtz_object().write(str(path))
        if size is not None:
            path.write_bytes(path.read_bytes()[:size])

    return change


def _two_sets(files):
    f_obs = files.f_calc.amplitudes()
    f_obs = f_obs.customized_copy(sigmas=f_obs.data() * 0.02).set_observation_type_xray_amplitude()
    dataset = f_obs.as_mtz_dataset(column_root_label="F1")
    dataset.add_miller_array(f_obs, column_root_label="F2")
    dataset.mtz_object().write(str(files.folder / "m.mtz"))


CASES = {
    # The files themselves
    "absent .ins": (_remove("x.ins"), "x.ins", r"F: no such file", "x.ins"),
    "absent base name": (_remove("x.ins"), "y", r"F: no such file", "y"),
    "absent .hkl": (_remove("x.hkl"), "x.ins", r"F: no reflections, since x.hkl", "x.ins"),
    "lone .hkl": (_remove("x.ins"), "x.hkl", r"F: no cell, since neither x.ins", "x.hkl"),
    "directory": (_directory, "d.hkl", r"F: a folder", "d.hkl"),
    "permission denied": (_denied, "x.ins", r"F: permission", "x.hkl"),
    "empty .ins": (_file("x.ins", ""), "x.ins", r"F: the file is empty", "x.ins"),
    "blank .ins": (_file("x.ins", "\n \n\n"), "x.ins", r"F: only blank lines", "x.ins"),
    "empty .hkl": (_file("x.hkl", ""), "x.ins", r"F: the file is empty", "x.hkl"),
    "binary .hkl": (_file("x.hkl", b"a\nb\x00\xff" * 9), "x.ins", r"F, line 2: a zero", "x.hkl"),
    "binary .ins": (_file("x.ins", b"\x7fELF\x00"), "x.ins", r"F, line 1: a zero", "x.ins"),
    "UTF-16 .ins": (_file("x.ins", "TITL a".encode("utf-16")), "x.ins", r"F, line 1", "x.ins"),
    "unknown extension": (_file("x.pdb", "CRYST1\n"), "x.pdb", r"F: the extension .pdb", "x.pdb"),
    # Instructions
    "truncated .ins": (
        _ins("HKLF 4\nEND\n", ""),
        "x.ins",
        r"F, line 8: .*without an HKLF",
        "x.ins",
    ),
    "no CELL": (_ins("CELL", "REM "), "x.ins", r"F: no CELL", "x.ins"),
    "decimal comma": (_ins("0.71073", "1,5418"), "x.ins", r"F, line 2: .*'1,5418'.*comma", "x.ins"),
    "CELL without wavelength": (_ins("0.71073 ", ""), "x.ins", r"F, line 2: CELL has 6", "x.ins"),
    "negative wavelength": (_ins("0.71073", "-0.7"), "x.ins", r"F, line 2: the wave", "x.ins"),
    "negative cell": (_ins(" 6.1 ", " -6.1 "), "x.ins", r"F, line 2: -6.1 .*no unit", "x.ins"),
    "impossible angles": (_ins("90 98 90", "20 98 150"), "x.ins", r"F, line 2: .*no unit", "x.ins"),
    "cell NaN": (_ins(" 6.1 ", " nan "), "x.ins", r"F, line 2: CELL holds 'nan'", "x.ins"),
    "cell against LATT": (_ins("98 90", "98 97"), "x.ins", r"F, line 2: .*does not fit", "x.ins"),
    "LATT 9": (_ins("LATT 1", "LATT 9"), "x.ins", r"F, line 4: LATT 9", "x.ins"),
    "broken SYMM": (_ins("0.5-Z", "0.5-Q"), "x.ins", r"F, line 5: SYMM", "x.ins"),
    "SYMM not crystallographic": (_ins("0.5-X,", "X+Y,"), "x.ins", r"F, line 5: SYMM", "x.ins"),
    "unknown element": (_ins("C N O S", "C N O Xq"), "x.ins", r"F, line 6: .*'Xq'", "x.ins"),
    "UNIT count": (_ins("8 4 4 2", "8 4 4"), "x.ins", r"F, line 7: UNIT has 3", "x.ins"),
    "UNIT negative": (_ins("8 4 4 2", "8 4 4 -2"), "x.ins", r"F, line 7: UNIT has a neg", "x.ins"),
    "UNIT too large": (_ins("8 4 4 2", "80 4 4 2"), "x.ins", r"F, line 7: .*denser", "x.ins"),
    "HKLF 5": (_ins("HKLF 4", "HKLF 5"), "x.ins", r"F, line 9: HKLF 5 .*twin", "x.ins"),
    "HKLF 6": (_ins("HKLF 4", "HKLF 6"), "x.ins", r"F, line 9: HKLF 6 .*twin", "x.ins"),
    "HKLF 1": (_ins("HKLF 4", "HKLF 1"), "x.ins", r"F, line 9: HKLF 1 .*not supp", "x.ins"),
    "HKLF matrix cut": (_ins("HKLF 4", "HKLF 4 1 1 0 0"), "x.ins", r"F, line 9: .*3 of 9", "x.ins"),
    "HKLF matrix singular": (
        _ins("HKLF 4", "HKLF 4 1 1 0 0 1 0 0 0 0 1"),
        "x.ins",
        r"F, line 9: .*determinant 0",
        "x.ins",
    ),
    "HKLF scale": (_ins("HKLF 4", "HKLF 4 -1"), "x.ins", r"F, line 9: the HKLF scale", "x.ins"),
    "no instruction": (_ins("L.S. 4", "?? 4"), "x.ins", r"F, line 8: '\?\? 4'", "x.ins"),
    "non-ASCII": (
        _ins(" 6.1 ", " 6.1\u00c5 "),
        "x.ins",
        r"F, line 2: CELL holds '6.1\u00c5'",
        "x.ins",
    ),
    "continuation at end": (
        _ins("HKLF 4\nEND\n", "HKLF 4 ="),
        "x.ins",
        r"F, line 9: .*continuation",
        "x.ins",
    ),
    "HTML": (_file("x.ins", "<html>\n404\n"), "x.ins", r"F, line 1: '<html>'", "x.ins"),
    # Reflections
    "letters in .hkl": (
        _hkl(3, "   1   a   2  100.00    1.00"),
        "x.ins",
        r"F, line 4: '1",
        "x.hkl",
    ),
    "NaN": (_hkl(3, "   1   2   2     nan    1.00"), "x.ins", r"F, line 4: .*nan", "x.hkl"),
    "infinity": (_hkl(3, "   1   2   2     inf    1.00"), "x.ins", r"F, line 4: .*inf", "x.hkl"),
    "overflow": (_hkl(3, "   1   2   2********    1.00"), "x.ins", r"F, line 4: .*\*\*", "x.hkl"),
    "text as .hkl": (_file("x.hkl", "Dear all,\n"), "x.ins", r"F, line 1: 'Dear all,'", "x.hkl"),
    "only the end mark": (_hkl(0, "   0   0   0    0.00"), "x.ins", r"F, line 1: no refl", "x.hkl"),
    "sigma missing once": (
        _hkl(3, "   1   2   2  100.00"),
        "x.ins",
        r"F, line 4: no sigma",
        "x.hkl",
    ),
    "cut inside a line": (_half_hkl, "x.ins", r"F, line \d+: .*(stops inside|no sigma)", "x.hkl"),
    "all sigmas zero": (
        _rows(lambda *r: _row(*r[:4], 0)),
        "x.ins",
        r"F, line 1, refl.* this sigma and all",
        "x.hkl",
    ),
    "all intensities zero": (
        _rows(lambda *r: _row(*r[:3], 0, 1)),
        "x.ins",
        r"F: no observation is greater",
        "x.hkl",
    ),
    "few reflections": (
        lambda files: (files.folder / "x.hkl").write_text("\n".join(files.rows[:15])),
        "x.ins",
        r"F: 15 unique reflections",
        "x.hkl",
    ),
    "huge indices": (
        _rows(lambda h, k, m, i, s: _row(h * 50, k, m, i, s)),
        "x.ins",
        r"F, line \d+, reflection \(.*\): d = 0\.",
        "x.hkl",
    ),
    "cell and wavelength against the data": (
        _ins("0.71073", "2.5"),
        "x.ins",
        r"F, line \d+, refl.*half the wavelength",
        "x.hkl",
    ),
    "systematic absences present": (
        _ins("LATT 1", "LATT 2"),
        "x.ins",
        r"F, line \d+, refl.*systematically absent",
        "x.hkl",
    ),
    "wrong Laue group": (_wrong_laue, "x.ins", r"F: R_int = 0\.[345].* not equivalent", "x.hkl"),
    "HKLF 5 list under HKLF 4": (_rows(_overlaps), "x.ins", r"F, line 1: .*overlapping", "x.hkl"),
    # CIF
    "CIF without data": (
        _file("m.cif", "# only a comment\n"),
        "m.cif",
        r"F: no data block",
        "m.cif",
    ),
    "text as CIF": (_file("m.cif", "Dear all,\n"), "m.cif", r"F, line 1: 'Dear'", "m.cif"),
    "CIF model only": (_cif(extra=""), "m.cif", r"F: a model without reflections", "m.cif"),
    "CIF no cell": (
        _cif("_cell_length_a", "_x"),
        "m.cif",
        r"F: no cell .*data_model, line 1",
        "m.cif",
    ),
    "CIF cell cut": (_cif("_cell_length_c", "_x"), "m.cif", r"F, data_model, line 1: no", "m.cif"),
    "CIF cell text": (
        _cif(" 8.2", " eight"),
        "m.cif",
        r"F, data_model, line 3: .*'eight'",
        "m.cif",
    ),
    "CIF no space group": (
        _cif("_space_group_name_H-M_alt", "_x"),
        "m.cif",
        r"F, data_model, line 1: no sp",
        "m.cif",
    ),
    "CIF unknown space group": (
        _cif("P 1 21/n 1", "P 9 3 x"),
        "m.cif",
        r"F, data_model, line 8: .*'P 9 3 x'",
        "m.cif",
    ),
    "CIF wavelength comma": (
        _cif("0.71073", "1,5418"),
        "m.cif",
        r"F, data_model, line 9: .*'1,5418'",
        "m.cif",
    ),
    "CIF wavelength range": (
        _cif("0.71073", "0.5-5.0"),
        "m.cif",
        r"F, data_model, line 9: .*'0.5-5.0'",
        "m.cif",
    ),
    "CIF loop cut": (_cif(cut=700), "m.cif", r"F, line \d+: the loop of _refln_index_h", "m.cif"),
    "CIF loop empty": (_cif(extra=LOOP), "m.cif", r"F, line 12: the loop of", "m.cif"),
    "CIF text field open": (
        _cif(extra="_shelx_hkl_file\n;\n   1   0   0\n"),
        "m.cif",
        r"F, line 13: a text f",
        "m.cif",
    ),
    "CIF quote open": (_cif("S0.5'", "S0.5"), "m.cif", r"F, line 11: a quoted string", "m.cif"),
    "CIF two blocks": (
        _cif(
            extra=LOOP
            + "1 0 1 5 1\n"
            + CIF.replace("data_model", "data_two")
            + LOOP
            + "1 0 1 5 1\n"
        ),
        "m.cif",
        r"F, line 19: 2 data blocks with reflections",
        "m.cif",
    ),
    "CIF index text": (
        _cif(extra=LOOP + "1 0 1 5 1\n1 x 1 5 1\n"),
        "m.cif",
        r"F, data_model, line 19: .*k",
        "m.cif",
    ),
    "CIF value text": (
        _cif(extra=LOOP + "1 0 1 5 1\n1 1 1 bad 1\n"),
        "m.cif",
        r"F, data_model, line 19",
        "m.cif",
    ),
    "CIF value without item": (
        _cif(" 4\n", " 4 5\n"),
        "m.cif",
        r"F, line 10: the value '5'",
        "m.cif",
    ),
    "CIF all unmeasured": (
        _cif(extra=LOOP + "1 0 1 ? ?\n" * 30),
        "m.cif",
        r"F: no usable reflection",
        "m.cif",
    ),
    "CIF Z": (_cif("_Z 4", "_Z 0"), "m.cif", r"F, data_model, line 10: Z is 0", "m.cif"),
    "embedded hkl broken": (
        _cif(extra="_shelx_hkl_file\n;\n   1   0   1    5.00    1.00\nxxxx\n;\n"),
        "m.cif",
        r"F, line 15: 'xxxx'",
        "m.cif",
    ),
    # MTZ
    "MTZ text": (_file("m.mtz", "MTX no\n"), "m.mtz", r"F: no MTZ mark", "m.mtz"),
    "MTZ cut": (_mtz("F", 400), "m.mtz", r"F: damaged or cut", "m.mtz"),
    "MTZ R-free only": (_mtz("R-free-flags"), "m.mtz", r"F: no measured .*R-free-flags", "m.mtz"),
    "MTZ calculated only": (_mtz("FC"), "m.mtz", r"F: no measured .*FC", "m.mtz"),
    "MTZ two sets": (_two_sets, "m.mtz", r"F: several sets .*F1,SIGF1 and F2,SIGF2", "m.mtz"),
}


@pytest.mark.parametrize("name", CASES)
def test_one_sorry_names_file_and_place(name, shelx_files):
    change, read_name, pattern, faulty = CASES[name]
    if name == "permission denied" and os.geteuid() == 0:
        pytest.skip("root may read every file")
    change(shelx_files)
    with pytest.raises(Sorry) as caught:
        read(shelx_files.folder / read_name)
    message = str(caught.value)
    place = re.escape(str(shelx_files.folder / faulty))
    assert re.match(pattern.replace("F", place, 1), message), message
    # What was found, then what to do.
    assert message.count(". ") >= 1 and message.endswith("."), message


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"COLUMN SIGF", b"COLUM= SIGF"),
        (b"COLUMN F  ", b"COLUMN    "),
        (b"MTZENDOFHEADERS", b"MTZENDOFHEADER?"),
        (b"NCOL        5", b"NCOL        7"),
        (b"SYMINF   4", b"SYMINF   x"),
    ],
)
def test_damaged_mtz_headers_do_not_reach_the_library(shelx_files, old, new):
    """The CCP4 library hangs or stops the process on some of these."""
    f_obs = shelx_files.f_calc.amplitudes()
    f_obs = f_obs.customized_copy(sigmas=f_obs.data() * 0.02).set_observation_type_xray_amplitude()
    path = shelx_files.folder / "m.mtz"
    f_obs.as_mtz_dataset(column_root_label="F").mtz_object().write(str(path))
    content = path.read_bytes()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new))
    with pytest.raises(Sorry, match=r"m.mtz: damaged or cut: .*Copy or export it again"):
        read(path)
