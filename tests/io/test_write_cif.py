"""The CIF of a refined measured structure: valid, complete, and read back the same."""

import io
import math
from types import SimpleNamespace

import pytest

import iotbx.cif
from cctbx import adptbx, xray
from iotbx.cif import validation

from phai_cctbx.io.read import read
from phai_cctbx.io.write_cif import cif_text, formula, write_cif
from phai_cctbx.phasing.normalisation import prepare
from phai_cctbx.refinement.least_squares import prepare_scattering, refine


@pytest.fixture(scope="module")
def refined(tmp_path_factory):
    """Measured thpp: data, a refinement with covariance, prepared data, and the CIF model."""
    import smtbx

    path = f"{smtbx.__path__[0]}/regression/test_data/thpp.ins"
    data = read(path)
    prepared = prepare(data.observations)
    structure = xray.structure.from_shelx(filename=path)
    # N3 and C3 share one site in the file: it is one nitrogen atom here.
    structure = structure.select(structure.scatterers().extract_labels() != "C3")
    structure.set_occupancies(1)
    prepare_scattering(structure, data.radiation, data.wavelength)
    result = refine(structure, prepared.f_sq, n_cycles=4, with_covariance=True)
    solution = SimpleNamespace(
        **{name: getattr(result, name) for name in result.__dataclass_fields__},
    )
    solution.weighting = (result.weighting.a, result.weighting.b)
    solution.difference_peak, solution.difference_hole, solution.difference_rms = 0.9, -0.5, 0.1
    solution.riding = ()
    path = write_cif(tmp_path_factory.mktemp("cif") / "thpp_phai.cif", data, solution, prepared)
    return SimpleNamespace(
        data=data,
        solution=solution,
        path=path,
        block=next(iter(iotbx.cif.reader(file_path=str(path)).model().values())),
    )


def test_valid_by_the_core_dictionary(refined):
    dictionary = validation.smart_load_dictionary("cif_core.dic")
    model = iotbx.cif.reader(file_path=str(refined.path)).model()
    out = io.StringIO()
    handler = model.validate(dictionary, out=out)
    assert handler.error_count == 0, out.getvalue()


def test_structure_is_read_back(refined):
    structure = refined.solution.xray_structure
    back = next(
        iter(iotbx.cif.reader(file_path=str(refined.path)).build_crystal_structures().values())
    )
    assert back.space_group() == structure.space_group()
    assert back.unit_cell().is_similar_to(structure.unit_cell(), 1e-4, 1e-3)
    for one, other in zip(structure.scatterers(), back.scatterers()):
        assert one.label == other.label
        assert one.site == pytest.approx(other.site, abs=6e-4)
        if one.flags.use_u_aniso():
            u, v = (adptbx.u_star_as_u_cif(structure.unit_cell(), s.u_star) for s in (one, other))
            assert u == pytest.approx(v, abs=6e-3)


def test_block_and_setting(refined):
    text = refined.path.read_text()
    assert text.startswith("data_thpp_phai\n")
    assert refined.block["_space_group_name_Hall"] == "-P 2yn"
    assert refined.block["_space_group_name_H-M_alt"] == "P 1 21/n 1"


def test_cell_carries_the_uncertainties_of_zerr(refined):
    assert refined.block["_cell_length_a"] == "6.91960(10)"
    assert refined.block["_cell_angle_beta"] == "90.6370(10)"
    # dV/V^2 = sum (da/a)^2 + (dbeta / tan beta)^2, V = 980.72 A^3.
    assert refined.block["_cell_volume"].startswith("980.7")


def test_atoms_carry_the_uncertainties_of_the_refinement(refined):
    covariance = refined.solution.covariance
    label = refined.block["_atom_site_label"][0]
    text = refined.block["_atom_site_fract_x"][0]
    value, su = text.rstrip(")").split("(")
    digits = len(value.split(".")[1])
    expected = math.sqrt(covariance.variance_of(f"{label}.x"))
    assert int(su) * 10.0**-digits == pytest.approx(expected, rel=0.06)


def test_geometry_of_the_ring(refined):
    """C-F bonds are about 1.35 A; their uncertainties are a few thousandths."""
    block = refined.block
    rows = zip(
        block["_geom_bond_atom_site_label_1"],
        block["_geom_bond_atom_site_label_2"],
        block["_geom_bond_distance"],
    )
    c_f = [d for one, two, d in rows if {one[0], two[0]} == {"C", "F"}]
    assert len(c_f) == 2
    for text in c_f:
        value, su = text.rstrip(")").split("(")
        assert float(value) == pytest.approx(1.345, abs=0.02)
        assert 0 < int(su) * 10.0 ** -len(value.split(".")[1]) < 0.01
    assert len(block["_geom_angle"]) > 20


def test_agreement_and_data(refined):
    block, solution = refined.block, refined.solution
    assert float(block["_refine_ls_R_factor_gt"]) == pytest.approx(solution.r1, abs=1e-4)
    assert int(block["_refine_ls_number_parameters"]) == solution.n_parameters
    assert block["_chemical_formula_sum"] == "C10 H10 F2 N4"
    # 4 C10H10F2N4 = 4 * 224.21 u in 980.7 A^3
    assert float(block["_exptl_crystal_density_diffrn"]) == pytest.approx(1.519, abs=0.002)
    assert block["_exptl_crystal_F_000"] == "464"
    assert block["_diffrn_radiation_probe"] == "x-ray"
    assert float(block["_diffrn_reflns_theta_max"]) == pytest.approx(30.5, abs=0.3)


def test_embedded_files_are_read_again(refined):
    """The CIF alone is enough to go on: its .hkl and .res are an input of their own."""
    data = read(refined.path)
    assert data.observations.size() == refined.data.observations.size()
    one, other = data.observations.data(), refined.data.observations.data()
    assert all(abs(a - b) <= 1e-4 * max(1, abs(b)) for a, b in zip(one, other))
    assert data.composition.unit_cell_contents == refined.data.composition.unit_cell_contents
    text = refined.block["_shelx_res_file"]
    back = xray.structure.from_shelx(file=io.StringIO(text.strip()))
    assert back.scatterers().size() == refined.solution.xray_structure.scatterers().size()


def test_without_covariance_there_are_no_uncertainties(refined):
    solution = SimpleNamespace(**{**vars(refined.solution), "covariance": None})
    block = next(
        iter(iotbx.cif.reader(input_string=cif_text(refined.data, solution)).model().values())
    )
    assert "(" not in "".join(block["_atom_site_fract_x"])
    assert "(" not in "".join(block["_geom_bond_distance"])


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        ({"O": 1, "H": 2}, "H2 O"),
        ({"N": 4, "C": 10, "F": 2, "H": 10}, "C10 H10 F2 N4"),
        ({"Cu": 0.5, "C": 1}, "C Cu0.5"),
    ],
)
def test_formula_in_the_order_of_hill(contents, expected):
    assert formula(contents) == expected
