"""Structure factors from tables, residual density, bonds to hydrogen, disorder."""

import numpy as np
import pytest

from cctbx import crystal, miller, xray
from cctbx.array_family import flex
from cctbx.development import random_structure
from cctbx.sgtbx import space_group_info

from phai_cctbx.aspherical import deformation, disorder, neutron, residual_density, tables


@pytest.mark.parametrize("symbol", ["P 21 21 21", "C 1 2/c 1", "R -3 :H", "P n n n :1"])
def test_table_structure_factors_are_those_of_cctbx(symbol):
    flex.set_random_seed(2)
    structure = random_structure.xray_structure(
        space_group_info(symbol),
        elements=["C", "O", "S"],
        volume_per_atom=50,
        use_u_iso=False,
        use_u_aniso=True,
        random_u_iso=True,
    )
    for i, scatterer in enumerate(structure.scatterers()):
        scatterer.label = f"{scatterer.scattering_type}{i}"
    miller_set = miller.build_set(structure, anomalous_flag=False, d_min=1.2)
    expected = miller_set.structure_factors_from_scatterers(structure, algorithm="direct").f_calc()
    table = tables.spherical_table(structure, miller_set.indices())
    found = deformation.table_structure_factors(structure, table, miller_set.indices())
    np.testing.assert_allclose(found, np.array(expected.data()), atol=1e-6 * np.abs(found).max())


def test_fractal_dimension_of_a_plane_and_of_noise():
    x = np.arange(64) / 64
    plane = np.broadcast_to(np.sin(2 * np.pi * x)[:, None, None], (64, 64, 64))
    assert residual_density.fractal_dimension(plane, 0.5) == pytest.approx(2, abs=0.2)
    noise = np.random.RandomState(0).normal(size=(64, 64, 64))
    assert residual_density.fractal_dimension(noise, 0.0) > 2.9
    assert residual_density.fractal_dimension(plane, 5.0) == 0.0


def test_neutron_means_by_group(urea):
    bonds = neutron.hydrogen_bond_lengths(urea)
    assert [(b.carrier, b.neutron) for b in bonds] == [("N1", 1.013), ("N1", 1.013)]
    signed, absolute, n = neutron.mean_deviation(bonds)
    assert n == 2
    assert abs(signed) <= absolute < 0.02


def molecule_in_a_box(atoms):
    symmetry = crystal.symmetry((10, 10, 10, 90, 90, 90), "P 1")
    scatterers = [
        xray.scatterer(label, site=tuple(np.array(xyz) / 10 + 0.5), u=0.02) for label, xyz in atoms
    ]
    return xray.structure(
        crystal.special_position_settings(symmetry), flex.xray_scatterer(scatterers)
    )


def test_hydroxyl_groups_are_told_apart():
    """Methanol and formic acid: the acid holds its hydrogen less tightly."""
    methanol = molecule_in_a_box(
        [
            ("C1", (0, 0, 0)),
            ("O1", (1.42, 0, 0)),
            ("H1", (1.74, 0.92, 0)),
            ("H2", (-0.36, 1.03, 0)),
            ("H3", (-0.36, -0.51, 0.89)),
            ("H4", (-0.36, -0.51, -0.89)),
        ]
    )
    formic_acid = molecule_in_a_box(
        [
            ("C1", (0, 0, 0)),
            ("O1", (1.34, 0, 0)),
            ("O2", (-0.68, 0.99, 0)),
            ("H1", (1.66, 0.94, 0)),
            ("H2", (-0.43, -1.0, 0)),
        ]
    )
    for structure, expected in ((methanol, 0.970), (formic_acid, 1.018)):
        (bond,) = (b for b in neutron.hydrogen_bond_lengths(structure) if b.carrier.startswith("O"))
        assert bond.neutron == expected


def test_parts_become_ordered_structures_weighted_by_occupancy(urea):
    urea.scatterers()[3].occupancy = 0.7
    urea.scatterers()[4].occupancy = 0.3
    first, second = disorder.configurations(urea, [0, 0, 0, 1, 2])
    assert first.selection.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(first.weights, [0.7, 0.7, 0.7, 1, 0])
    np.testing.assert_allclose(second.weights, [0.3, 0.3, 0.3, 0, 1])
    (ordered,) = disorder.configurations(urea)
    assert ordered.weights.tolist() == [1] * 5
