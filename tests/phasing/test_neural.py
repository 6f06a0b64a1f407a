"""The neural phaser: whatever describes the crystal, the same answer; honest confidence."""

from dataclasses import replace

import numpy as np
import pytest

# cctbx
from cctbx import crystal, miller, sgtbx, xray
from cctbx.array_family import flex
from libtbx.utils import Sorry

from phai_cctbx.network.normalisation import NOT_MEASURED
from phai_cctbx.network.recycling import N_LAST, anneal
from phai_cctbx.phasing import neural
from phai_cctbx.phasing.neural import BUNDLED_MODEL, NeuralPhaser, default_starts
from phai_cctbx.phasing.result import PhasingResult
from phai_cctbx.phasing.scoring import score_r

torch = pytest.importorskip("torch")


def naphthalene() -> xray.structure:
    """Naphthalene at 123 K: P 21/a, half a molecule (Brock & Dunitz, Acta Cryst. B38, 2218, 1982;
    coordinates rounded to 0.001)."""
    structure = xray.structure(
        crystal_symmetry=crystal.symmetry((8.098, 5.953, 8.652, 90, 124.4, 90), "P 1 21/a 1")
    )
    sites = [
        (0.082, 0.019, 0.328), (0.112, 0.162, 0.223), (0.048, 0.105, 0.037),
        (0.076, 0.251, -0.075), (0.013, 0.191, -0.255),
    ]  # fmt: skip
    for i, site in enumerate(sites, 1):
        structure.add_scatterer(xray.scatterer(f"C{i}", site=site, u=0.03, scattering_type="C"))
    return structure


@pytest.fixture(scope="module")
def f_calc():
    return naphthalene().structure_factors(d_min=2.0).f_calc()


@pytest.fixture(scope="module")
def result(f_calc):
    return NeuralPhaser(seed=1)(abs(f_calc))


def test_phases_naphthalene(f_calc, result):
    assert score_r(result.f_phased, f_calc).r > 0.95


def test_result_has_the_reflections_and_amplitudes_of_the_data(f_calc, result):
    data = abs(f_calc).map_to_asu()
    assert result.f_phased.size() == result.confidence.size() == data.size()
    matched = miller.match_indices(data.indices(), result.f_phased.indices()).pairs()
    assert matched.size() == data.size()
    there = data.select(matched.column(0)).data()
    here = abs(result.f_phased).select(matched.column(1)).data()
    assert flex.max(flex.abs(there - here)) < 1e-9
    assert result.f_phased.crystal_symmetry().is_similar_symmetry(data.crystal_symmetry())
    confidence = result.confidence.data().as_numpy_array()
    assert (confidence >= 0).all()
    assert (confidence <= 1).all()


def test_phases_obey_the_symmetry(result):
    phased = result.f_phased
    deviation = np.angle(
        phased.data().as_numpy_array()
        * np.exp(-1j * phased.phase_transfer(phased, deg=False).phases().data().as_numpy_array())
    )
    assert np.abs(deviation[np.abs(phased.data().as_numpy_array()) > 1e-6]).max() < 1e-6


def test_a_model_that_fills_in_is_shown_what_is_missing(f_calc):
    """The answer is of the measured reflections alone; those between them take part."""
    phaser = NeuralPhaser(n_starts=4, n_passes=2)
    shown = []
    network = phaser.model

    def one_pass(*arguments):
        shown.append(arguments[0])
        return network(*arguments)

    phaser.model, phaser.metadata = one_pass, replace(phaser.metadata, fills_in=True)
    data = abs(f_calc)
    kept = np.random.default_rng(0).random(data.size()) > 0.3
    incomplete = data.select(flex.bool(kept))
    result = phaser(incomplete)
    assert result.f_phased.size() == result.confidence.size() == incomplete.size()
    n_absent = incomplete.complete_set().size() - incomplete.size()
    e_value = shown[0][0]
    assert (e_value == NOT_MEASURED).sum() == n_absent > 0
    assert len(e_value) == incomplete.size() + n_absent
    phaser.metadata = replace(phaser.metadata, fills_in=False)
    phaser(incomplete)
    assert shown[-1].shape[1] == incomplete.size() and (shown[-1] >= 0.0).all()


