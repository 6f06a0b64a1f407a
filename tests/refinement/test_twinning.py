"""Twins by merohedry: laws of lattices, fractions of simulated twins."""

import numpy as np
import pytest

# cctbx
from cctbx import crystal, xray
from cctbx.array_family import flex

from phai_cctbx.refinement.least_squares import refine
from phai_cctbx.refinement.trial_model import TrialModel
from phai_cctbx.refinement.twin_trials import report_twin, try_twins
from phai_cctbx.refinement.twinning import Twin, second_domain, twin_laws

FRACTION = 0.3


def random_crystal(symbol, cell):
    structure = xray.structure(crystal_symmetry=crystal.symmetry(cell, symbol))
    generator = np.random.default_rng(1)
    for k, element in enumerate(["Cl", "O", "N", "C", "C", "C"]):
        site = tuple(0.45 * generator.random(3))
        structure.add_scatterer(
            xray.scatterer(f"{element}{k}", site=site, u=0.03, scattering_type=element)
        )
    structure.scattering_type_registry(table="it1992")
    return structure


def twinned_intensities(structure, law, fraction):
    f_sq = (
        structure.structure_factors(d_min=0.9, anomalous_flag=False, algorithm="direct")
        .f_calc()
        .norm()
    )
    data = np.array(f_sq.data())
    if law is not None:
        data = (1 - fraction) * data + fraction * second_domain(structure, f_sq, law)
    sigmas = 0.02 * data + 0.5
    data = data + np.random.default_rng(5).normal(0, sigmas)
    return f_sq.customized_copy(
        data=flex.double(3 * data), sigmas=flex.double(3 * sigmas)
    ).set_observation_type_xray_intensity()


@pytest.mark.parametrize(
    ("symbol", "cell", "n_laws"),
    [
        # Koch, International Tables C (2004), chapter 1.3: index of the Laue group in the holohedry
        ("P 4/n", (8, 8, 9, 90, 90, 90), 1),
        ("R -3 :H", (10, 10, 12, 90, 90, 120), 1),
        ("P 31", (7, 7, 9, 90, 90, 120), 3),
        ("P m -3", (9, 9, 9, 90, 90, 90), 1),
        ("P 21 21 21", (7, 8, 9, 90, 90, 90), 0),
        ("P 1 21/c 1", (8, 9, 10, 90, 105, 90), 0),
        # by pseudo-merohedry: beta near 90, and a and c equal
        ("P 1 21/c 1", (8, 9, 10, 90, 90.3, 90), 1),
        ("P 1 21 1", (8, 9, 8, 90, 105, 90), 1),
    ],
)
def test_laws_of_lattices(symbol, cell, n_laws):
    f_sq = random_crystal(symbol, cell).structure_factors(d_min=2).f_calc()
    laws = twin_laws(f_sq)
    assert len(laws) == n_laws
    equivalent = {op.r().as_hkl() for op in f_sq.space_group().build_derived_laue_group()}
    assert not equivalent & {law.as_hkl() for law in laws}


CRYSTALS = [
    ("P 4/n", (8, 8, 9, 90, 90, 90)),
    ("R -3 :H", (10, 10, 12, 90, 90, 120)),
    ("P 1 21 1", (8, 9, 8, 90, 105, 90)),
]


@pytest.mark.parametrize(("symbol", "cell"), CRYSTALS)
def test_twin_is_found_and_its_fraction_refined(symbol, cell):
    structure = random_crystal(symbol, cell)
    f_sq = twinned_intensities(
        structure, twin_laws(structure.structure_factors(d_min=2).f_calc())[0], FRACTION
    )
    model = TrialModel(f_sq, None, "xray", None)
    model.structure = structure
    model.refine("single crystal", n_cycles=4)
    r1_single = model.result.r1
    assert try_twins(model)
    model.refine("with esds", n_cycles=4, with_covariance=True)
    assert model.result.r1 < 0.3 * r1_single
    assert abs(model.twin.fraction - FRACTION) < 4 * model.twin.esd
    report_twin(model)
    assert "TWIN" in model.warnings[-1]


@pytest.mark.parametrize(("symbol", "cell"), CRYSTALS)
def test_single_crystal_stays_single(symbol, cell):
    structure = random_crystal(symbol, cell)
    model = TrialModel(twinned_intensities(structure, None, 0.0), None, "xray", None)
    model.structure = structure
    model.refine("single crystal", n_cycles=4)
    assert not try_twins(model)
    assert model.twin is None
    ((fraction, esd),) = model.twin_fractions.values()
    assert abs(fraction) < 4 * esd


def test_structure_factors_are_those_of_the_first_domain():
    structure = random_crystal(*CRYSTALS[0])
    law = twin_laws(structure.structure_factors(d_min=2).f_calc())[0]
    f_sq = twinned_intensities(structure, law, FRACTION)
    result = refine(structure, f_sq, twin=Twin(law, 0.2), n_cycles=6)
    f_calc = f_sq.structure_factors_from_scatterers(structure, algorithm="direct").f_calc()
    assert np.corrcoef(np.abs(f_calc.data()), np.abs(result.f_calc.data()))[0, 1] > 0.999
    mixed = np.corrcoef(np.abs(f_calc.data()), np.sqrt(result.fc_sq.data()))[0, 1]
    assert mixed < 0.99
