"""Form-factor tables: round trip, validation, and the spherical table against smtbx's own."""

import numpy as np
import pytest

import smtbx.utils
from cctbx import crystal, miller, sgtbx, xray
from cctbx.array_family import flex
from cctbx.development import random_structure
from libtbx.utils import Sorry
from scitbx.lstbx import normal_eqns_solving
from smtbx.refinement import constraints, least_squares
from smtbx.structure_factors import direct

from phai_cctbx.aspherical import tables

SPACE_GROUPS = [
    "P-1",
    "P 1 21/c 1",
    "P 21 21 21",
    "P b c a",
    "P -4 21 m",
    "R -3 :H",
    "P 63/m",
    "P 21 3",
]


def crystal_in(symbol, d_min=0.9):
    """Random atoms (one on a special position where there is one) and their F^2 with noise."""
    flex.set_random_seed(7)
    group = sgtbx.space_group_info(symbol)
    structure = random_structure.xray_structure(
        group,
        elements=["S", "O", "N", "C"],
        volume_per_atom=25 * group.group().order_z() ** 0.1,
        min_distance=1.5,
        use_u_iso=True,
        u_iso=0.03,
        random_u_iso=False,
    )
    for scatterer in structure.scatterers():
        scatterer.label = scatterer.label.strip()
    if symbol == "P -4 21 m":
        structure.add_scatterer(xray.scatterer("O9", site=(0.0, 0.5, 0.3), u=0.03))
    if not structure.space_group().is_centric():
        structure.set_inelastic_form_factors(0.71073, "sasaki")
    f_sq = (
        structure.structure_factors(
            d_min=d_min, anomalous_flag=not structure.space_group().is_centric()
        )
        .f_calc()
        .as_intensity_array()
    )
    noise = np.random.RandomState(3).normal(size=f_sq.size())
    sigmas = 0.02 * f_sq.data() + 0.01 * flex.mean(f_sq.data())
    data = f_sq.data() + flex.double(noise) * sigmas
    return structure, f_sq.customized_copy(
        data=data, sigmas=sigmas
    ).set_observation_type_xray_intensity()


def refined(structure, f_sq, table_file_name=None):
    """Positions and their esds after least squares from a disturbed start."""
    structure = structure.deep_copy_scatterers()
    flex.set_random_seed(5)
    structure.shake_sites_in_place(rms_difference=0.02)
    for scatterer in structure.scatterers():
        scatterer.flags.set_grad_site(True)
        scatterer.flags.set_grad_u_iso(True)
    parameters = constraints.reparametrisation(
        structure, [], smtbx.utils.connectivity_table(structure)
    )
    engine = least_squares.crystallographic_ls(
        f_sq.as_xray_observations(),
        parameters,
        one_h_linearisation=direct.f_calc_modulus_squared(
            structure, table_file_name=table_file_name
        ),
        weighting_scheme=least_squares.mainstream_shelx_weighting(a=0.02, b=0.0),
        may_parallelise=False,
    )
    normal_eqns_solving.levenberg_marquardt_iterations(
        non_linear_ls=engine, n_max_iterations=60, gradient_threshold=1e-12, step_threshold=1e-12
    )
    engine.build_up()
    engine.solve()
    covariance = engine.covariance_matrix_and_annotations()
    names = [f"{s.label}.{axis}" for s in structure.scatterers() for axis in "xyz"]
    esds = np.array(
        [
            np.sqrt(max(0.0, covariance.variance_of(name)))
            if name in covariance.annotations
            else 0.0
            for name in names
        ]
    )
    return structure.sites_frac().as_double().as_numpy_array(), esds, engine.r1_factor(2)[0]


@pytest.mark.parametrize("symbol", SPACE_GROUPS)
def test_spherical_table_reproduces_independent_atoms(symbol, tmp_path):
    structure, f_sq = crystal_in(symbol)
    table = tables.spherical_table(structure, f_sq.indices())
    tables.validate(table, structure, f_sq.indices())
    path = tmp_path / "spherical.tsc"
    tables.write_tsc(path, table)
    sites, esds, r1 = refined(structure, f_sq)
    table_sites, table_esds, table_r1 = refined(structure, f_sq, str(path))
    assert r1 < 0.05
    np.testing.assert_allclose(table_sites, sites, atol=1e-6)
    np.testing.assert_allclose(table_esds, esds, rtol=1e-4, atol=1e-12)
    assert np.count_nonzero(esds) >= 6


