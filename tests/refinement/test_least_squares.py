"""Least squares against exact data, where the answer is known."""

import numpy as np
import pytest

# cctbx
from cctbx import xray
from cctbx.array_family import flex
from libtbx.utils import Sorry

from phai_cctbx.refinement.least_squares import (
    at_lower_bound,
    dispersion,
    prepare_scattering,
    refine,
)
from phai_cctbx.refinement.weighting import Weighting


@pytest.fixture
def shaken(crystal_model):
    structure = crystal_model.deep_copy_scatterers()
    generator = np.random.default_rng(3)
    unit_cell = structure.unit_cell()
    for scatterer in list(structure.scatterers())[1:]:
        move = unit_cell.fractionalize(tuple(generator.normal(scale=0.06, size=3)))
        scatterer.site = tuple(np.add(scatterer.site, move))
        scatterer.u_iso += 0.01
    return structure


def test_exact_data_bring_back_the_model(crystal_model, shaken, exact_intensities):
    result = refine(shaken, exact_intensities, Weighting(0.0, 0.0), n_cycles=20)
    assert result.r1 < 1e-4
    assert result.scale_factor == pytest.approx(4.0, rel=1e-3)
    for found, true in zip(result.xray_structure.scatterers(), crystal_model.scatterers()):
        assert crystal_model.unit_cell().distance(found.site, true.site) < 1e-3
        assert found.u_iso == pytest.approx(true.u_iso, abs=1e-4)


def test_atom_on_inversion_centre_stays_there(shaken, exact_intensities):
    result = refine(shaken, exact_intensities)
    assert result.xray_structure.scatterers()[0].site == pytest.approx((0, 0, 0), abs=1e-9)
    # four free atoms: 3 coordinates and U each; the ion on the inversion centre: U
    assert result.n_parameters == 4 * 4 + 1


def test_too_light_an_element_has_its_u_at_the_lower_bound(crystal_model, exact_intensities):
    right = refine(crystal_model, exact_intensities)
    assert at_lower_bound(right.xray_structure) == []
    lighter = crystal_model.deep_copy_scatterers()
    label = lighter.scatterers()[0].label
    lighter.scatterers()[0].scattering_type = "C"
    prepare_scattering(lighter)
    assert label in at_lower_bound(refine(lighter, exact_intensities).xray_structure)
    lighter.convert_to_anisotropic()
    assert label in at_lower_bound(refine(lighter, exact_intensities).xray_structure)


def test_start_is_not_changed(shaken, exact_intensities):
    before = shaken.sites_frac().deep_copy()
    refine(shaken, exact_intensities)
    assert flex.max(flex.abs((before - shaken.sites_frac()).as_double())) == 0


def test_standard_uncertainties_are_the_scatter_of_noise(crystal_model, exact_intensities):
    """Refinements against noisy data scatter by the esd that one of them reports."""
    generator = np.random.default_rng(7)
    sigmas = np.array(exact_intensities.sigmas())
    values, esds = [], []
    for _ in range(12):
        noisy = exact_intensities.customized_copy(
            data=exact_intensities.data()
            + flex.double(sigmas * generator.normal(size=len(sigmas))),
            sigmas=exact_intensities.sigmas(),
        ).set_observation_type_xray_intensity()
        result = refine(crystal_model, noisy, Weighting(0.0, 0.0), n_cycles=8, with_covariance=True)
        values.append(result.xray_structure.scatterers()[2].site[0])
        esds.append(np.sqrt(result.covariance.variance_of("C1.x")))
        assert result.max_shift_over_esd < 0.01
        assert 0.85 < result.goof < 1.15
    assert np.std(values, ddof=1) / np.mean(esds) == pytest.approx(1.0, abs=0.45)


def test_extinction_is_found(crystal_model, exact_intensities):
    wavelength = 0.71073
    correction = xray.shelx_extinction_correction(crystal_model.unit_cell(), wavelength, 0.8)
    generator = np.random.default_rng(4)
    intensities = exact_intensities.customized_copy(
        data=flex.double(
            [
                i * correction.compute(h, i / 4.0, False)[0] * (1 + 1e-3 * generator.normal())
                for h, i in zip(exact_intensities.indices(), exact_intensities.data())
            ]
        ),
        sigmas=exact_intensities.sigmas(),
    ).set_observation_type_xray_intensity()
    result = refine(
        crystal_model,
        intensities,
        Weighting(0.0, 0.0),
        n_cycles=20,
        extinction=0.01,
        wavelength=wavelength,
        with_covariance=True,
    )
    assert result.extinction == pytest.approx(0.8, rel=0.02)
    assert result.extinction > 10 * result.extinction_esd


def test_occupancy_tells_a_wrong_element(crystal_model, exact_intensities):
    structure = crystal_model.deep_copy_scatterers()
    structure.scatterers()[1].scattering_type = "C"
    structure.scattering_type_registry(table="it1992")
    result = refine(structure, exact_intensities, occupancies=[1], n_cycles=10)
    assert 7 / 6 < result.xray_structure.scatterers()[1].occupancy < 1.7


def test_too_few_reflections_are_refused(crystal_model, exact_intensities):
    few = exact_intensities.resolution_filter(d_min=4.0)
    with pytest.raises(Sorry, match="reflections cannot determine"):
        refine(crystal_model, few)


def test_dispersion_of_copper_at_its_own_wavelength():
    """International Tables C, table 4.2.6.8: Cu, Cu K alpha: f' -1.965, f'' 0.589."""
    fp, fdp = dispersion("Cu", 1.5418)
    assert fp == pytest.approx(-1.97, abs=0.1)
    assert fdp == pytest.approx(0.59, abs=0.03)
    assert dispersion("H", 1.5418) == (0.0, 0.0)


@pytest.mark.parametrize("radiation", ["xray", "electron", "neutron"])
def test_each_radiation_has_its_factors(crystal_model, radiation):
    structure = crystal_model.deep_copy_scatterers()
    prepare_scattering(structure, radiation, 0.71073)
    f_000 = sum(
        s.weight()
        * structure.scattering_type_registry().gaussian(s.scattering_type).at_d_star_sq(0)
        for s in structure.scatterers()
    )
    expected = {
        "xray": 0.5 * 29 + 8 + 6 + 7 + 6,
        # bound coherent scattering lengths, fm (Sears, Neutron News 3, 26, 1992)
        "neutron": 0.5 * 7.718 + 5.803 + 6.646 + 9.36 + 6.646,
    }
    if radiation in expected:
        assert f_000 == pytest.approx(expected[radiation], rel=0.01)
    assert structure.scatterers()[0].fdp == pytest.approx(
        1.27 if radiation == "xray" else 0, abs=0.05
    )


def test_unknown_radiation_is_refused(crystal_model):
    with pytest.raises(Sorry, match="muon"):
        prepare_scattering(crystal_model.deep_copy_scatterers(), "muon")
