"""What makes a structure a solution."""

from copy import copy
from dataclasses import replace

import pytest

# cctbx
from cctbx import xray

from phai_cctbx.refinement.trial_model import TrialModel, cell_contents, without_atoms
from phai_cctbx.refinement.verdict import bonded_share, judge


def test_bonded_atoms_and_lone_metals_have_sensible_surroundings(crystal_model):
    assert bonded_share(crystal_model) == 1.0


def test_a_lone_carbon_atom_has_not(crystal_model):
    assert bonded_share(without_atoms(crystal_model, [1, 3, 4])) == pytest.approx(1 / 2)


def test_atoms_on_top_of_each_other_have_not(crystal_model):
    structure = crystal_model.deep_copy_scatterers()
    x, y, z = structure.scatterers()[4].site
    structure.add_scatterer(
        xray.scatterer("C9", site=(x + 0.08, y, z), u=0.04, scattering_type="C")
    )
    assert bonded_share(structure) == pytest.approx(4 / 6)


def test_nothing_is_no_structure(crystal_model):
    assert bonded_share(without_atoms(crystal_model, range(5))) == 0.0


@pytest.fixture(scope="module")
def model(crystal_model, exact_intensities):
    result = TrialModel(exact_intensities, cell_contents(crystal_model), "xray", 0.71073)
    result.structure = crystal_model.deep_copy_scatterers()
    result.refine("right")
    return result


def _judged(model, r1, wr2, peak=0.3, hole=-0.3, composition=None, radiation=None):
    """The verdict on a model, had it come out with these figures."""
    changed = copy(model)
    changed.composition = composition or model.composition
    changed.radiation = radiation or model.radiation
    return judge(changed, replace(model.result, r1=r1, wr2=wr2, n_observed=10**6), peak, hole)


def test_the_right_structure_is_a_solution(model):
    assert judge(model, model.result, 0.1, -0.1) == (True, [])


def test_r_factors_of_alerts_a_forbid_a_solution(model):
    assert not _judged(model, 0.21, 0.30)[0]
    assert not _judged(model, 0.12, 0.47)[0]


def test_electrons_may_fit_worse(model):
    assert _judged(model, 0.21, 0.50, radiation="electron")[0]
    assert not _judged(model, 0.31, 0.50, radiation="electron")[0]


def test_few_reflections_per_parameter_count_against_r1(model):
    overfitted = replace(model.result, r1=0.14, n_observed=2 * model.result.n_parameters, wr2=0.3)
    assert judge(model, overfitted, 0.3, -0.3)[0]
    overfitted = replace(overfitted, r1=0.15)
    assert not judge(model, overfitted, 0.3, -0.3)[0]


def test_poor_data_alone_do_not_forbid_a_solution(model):
    assert _judged(model, 0.18, 0.40) == (True, [])


def test_a_bad_fit_with_unexplained_density_is_no_solution(model):
    """Copper allows 2.9 e/A^3, peak or hole."""
    assert _judged(model, 0.16, 0.30, peak=2.8)[0]
    solved, doubts = _judged(model, 0.16, 0.30, peak=3.0)
    assert not solved
    assert len(doubts) == 2
    assert not _judged(model, 0.10, 0.36, hole=-3.0)[0]


def test_density_in_a_good_fit_is_disorder_or_solvent(model):
    assert _judged(model, 0.09, 0.25, peak=3.0) == (True, [])


def test_a_bad_fit_with_atoms_missing_is_no_solution(model):
    """Four and a half atoms were found; the volume holds nine."""
    nine = {"C": 18}
    assert not _judged(model, 0.16, 0.30, composition=nine)[0]
    assert _judged(model, 0.09, 0.25, composition=nine)[0]


def test_a_composition_that_the_volume_forbids_says_nothing(model):
    assert _judged(model, 0.16, 0.30, composition={"C": 200})[0]