def small_crystal():
    structure = xray.structure(
        crystal.special_position_settings(crystal.symmetry((5, 6, 7, 90, 90, 90), "P 21 21 21")),
        flex.xray_scatterer(
            [
                xray.scatterer("C1", site=(0.1, 0.2, 0.3), u=0.02),
                xray.scatterer("O1", site=(0.4, 0.2, 0.3), u=0.02),
            ]
        ),
    )
    indices = miller.build_set(structure, anomalous_flag=True, d_min=1.5).indices()
    return structure, indices


def test_round_trip(tmp_path):
    structure, indices = small_crystal()
    table = tables.spherical_table(structure, indices, title="x")
    table.values[:] += 0.3j
    tables.write_tsc(tmp_path / "x.tsc", table)
    back = tables.read_tsc(tmp_path / "x.tsc")
    assert back.labels == ("C1", "O1") and back.title == "x"
    np.testing.assert_array_equal(back.indices, table.indices)
    np.testing.assert_allclose(back.values, table.values, rtol=1e-8)


def test_expanded_indices_hold_every_rotation_of_hexagonal_axes():
    """In R-3 (hexagonal axes) (h k l) has the mates (k, -h-k, l) and (-h-k, h, l)."""
    group = sgtbx.space_group_info("R -3 :H").group()
    expanded = {tuple(h) for h in tables.expanded_indices([(1, 2, 3)], group).tolist()}
    assert expanded == {(1, 2, 3), (2, -3, 3), (-3, 1, 3)}


def corrupted(path, change):
    text = path.read_text()
    path.write_text(change(text))
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.replace("SCATTERERS: C1 O1", "SCATTERERS: C1"), "columns"),
        (lambda t: t[: len(t) - 30], "columns"),
        (lambda t: t.replace("DATA:", "D"), "no rows"),
        (lambda t: t.replace("SCATTERERS:", "S:"), "no SCATTERERS"),
        (lambda t: t.replace(",0", ",nan", 1), "finite"),
        (lambda t: t.replace(",0", ",x", 1), "line 5"),
        (lambda t: t.replace("SYMM", "AD: TRUE\nSYMM"), "dispersion"),
    ],
)
def test_damaged_tables_are_refused(tmp_path, change, message):
    structure, indices = small_crystal()
    path = tmp_path / "x.tsc"
    tables.write_tsc(path, tables.spherical_table(structure, indices))
    with pytest.raises(Sorry, match=message):
        tables.read_tsc(corrupted(path, change))


def test_missing_and_binary_files_are_refused(tmp_path):
    with pytest.raises(Sorry, match="cannot be read"):
        tables.read_tsc(tmp_path / "absent.tsc")
    with pytest.raises(Sorry, match="binary"):
        tables.read_tsc(tmp_path / "x.tscb")
    (tmp_path / "y.tsc").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(Sorry, match="text"):
        tables.read_tsc(tmp_path / "y.tsc")


def test_validation_names_what_is_missing():
    structure, indices = small_crystal()
    table = tables.spherical_table(structure, indices)
    short = tables.FormFactorTable(table.labels, table.indices[:-2], table.values[:-2])
    with pytest.raises(Sorry, match="2 of the"):
        tables.validate(short, structure, indices)
    renamed = tables.FormFactorTable(("C1", "O2"), table.indices, table.values)
    with pytest.raises(Sorry, match="missing: O1; not in the structure: O2"):
        tables.validate(renamed, structure, indices)
    swapped = tables.FormFactorTable(("O1", "C1"), table.indices, table.values)
    with pytest.raises(Sorry, match="wrong element"):
        tables.validate(swapped, structure, indices)


def test_validation_warns_of_broken_site_symmetry():
    structure = xray.structure(
        crystal.special_position_settings(
            crystal.symmetry((5.6, 5.6, 4.7, 90, 90, 90), "P -4 21 m")
        ),
        flex.xray_scatterer([xray.scatterer("O", site=(0, 0.5, 0.6), u=0.02)]),
    )
    indices = miller.build_set(structure, anomalous_flag=True, d_min=1.5).indices()
    table = tables.spherical_table(structure, indices)
    assert tables.validate(table, structure, indices) == []
    row = [tuple(h) for h in table.indices.tolist()].index((1, 2, 1))
    table.values[row, 0] += 0.5
    assert "O breaks its site symmetry by 0.500" in tables.validate(table, structure, indices)[0]
