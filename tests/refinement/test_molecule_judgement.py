"""Evidence on a molecule: an atom that is there is likelier than none, and the other way round."""

import numpy as np
import pytest

# cctbx
from cctbx import crystal, miller, sgtbx, xray
from cctbx.array_family import flex

from phai_cctbx.refinement.molecule_judgement import (
    evidence_against,
    is_doubtful,
    log_likelihood_gain,
    missing_atoms,
    r_of_coordinate_errors,
)

SITES = {
    "C1": (0.12, 0.10, 0.21),
    "C2": (0.24, 0.19, 0.23),
    "O1": (0.33, 0.13, 0.38),
    "N1": (0.26, 0.33, 0.10),
    "C3": (0.17, 0.43, 0.02),
}


@pytest.fixture(scope="module")
def crystal_of_five():
    symmetry = crystal.symmetry((7.5, 8.2, 9.1, 90, 101, 90), "P 1 21/c 1")
    structure = xray.structure(crystal_symmetry=symmetry)
    for label, site in SITES.items():
        structure.add_scatterer(xray.scatterer(label, site=site, u=0.04, scattering_type=label[0]))
    structure.scattering_type_registry(table="it1992")
    indices = miller.build_set(symmetry, anomalous_flag=False, d_min=2.0)
    f_obs = abs(indices.structure_factors_from_scatterers(structure, algorithm="direct").f_calc())
    return structure, f_obs


def _calculated(structure, f_obs):
    f_calc = f_obs.structure_factors_from_scatterers(structure, algorithm="direct").f_calc()
    return f_calc.data().as_numpy_array()


def test_an_atom_left_out_is_asked_for_where_it_is(crystal_of_five):
    structure, f_obs = crystal_of_five
    without = structure.select(flex.size_t(range(4)))
    without.scattering_type_registry(table="it1992")
    observed, whole = f_obs.data().as_numpy_array(), _calculated(structure, f_obs)
    rest = _calculated(without, f_obs)
    assert log_likelihood_gain(observed, whole, rest) > 20
    place, *_ = missing_atoms(f_obs, observed, rest, without)
    equivalents = sgtbx.sym_equiv_sites(
        structure.space_group(), structure.sites_frac()[4], structure.unit_cell()
    )
    assert sgtbx.min_sym_equiv_distance_info(equivalents, place.site).dist() < 0.4
    assert missing_atoms(f_obs, observed, whole, structure) == ()


def test_coordinate_errors_follow_luzzati(crystal_of_five):
    """R rises with the error, towards 0.828 of a wrong centrosymmetric model (Wilson, 1950)."""
    structure, f_obs = crystal_of_five
    calculated = _calculated(structure, f_obs)
    small, large, lost = (
        r_of_coordinate_errors(f_obs, calculated, structure, error) for error in (0.05, 0.2, 3.0)
    )
    assert small < large < lost
    assert large == pytest.approx(4 * small, rel=0.3)  # linear while errors are small
    assert 0.4 < lost < 0.95


def test_each_kind_of_evidence_is_named():
    assert evidence_against(0.08, 0.22, [], [], 1.0, 50.0, []) == ()
    (alert,) = evidence_against(0.21, 0.25, [], [], 1.0, 50.0, [])
    assert "0.210" in alert
    (reason,) = evidence_against(0.19, 0.17, [], [], 1.0, 50.0, [])
    assert "0.170" in reason
    assert len(evidence_against(0.30, 0.22, [], [], 5.0, 1.0, ["C...C 2.1 A"])) == 4
    assert not is_doubtful(0.9, 1.0, 40.0)
    assert is_doubtful(0.9, 1.0, -5.0)
    assert is_doubtful(0.9, 1.8, 40.0)
    assert is_doubtful(0.2, 1.0, 40.0)
    assert np.isfinite(
        log_likelihood_gain(np.arange(1.0, 4), np.arange(1.0, 4), np.array([3.0, 2, 1]))
    )