@pytest.mark.parametrize(("certain", "n_made"), [(0.9, 4), (1.0, 12)])
def test_a_start_that_is_certain_ends_the_search(f_calc, monkeypatch, certain, n_made):
    monkeypatch.setattr(neural, "enough_agree", lambda *_: False)
    monkeypatch.setattr(neural, "CERTAIN", certain)
    monkeypatch.setattr(neural, "MAJORITY", 99)
    found = NeuralPhaser(seed=1, n_starts=12)(abs(f_calc))
    assert found.figures_of_merit["n_starts"] == n_made


def test_an_anneal_ends_where_nothing_is_left_to_be_found():
    """Passes until it has settled, then the last ones from expected values."""
    centric = torch.ones(1, 3, dtype=torch.bool)
    n_made = []

    def one_pass(start):
        n_made.append(start)
        return torch.full((1, 1, 3), 2.0)

    def settled(output):
        return len(n_made) == 5

    generator = torch.Generator().manual_seed(0)
    start, mask = torch.ones(1, 1, 3), torch.ones(1, 3)
    anneal(one_pass, start, centric, mask, 24, generator, settled)
    assert len(n_made) == 5 + N_LAST
    expected = torch.full((1, 1, 3), np.tanh(2.0), dtype=torch.float32)
    for start in n_made[5:]:
        torch.testing.assert_close(start, expected)
    n_made.clear()
    anneal(one_pass, start, centric, mask, 24, generator)
    assert len(n_made) == 24


@pytest.mark.parametrize(("sure", "n_made"), [(0.9, 4), (1.0, 12)])
def test_starts_that_are_sure_together_end_the_search(f_calc, monkeypatch, sure, n_made):
    monkeypatch.setattr(neural, "CERTAIN", 1.0)
    monkeypatch.setattr(neural, "SURE_TOGETHER", sure)
    monkeypatch.setattr(neural, "MAJORITY", 99)
    found = NeuralPhaser(seed=1, n_starts=12)(abs(f_calc))
    assert found.figures_of_merit["n_starts"] == n_made


@pytest.mark.parametrize(
    ("majority", "expected_r", "completeness", "n_made"),
    [(6, 0.8, 0.9, 8), (9, 0.8, 0.9, 12), (6, 1.0, 0.9, 12), (6, 0.8, 1.1, 12)],
)
def test_what_most_starts_find_ends_the_search(
    f_calc, monkeypatch, majority, expected_r, completeness, n_made
):
    monkeypatch.setattr(neural, "CERTAIN", 1.0)
    monkeypatch.setattr(neural, "enough_agree", lambda *_: False)
    monkeypatch.setattr(neural, "MAJORITY", majority)
    monkeypatch.setattr(neural, "MAJORITY_EXPECTED_R", expected_r)
    monkeypatch.setattr(neural, "MAJORITY_COMPLETENESS", completeness)
    found = NeuralPhaser(seed=1, n_starts=12)(abs(f_calc))
    assert found.figures_of_merit["n_starts"] == n_made


def test_who_is_asked_sees_new_solutions_and_ends_the_search(f_calc, monkeypatch):
    monkeypatch.setattr(neural, "CERTAIN", 1.0)
    monkeypatch.setattr(neural, "enough_agree", lambda *_: False)
    monkeypatch.setattr(neural, "MAJORITY", 99)
    asked = []

    def enough(guess):
        asked.append(guess.figures_of_merit["n_starts"])
        assert guess.f_phased.size() == f_calc.size()
        return len(asked) == 4

    found = NeuralPhaser(seed=1, n_starts=96, n_passes=2, enough=enough)(abs(f_calc))
    # after 8, 16, 32 and 64
    assert asked == [8, 8, 16, 32]
    assert found.figures_of_merit["n_starts"] == 64


@pytest.mark.parametrize("to_setting", ["a,b,c", "c,b,-a-c"])
def test_the_network_goes_on_from_the_phases_of_others(f_calc, disturbed, to_setting):
    there = f_calc.change_basis(to_setting).map_to_asu()
    start = there.phase_transfer(flex.double(disturbed(there, 1.5, seed=1)))
    before = score_r(start, there).r
    assert before < 0.9
    # its reflections in another order, some of them, and what it believes of them does not matter
    some = start.select(flex.size_t(np.random.default_rng(1).permutation(start.size())[:-10]))
    guess = PhasingResult(some, some.array(data=flex.double(some.size(), 0.0)))
    found = NeuralPhaser().from_phases(abs(there), guess)
    assert score_r(found.f_phased, there).r > max(0.97, before)
    assert found.figures_of_merit["n_starts"] == 1


