"""Form factors fixed to the frame of a known molecule, on glycine to 2 A."""

import numpy as np
import pytest

from cctbx.array_family import flex

from phai_cctbx.aspherical import tables
from phai_cctbx.aspherical.deformation import table_structure_factors
from phai_cctbx.aspherical.fixed import refine_with_fixed_form_factors
from phai_cctbx.aspherical.hirshfeld import FormFactors, HirshfeldSettings
from phai_cctbx.building.molecule import read_molecules
from phai_cctbx.building.molecule_placement import place
from phai_cctbx.io.read import read
from phai_cctbx.phasing.normalisation import prepare
from phai_cctbx.refinement import molecule_refinement
from phai_cctbx.refinement.comparison import compare
from phai_cctbx.refinement.molecule_refinement import refine_molecule, refine_with_table

pytest.importorskip("rdkit")


@pytest.fixture(scope="module")
def glycine(shared_data):
    """Prepared data and the restrained molecule with spherical atoms."""
    folder = shared_data / "measured" / "glycine_hikari"
    data = read(folder / "glycine_hikari.ins")
    prepared = prepare(data.observations, d_min=2.0)
    placed = place(prepared.f_obs, read_molecules("[NH3+]CC(=O)[O-]"), [1.0])
    with pytest.MonkeyPatch.context() as patch:
        # to the minimum, where further cycles have nothing to do
        patch.setattr(molecule_refinement, "CONVERGED_SHIFT", 1e-5)
        patch.setattr(molecule_refinement, "N_CYCLES", 60)
        refined = refine_molecule(
            prepared.f_sq, prepared.f_obs, placed.best, wavelength=data.wavelength, with_free=False
        )
    return prepared, refined


def test_spherical_table_changes_nothing(glycine, tmp_path):
    prepared, refined = glycine
    structure = refined.refinement.xray_structure
    path = tmp_path / "spherical.tsc"
    tables.write_tsc(path, tables.spherical_table(structure, prepared.f_sq.indices()))
    again = refine_with_table(refined, prepared.f_sq, prepared.f_obs, str(path))
    np.testing.assert_allclose(
        np.array(again.refinement.xray_structure.sites_frac()),
        np.array(structure.sites_frac()),
        atol=2e-4,
    )
    assert again.level.held_out_r == pytest.approx(refined.level.held_out_r, abs=1e-3)


@pytest.mark.slow
def test_fixed_form_factors_take_the_error_of_spherical_atoms_away(glycine, quantum, tmp_path):
    """Amplitudes at 2 A from Hirshfeld atoms (HF/STO-3G): spherical atoms move the molecule."""
    prepared, refined = glycine
    truth = refined.refinement.xray_structure
    settings = HirshfeldSettings(cluster_radius=0)
    miller_set = prepared.f_sq.common_sets(prepared.f_obs)[0]
    table, _ = FormFactors(quantum, settings)(truth, miller_set.indices())
    f_calc = np.abs(table_structure_factors(truth, table, miller_set.indices()))
    f_obs = miller_set.array(
        data=flex.double(f_calc.tolist())
    ).set_observation_type_xray_amplitude()
    f_sq = f_obs.f_as_f_sq().customized_copy(sigmas=flex.double((0.02 * f_calc**2 + 0.1).tolist()))
    path = tmp_path / "x.tsc"
    tables.write_tsc(path, tables.spherical_table(truth, miller_set.indices()))
    spherical = refine_with_table(refined, f_sq, f_obs, str(path))
    better, result = refine_with_fixed_form_factors(spherical, f_sq, f_obs, quantum, settings, path)
    assert result.converged and result.fixed
    assert better.level.held_out_r < 0.7 * spherical.level.held_out_r
    before, after = (
        compare(each.refinement.xray_structure, truth).rmsd for each in (spherical, better)
    )
    assert after < 0.5 * before
