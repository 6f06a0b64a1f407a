"""The hand of simulated crystals, where it is known."""

import pytest

# cctbx
from cctbx.array_family import flex

from phai_cctbx.refinement.hand import change_hand, settle_hand
from phai_cctbx.refinement.trial_model import TrialModel


def settled(structure, f_sq):
    """A model of the structure with averaged Friedel mates, after its hand is settled."""
    model = TrialModel(f_sq.average_bijvoet_mates(), None, "xray", 0.71073)
    model.imaginary = False
    model.structure = structure.deep_copy_scatterers()
    model.refine("averaged", n_cycles=4)
    settle_hand(model, f_sq)
    return model


@pytest.mark.parametrize("symbol", ["P 21 21 21", "P 1 21 1"])
@pytest.mark.parametrize("turned", [False, True])
def test_hand_is_found_and_refined_to_zero(bromide, symbol, turned):
    structure, f_sq = bromide(symbol)
    model = settled(structure.change_hand() if turned else structure, f_sq)
    absolute = model.absolute_structure
    for x, esd in (
        (absolute.flack, absolute.flack_esd),
        (absolute.parsons, absolute.parsons_esd),
        (absolute.hooft, absolute.hooft_esd),
    ):
        assert esd < 0.1 and abs(x) < 4 * esd
    assert absolute.x[1] == min(absolute.flack_esd, absolute.parsons_esd)
    assert model.result.r1 < 0.02 and model.result.f_sq.anomalous_flag() and model.twin is None


def test_twin_by_inversion_is_refined(bromide):
    structure, f_sq = bromide("P 21 21 21", x=0.3)
    model = settled(structure, f_sq)
    assert abs(model.absolute_structure.flack - 0.3) < 4 * model.absolute_structure.flack_esd
    assert model.twin.as_hkl == "-h,-k,-l" and model.result.r1 < 0.02


def test_enantiomorphic_group_takes_the_place_of_the_wrong_one(bromide):
    structure, f_sq = bromide("P 31")
    turned = structure.change_hand()
    in_wrong_group = f_sq.customized_copy(space_group_info=turned.space_group_info())
    model = settled(turned, in_wrong_group)
    assert str(model.structure.space_group_info()) == "P 31"
    assert str(model.result.f_sq.space_group_info()) == "P 31"
    assert abs(model.absolute_structure.flack) < 4 * model.absolute_structure.flack_esd
    assert any("P 31" in warning for warning in model.warnings)


def test_arrays_follow_the_hand(bromide):
    structure, _ = bromide("P 31")
    for scatterer in structure.scatterers():
        scatterer.fdp = 0
    turned = structure.change_hand()
    f_calc = structure.structure_factors(
        d_min=1.5, anomalous_flag=False, algorithm="direct"
    ).f_calc()
    followed = change_hand(f_calc, turned.space_group())
    expected = followed.structure_factors_from_scatterers(turned, algorithm="direct").f_calc()
    assert followed.space_group() == turned.space_group()
    assert flex.max(flex.abs(followed.data() - expected.data())) < 1e-6
    assert change_hand(f_calc, structure.space_group()) is f_calc


def test_no_hand_without_anomalous_scatterers(bromide):
    structure, f_sq = bromide("P 21 21 21")
    model = TrialModel(f_sq.average_bijvoet_mates(), None, "xray", None)
    model.structure = structure.deep_copy_scatterers()
    model.refine("averaged", n_cycles=2)
    settle_hand(model, f_sq)
    assert model.absolute_structure is None and not model.f_sq.anomalous_flag()
