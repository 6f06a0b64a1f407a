"""Hirshfeld atom refinement recovers what it calculated itself."""

import numpy as np
import pytest

from cctbx import crystal, miller, xray
from cctbx.array_family import flex

from phai_cctbx.aspherical import deformation, tables
from phai_cctbx.aspherical.form_factors import form_factor_table
from phai_cctbx.aspherical.hirshfeld import FormFactors, HirshfeldSettings, refine_hirshfeld
from phai_cctbx.aspherical.molecules import grow_molecules
from phai_cctbx.aspherical.neutron import hydrogen_bond_lengths


def test_form_factors_obey_the_symmetry_of_the_site(urea, quantum):
    (molecule,) = grow_molecules(urea)
    density = quantum.molecule(molecule.numbers, molecule.coordinates, 0, 1)
    indices = flex.miller_index([(0, 0, 0), (1, 2, 1), (3, 0, 2)])
    table = form_factor_table(urea, [molecule], [density], indices, quantum)
    assert tables.validate(table, urea, indices) == []
    rows = {tuple(h): i for i, h in enumerate(table.indices.tolist())}
    multiplicity = np.array([1, 1, 2, 2, 2])
    assert table.values[rows[0, 0, 0]].real @ multiplicity == pytest.approx(32, abs=0.01)
    # C and O lie on the mirror plane that exchanges a and b: f(h k l) = f(k h l)
    np.testing.assert_allclose(
        table.values[rows[1, 2, 1], :2], table.values[rows[2, 1, 1], :2], atol=1e-9
    )
    # bonding makes the form factors of atoms without a centre of symmetry complex
    assert np.abs(table.values.imag).max() > 0.01


def test_form_factors_turn_with_a_rigid_molecule(quantum):
    """Water turned by 30 degrees in P 1: the transform alone against a new calculation."""
    angle = np.radians(30)
    turn = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    flat = np.array([[0, 0.1173, 0], [0.7572, -0.4692, 0], [-0.7572, -0.4692, 0]])

    def water(coordinates):
        symmetry = crystal.symmetry((7, 8, 9, 90, 90, 90), "P 1")
        return xray.structure(
            crystal.special_position_settings(symmetry),
            flex.xray_scatterer(
                [
                    xray.scatterer(label, site=tuple(site / (7, 8, 9)), u=0.02)
                    for label, site in zip(("O1", "H1", "H2"), coordinates + 3.0, strict=True)
                ]
            ),
        )

    before, after = water(flat), water(flat @ turn.T)
    indices = miller.build_set(before, anomalous_flag=True, d_min=1.0).indices()
    rigid = FormFactors(quantum, HirshfeldSettings(cluster_radius=0, rigid=True))
    unturned, _ = rigid(before, indices)
    turned, _ = rigid(after, indices)
    fresh, _ = FormFactors(quantum, HirshfeldSettings(cluster_radius=0))(after, indices)
    assert np.abs(turned.values - unturned.values).max() > 0.05
    np.testing.assert_allclose(turned.values, fresh.values, atol=2e-3)


@pytest.mark.slow
def test_refinement_recovers_nuclear_positions(urea, quantum, tmp_path):
    """Data from Hirshfeld atoms: they find the N-H distances again, spherical atoms do not."""
    miller_set = miller.build_set(urea, anomalous_flag=False, d_min=0.8)
    settings = HirshfeldSettings(
        hydrogens="isotropic", cluster_radius=0, weighting="keep", extinction="no"
    )
    table, _ = FormFactors(quantum, settings)(urea, miller_set.indices())
    f_calc = deformation.table_structure_factors(urea, table, miller_set.indices())
    data = flex.double((np.abs(f_calc) ** 2).tolist())
    f_sq = miller.array(
        miller_set, data=data, sigmas=0.01 * data + 0.01
    ).set_observation_type_xray_intensity()
    true = [bond.length for bond in hydrogen_bond_lengths(urea)]
    result = refine_hirshfeld(urea, f_sq, quantum, settings, tmp_path / "x.tsc", wavelength=0.71073)
    spherical = hydrogen_bond_lengths(result.independent_atoms.xray_structure)
    refined = hydrogen_bond_lengths(result.refinement.xray_structure)
    assert result.converged
    assert result.refinement.r1 < 0.002 < result.independent_atoms.r1
    spherical_errors = [abs(b.length - t) for b, t in zip(spherical, true, strict=True)]
    errors = [abs(b.length - t) for b, t in zip(refined, true, strict=True)]
    assert max(errors) < 0.002
    assert min(spherical_errors) > 5 * max(errors)
    n_computed = dict(quantum.n_computed)
    again = refine_hirshfeld(urea, f_sq, quantum, settings, tmp_path / "x.tsc", wavelength=0.71073)
    assert quantum.n_computed == n_computed
    assert again.refinement.wr2 == result.refinement.wr2
