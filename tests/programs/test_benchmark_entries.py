"""Which structures a benchmark runs on."""

import pytest

# cctbx
from libtbx.utils import Sorry

from phai_cctbx.programs.benchmark_entries import list_entries, reference_structure

MODEL = """data_x
_cell_length_a 5
_cell_length_b 6
_cell_length_c 7
_cell_angle_alpha 90
_cell_angle_beta 100
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P 1 21/n 1'
loop_
 _atom_site_label
 _atom_site_type_symbol
 _atom_site_fract_x
 _atom_site_fract_y
 _atom_site_fract_z
 _atom_site_U_iso_or_equiv
 C1 C 0.1 0.2 0.3 0.04
 H1 H 0.2 0.2 0.3 0.05
"""


@pytest.fixture
def folder(tmp_path):
    """Two calculated structures and one measured one; the index tells of the latter."""
    (tmp_path / "structures").mkdir()
    for name in ("s1", "s2"):
        (tmp_path / "structures" / f"{name}.cif").write_text(MODEL)
    measured = tmp_path / "measured" / "m1"
    measured.mkdir(parents=True)
    for name in ("m1.ins", "m1.hkl", "m1_ref.cif"):
        (measured / name).write_text(MODEL)
    (tmp_path / "measured" / "index.tsv").write_text(
        "id\tspace_group\tR1_published\nm1\tP 1 21/n 1\t0.0312\n"
    )
    return tmp_path


def test_entries(folder):
    entries = list_entries(folder)
    assert [entry.id for entry in entries] == ["s1", "s2", "m1"]
    assert [entry.kind for entry in entries] == ["calculated", "calculated", "measured"]
    assert entries[2].r1_published == 0.0312
    assert entries[2].data_path == folder / "measured" / "m1" / "m1.ins"


def test_choice(folder):
    assert [e.id for e in list_entries(folder, n_max=1)] == ["s1", "m1"]
    assert [e.id for e in list_entries(folder, ids=["s2"])] == ["s2"]
    assert [e.id for e in list_entries(folder, kinds=["measured"])] == ["m1"]


def test_what_is_not_there(folder, tmp_path):
    with pytest.raises(Sorry, match="no such folder"):
        list_entries(tmp_path / "nothing")
    with pytest.raises(Sorry, match="no entry m7"):
        list_entries(folder, ids=["m1", "m7"])
    (folder / "measured" / "m1" / "m1.ins").unlink()
    with pytest.raises(Sorry, match="m1.ins"):
        list_entries(folder)


def test_reference_structure_keeps_setting_and_hydrogens(folder):
    structure = reference_structure(folder / "structures" / "s1.cif")
    assert str(structure.space_group_info()) == "P 1 21/n 1"
    assert [s.scattering_type for s in structure.scatterers()] == ["C", "H"]


def test_displacements_that_no_atom_has_are_refused(folder):
    path = folder / "structures" / "s1.cif"
    path.write_text(MODEL.replace("0.3 0.04", "0.3 414.5"))
    with pytest.raises(Sorry, match="atom C1 has U.eq. 414.5"):
        reference_structure(path)


def test_reference_without_atoms(tmp_path):
    path = tmp_path / "x.cif"
    path.write_text(MODEL.split("loop_")[0])
    with pytest.raises(Sorry, match="x.cif"):
        reference_structure(path)
    path.write_bytes(b"\xff\x00\xfe")
    with pytest.raises(Sorry, match="x.cif"):
        reference_structure(path)