def test_a_shaken_solution_is_believed_no_less(f_calc, result, monkeypatch):
    monkeypatch.setattr(neural, "MOST_SHAKES", 0)
    before = NeuralPhaser(seed=1)(abs(f_calc))
    assert result.figures_of_merit["n_starts"] == before.figures_of_merit["n_starts"]
    assert result.expected_r >= before.expected_r - 1e-3
    assert score_r(result.f_phased, f_calc).r >= score_r(before.f_phased, f_calc).r - 1e-3


@pytest.mark.parametrize(
    ("symbol", "volume", "expected"),
    [("P -1", 6000, 64), ("P -1", 1500, 128), ("P -1", 100, 256), ("C 1 2/c 1", 3000, 128)],
)
def test_small_cells_get_more_starts(symbol, volume, expected):
    symmetry = sgtbx.space_group_info(symbol).any_compatible_crystal_symmetry(volume=volume)
    assert default_starts(symmetry) == expected


def test_same_seed_same_phases(f_calc, result):
    again = NeuralPhaser(seed=1)(abs(f_calc))
    assert (again.f_phased.data() == result.f_phased.data()).all_eq(True)


@pytest.mark.parametrize("to_setting", ["c,b,-a-c", "a,b,c-a", "-a,c,b", "b,c,a"])
def test_setting_changes_nothing(f_calc, result, to_setting):
    cb_op = sgtbx.change_of_basis_op(to_setting)
    other = NeuralPhaser(seed=1)(abs(f_calc.change_basis(cb_op)))
    assert other.figures_of_merit["expected_r"] == pytest.approx(
        result.figures_of_merit["expected_r"], abs=1e-4
    )
    assert score_r(other.f_phased, f_calc.change_basis(cb_op)).r == pytest.approx(
        score_r(result.f_phased, f_calc).r, abs=1e-4
    )


def test_intensities_and_anomalous_data_are_taken(f_calc):
    intensities = abs(f_calc).set_observation_type_xray_amplitude().f_as_f_sq()
    assert score_r(NeuralPhaser(seed=1)(intensities).f_phased, f_calc).r > 0.95
    anomalous = naphthalene().structure_factors(d_min=2.0, anomalous_flag=True).f_calc()
    found = NeuralPhaser(seed=1)(abs(anomalous).set_observation_type_xray_amplitude())
    assert not found.f_phased.anomalous_flag()
    assert score_r(found.f_phased, f_calc).r > 0.95


def test_data_beyond_the_network_are_left_for_the_extension():
    f_calc = naphthalene().structure_factors(d_min=0.9).f_calc()
    found = NeuralPhaser(seed=1)(abs(f_calc))
    assert found.f_phased.d_min() >= 2.0 - 1e-6
    assert found.f_phased.size() == f_calc.select(f_calc.d_spacings().data() >= 2.0).size()


@pytest.mark.parametrize("symbol", ["P 1", "P 1 21 1", "P 21 21 21", "P 43", "R 3 :H", "F d d 2"])
def test_any_group_gives_phases_that_its_symmetry_allows(symbol):
    group = sgtbx.space_group_info(symbol)
    symmetry = group.any_compatible_crystal_symmetry(volume=250 * group.group().order_z())
    f_obs = miller.build_set(symmetry, anomalous_flag=False, d_min=2.0).array(
        data=flex.double(
            np.random.default_rng(0).rayleigh(
                size=miller.build_set(symmetry, anomalous_flag=False, d_min=2.0).size()
            )
        )
    )
    found = NeuralPhaser(n_starts=2, n_passes=2)(f_obs.set_observation_type_xray_amplitude())
    assert found.f_phased.size() == f_obs.size()
    centric = found.f_phased.select_centric()
    restriction = centric.indices()
    group = centric.space_group()
    for h, value in zip(restriction, centric.data(), strict=True):
        if abs(value) > 1e-6:
            assert group.phase_restriction(h).is_valid_phase(np.angle(value), False, 1e-3)


def test_wrong_model_file_is_a_sorry(tmp_path):
    path = tmp_path / "model.pt"
    path.write_text("nothing")
    with pytest.raises(Sorry, match=r"model\.pt"):
        NeuralPhaser(model=path)


def test_too_few_reflections_is_a_sorry(f_calc):
    with pytest.raises(Sorry, match="unique reflections"):
        NeuralPhaser(d_min=7.5)(abs(f_calc))


def test_bundled_model_says_what_it_is():
    metadata = NeuralPhaser(model=BUNDLED_MODEL).metadata
    assert {2, 14} <= set(metadata.groups)
    assert metadata.training["crystals"] > 0
