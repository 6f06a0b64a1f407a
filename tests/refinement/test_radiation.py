"""Completion with electrons and neutrons, on simulated data."""

import numpy as np
import pytest

# cctbx
from cctbx import miller
from cctbx.array_family import flex

from phai_cctbx.building.connectivity import element_of
from phai_cctbx.building.elements import scattering_power
from phai_cctbx.building.hydrogens import HydrogenPlacer, add_hydrogens
from phai_cctbx.phasing.result import PhasingResult
from phai_cctbx.refinement.comparison import compare
from phai_cctbx.refinement.completion import cell_contents, complete_structure
from phai_cctbx.refinement.least_squares import prepare_scattering


@pytest.fixture
def with_hydrogens(crystal_model):
    groups = HydrogenPlacer(crystal_model, lambda site: 0.0).groups()
    return add_hydrogens(crystal_model, groups)[0]


def _solve(structure, radiation):
    """Complete a structure from its intensities and signs, 3 % noise, a tenth of signs wrong."""
    structure = structure.deep_copy_scatterers()
    prepare_scattering(structure, radiation)
    f_calc = structure.structure_factors(d_min=0.75, algorithm="direct").f_calc()
    generator = np.random.default_rng(6)
    exact = flex.norm(f_calc.data())
    sigmas = 0.03 * exact + 0.003 * flex.mean(exact)
    observed = exact + sigmas * flex.double(generator.normal(size=exact.size()))
    f_sq = f_calc.customized_copy(
        data=observed, sigmas=sigmas
    ).set_observation_type_xray_intensity()
    flips = flex.double(np.where(generator.random(exact.size()) < 0.1, -1.0, 1.0))
    f_phased = miller.array(miller_set=f_calc, data=f_calc.data() * flips)
    confidence = f_phased.customized_copy(data=flex.double(exact.size(), 0.8))
    return complete_structure(
        f_sq,
        PhasingResult(f_phased=f_phased, confidence=confidence),
        cell_contents(structure),
        radiation=radiation,
    )


def test_neutrons_find_hydrogen_as_holes(with_hydrogens):
    solution = _solve(with_hydrogens, "neutron")
    assert solution.solved
    assert solution.r1 < 0.06
    comparison = compare(solution.xray_structure, with_hydrogens)
    assert (comparison.n_missing, comparison.n_extra, comparison.wrong_elements) == (0, 0, 0)
    found = [s for s in solution.xray_structure.scatterers() if element_of(s) == "H"]
    assert len(found) == 3
    assert solution.riding == ()


def test_electrons_find_every_atom(with_hydrogens):
    solution = _solve(with_hydrogens, "electron")
    assert solution.solved
    assert solution.r1 < 0.10
    comparison = compare(solution.xray_structure, with_hydrogens)
    assert (comparison.n_missing, comparison.n_extra) == (0, 0)
    assert comparison.max_distance < 0.05


def test_scattering_powers_are_those_of_the_tables():
    assert scattering_power("Cu") == 29
    # Sears, Neutron News 3, 26 (1992), fm
    assert scattering_power("H", "neutron") == pytest.approx(-3.739, abs=0.01)
    assert scattering_power("D", "neutron") == pytest.approx(6.671, abs=0.01)
    assert scattering_power("O", "electron") > scattering_power("H", "electron") > 0
