import pytest

# cctbx
from cctbx.array_family import flex
from libtbx.utils import Sorry

from phai_cctbx.phasing import auto
from phai_cctbx.phasing.charge_flipping import ChargeFlippingPhaser
from phai_cctbx.phasing.peak_model import PeakModel
from phai_cctbx.phasing.result import PhasingResult
from phai_cctbx.phasing.scoring import score_r


def fake_neural(f_calc, phases, d_min=2.0):
    """A stand-in for the network that gives these phases to 2 A."""

    def answer(self, f_obs, **options):
        f_phased = f_calc.phase_transfer(flex.double(phases))
        f_phased = f_phased.select(f_phased.d_spacings().data() >= d_min)
        sure = f_phased.array(data=flex.double(f_phased.size(), 0.9))
        return PhasingResult(f_phased, sure, strategy="neural")

    return answer


def test_a_convincing_answer_of_charge_flipping_needs_no_network(random_crystal, monkeypatch):
    _, f_obs, f_calc = random_crystal("P 1 21/n 1", n_atoms=8)

    def refuse(self, f_obs, **options):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(auto.AutoPhaser, "neural", refuse)
    result = auto.AutoPhaser()(f_obs)
    assert result.strategy == "charge_flipping"
    assert score_r(result.f_phased, f_calc).r > 0.95


def test_the_network_takes_over_where_flipping_fails(random_crystal, disturbed, monkeypatch):
    _, f_obs, f_calc = random_crystal("P212121", n_atoms=16, d_min=1.2, seed=3)
    phases = disturbed(f_calc, 0.3)
    monkeypatch.setattr(auto.AutoPhaser, "neural", fake_neural(f_calc, phases))
    result = auto.make_phaser("auto", n_starts=1)(f_obs)
    assert score_r(result.f_phased, f_calc).r > 0.95
    assert result.f_phased.size() == f_obs.size()
    if result.strategy == "neural":
        assert "charge_flipping" in {other.strategy for other in result.alternatives}


def test_charge_flipping_goes_on_where_neither_convinces(random_crystal, disturbed, monkeypatch):
    _, f_obs, f_calc = random_crystal("P 1 21/n 1", n_atoms=8)
    wrong = disturbed(f_calc, 20.0)
    monkeypatch.setattr(auto.AutoPhaser, "neural", fake_neural(f_calc, wrong))
    flipped = auto.AutoPhaser.charge_flipping
    asked = []

    def nothing_at_first(self, f_obs, **options):
        asked.append(options)
        if options:
            return flipped(self, f_obs, **options)
        return PeakModel(f_obs).result(wrong, "charge_flipping", 0, n_agreeing=1)

    monkeypatch.setattr(auto.AutoPhaser, "charge_flipping", nothing_at_first)
    result = auto.AutoPhaser(seed=3)(f_obs)
    assert [sorted(options) for options in asked] == [[], ["n_starts", "seed"]]
    assert asked[1]["seed"] == 4
    assert score_r(result.f_phased, f_calc).r > 0.95
    assert {other.strategy for other in result.alternatives} == {"neural", "charge_flipping"}


def test_at_two_angstrom_the_network_is_asked_alone(random_crystal, disturbed, monkeypatch):
    _, f_obs, f_calc = random_crystal("P212121", n_atoms=20, d_min=2.0)
    monkeypatch.setattr(auto.AutoPhaser, "neural", fake_neural(f_calc, disturbed(f_calc, 0.3)))
    result = auto.AutoPhaser()(f_obs)
    assert result.strategy == "neural"
    assert result.alternatives == ()


def test_without_a_network_charge_flipping_goes_alone(random_crystal, monkeypatch, caplog):
    _, f_obs, _ = random_crystal("P212121", n_atoms=10, d_min=2.0)

    def unknown(self, f_obs, **options):
        raise Sorry("The model does not know P 21 21 21.")

    monkeypatch.setattr(auto.AutoPhaser, "neural", unknown)
    result = auto.AutoPhaser(n_starts=1)(f_obs)
    assert result.strategy == "charge_flipping"
    assert "without the network" in caplog.text


def test_strategies_by_name():
    assert isinstance(auto.make_phaser("charge_flipping", n_starts=3), ChargeFlippingPhaser)
    with pytest.raises(Sorry, match="auto, neural, atoms, charge_flipping"):
        auto.make_phaser("magic")
    with pytest.raises(Sorry, match="no option colour"):
        auto.make_phaser("charge_flipping", colour="red")
