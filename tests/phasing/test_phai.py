"""Phases by PhAI's network: settings, indices, confidence, and the edge of its domain."""

import logging

import numpy as np
import pytest
import torch

# cctbx
from cctbx import crystal, sgtbx, xray
from cctbx.array_family import flex
from libtbx.utils import Sorry

from phai_cctbx.network.model_file import ModelMetadata, save_model
from phai_cctbx.network.operator import FourierOperator, OperatorConfig
from phai_cctbx.network.phai import PhaiNetwork, likely_phases, recycle, sphere_indices
from phai_cctbx.network.phai_file import PhaiMetadata, load_phai, save_phai
from phai_cctbx.phasing.auto import make_phaser
from phai_cctbx.phasing.phai_box import PhaiBox, shortest_cell_operator
from phai_cctbx.phasing.scoring import score_r

CELL = (7.2, 9.1, 8.0, 90, 101, 90)
SIZES = {
    "filters": 4,
    "convolution_blocks": 1,
    "mixer_depth": 1,
    "dim": 16,
    "channel_expansion": 16,
    "token_expansion": 8,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small network with random parameters, sure enough of itself to differ between crystals."""
    torch.manual_seed(3)
    network = PhaiNetwork(**SIZES)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    path = tmp_path_factory.mktemp("model") / "phai.pt"
    save_phai(network, PhaiMetadata(checkpoint_sha256="0" * 64), path)
    return path


@pytest.fixture(scope="module")
def f_calc():
    """Structure factors of a random P 21/c crystal to 1.5 A."""
    return random_f_calc("P 1 21/c 1", CELL, 1.5)


def random_f_calc(symbol, cell, d_min, seed=0):
    """Structure factors with the phases of atoms at random places."""
    rng = np.random.default_rng(seed)
    symmetry = crystal.symmetry(cell, symbol)
    structure = xray.structure(crystal_symmetry=symmetry)
    for site in rng.random((8, 3)):
        structure.add_scatterer(xray.scatterer("C", site=tuple(site), u=0.03))
    return structure.structure_factors(d_min=d_min, algorithm="direct").f_calc()


def phase(f_calc, model, **options):
    options = {"n_starts": 1, "n_passes": 3, **options}
    return make_phaser("phai", model=model, **options)(amplitudes(f_calc))


def amplitudes(f_calc):
    return f_calc.as_amplitude_array().set_observation_type_xray_amplitude()


def test_box_holds_amplitudes_and_mates(f_calc):
    """(-h, k, 0) stands in for (h, k, 0) by symmetry; in training both were filled."""
    f_obs = amplitudes(f_calc).map_to_asu()
    box = PhaiBox(f_obs)
    filled = dict(zip(map(tuple, sphere_indices().tolist()), box.amplitudes[0].tolist()))
    for index, value in zip(f_obs.indices(), f_obs.data()):
        assert filled.pop(index) == pytest.approx(value, rel=1e-6)
        h, k, l = index  # noqa: E741
        if l == 0 and h > 0:
            assert filled.pop((-h, k, 0)) == pytest.approx(value, rel=1e-6)
    assert not any(filled.values())


def test_true_phases_pass_through_the_box(f_calc):
    """Log odds of the true signs at all 1205 places come out as the true phases, at both places
    of (h, k, 0): F(-h, k, 0) = (-1)^k F(h, k, 0) in P 1 21/c 1."""
    f_true = f_calc.map_to_asu()
    box = PhaiBox(amplitudes(f_true))
    everywhere = f_calc.expand_to_p1().generate_bijvoet_mates()
    signs = dict(zip(everywhere.indices(), np.sign(np.array(everywhere.data()).real)))
    of_places = np.array([signs.get(tuple(index), 0.0) for index in sphere_indices().tolist()])
    log_odds = box.log_odds(2.5 * of_places[None])[0]
    np.testing.assert_allclose(log_odds, 2.5 * np.sign(f_true.data().as_numpy_array().real))


def test_agreement_is_r(f_calc):
    """The score between two sets of signs is that of `score_r`, on the best origin."""
    f_true = f_calc.map_to_asu()
    f_obs = amplitudes(f_true)
    box = PhaiBox(f_obs)
    rng = np.random.default_rng(1)
    signs = np.sign(f_true.data().as_numpy_array().real)
    turned = signs * np.where(rng.random(signs.size) < 0.2, -1, 1)
    f_turned = f_true.customized_copy(
        data=flex.complex_double(turned * f_obs.data().as_numpy_array())
    )
    assert box.agreement(turned[None], signs)[0] == pytest.approx(
        score_r(f_turned, f_true).r, abs=1e-6
    )


SETTINGS = ["P 1 21/c 1", "P 1 21/n 1", "P 1 21/a 1", "P 1 1 21/b", "P 21/b 1 1", "P 1 1 21/a"]


@pytest.mark.parametrize("symbol", SETTINGS)
def test_every_setting_gives_the_same_phases(symbol, f_calc, model):
    """The same crystal described in another setting: r is a property of the crystal."""
    expected = phase(f_calc, model)
    target = sgtbx.space_group_info(symbol)
    operator = target.change_of_basis_op_to_reference_setting().inverse()
    in_setting = f_calc.change_basis(operator)
    assert str(in_setting.space_group_info()) == str(target)
    found = phase(in_setting, model)
    assert found.f_phased.space_group() == in_setting.space_group()
    assert found.f_phased.size() == expected.f_phased.size()
    assert found.expected_r == pytest.approx(expected.expected_r, abs=1e-6)
    r = score_r(found.f_phased, in_setting).r
    assert r == pytest.approx(score_r(expected.f_phased, f_calc).r, abs=1e-4)


def test_skewed_description_of_the_same_cell(f_calc):
    """a + c in place of a, the glide still along c: back to the shortest axes, beta obtuse."""
    skewed = f_calc.change_basis(sgtbx.change_of_basis_op("a+c,b,c"))
    assert skewed.unit_cell().parameters()[0] > CELL[0]
    operator = shortest_cell_operator(skewed)
    assert skewed.unit_cell().change_basis(operator).parameters() == pytest.approx(CELL)
    assert str(skewed.change_basis(operator).space_group_info()) == "P 1 21/c 1"
    assert shortest_cell_operator(f_calc).as_xyz() == "x,y,z"


def test_one_start_is_the_example_of_the_authors(f_calc, model):
    """Zero phases, three passes, the likelier class: the network's own answer, by hand."""
    f_obs = amplitudes(f_calc).map_to_asu()
    network, _ = load_phai(model)
    given = PhaiBox(f_obs).amplitudes
    with torch.inference_mode():
        logits = recycle(network, given, torch.zeros_like(given), 3)
    by_hand = dict(zip(map(tuple, sphere_indices().tolist()), likely_phases(logits)[0].tolist()))
    result = phase(f_calc, model)
    for index, value in zip(result.f_phased.indices(), result.f_phased.data()):
        if index[2] > 0 or index[0] == 0:
            assert np.degrees(np.angle(value)) % 360 == pytest.approx(by_hand[index] % 360)


def test_confidence_is_the_expected_cosine_of_the_logits(f_calc, model):
    """Two classes with log odds L: the likelier one has 1 / (1 + exp(-|L|)), 0 < m < 1."""
    network, _ = load_phai(model)
    box = PhaiBox(amplitudes(f_calc).map_to_asu())
    with torch.inference_mode():
        logits = recycle(network, box.amplitudes, torch.zeros_like(box.amplitudes), 3)[0].double()
    probability = torch.softmax(logits, 0).amax(0).numpy()
    by_hand = dict(zip(map(tuple, sphere_indices().tolist()), 2 * probability - 1))
    result = phase(f_calc, model)
    for index, value in zip(result.confidence.indices(), result.confidence.data()):
        if index[2] > 0 or index[0] == 0:
            assert value == pytest.approx(by_hand[index], abs=1e-6)


def test_same_seed_same_phases(f_calc, model):
    first = phase(f_calc, model, n_starts=3, seed=5)
    second = phase(f_calc, model, n_starts=3, seed=5)
    assert (first.f_phased.data() == second.f_phased.data()).all_eq(True)
    assert first.figures_of_merit["n_starts"] == 3
    assert first.figures_of_merit["expected_r"] == pytest.approx(first.expected_r)
    ranked = [first, *first.alternatives]
    assert [r.expected_r for r in ranked] == sorted((r.expected_r for r in ranked), reverse=True)


def test_indices_beyond_the_sphere_are_counted(model, caplog):
    f_fine = random_f_calc("P 1 21/c 1", CELL, 0.75)
    with caplog.at_level(logging.INFO):
        result = phase(f_fine, model)
    square = (np.array(f_fine.map_to_asu().indices()) ** 2).sum(1)
    assert result.f_phased.size() == np.count_nonzero(square <= 100) < f_fine.size()
    assert f"{np.count_nonzero(square > 100)} of {f_fine.size()} reflections" in caplog.text


def test_many_missing_reflections_are_a_warning(f_calc, model, caplog):
    half = amplitudes(f_calc).select(f_calc.d_spacings().data() < 2.2)
    make_phaser("phai", model=model, n_starts=1, n_passes=1)(half)
    assert "85 % or more" in caplog.text


@pytest.mark.parametrize(
    ("symbol", "cell", "d_min", "said"),
    [
        ("P 21 21 21", (7, 8, 9, 90, 90, 90), 1.5, "P 21 21 21. strategy=neural"),
        ("P -1", (7, 8, 9, 80, 85, 95), 1.5, "P -1. strategy=neural"),
        ("P 1 21/c 1", (7.2, 12.4, 8.0, 90, 101, 90), 1.5, "7.20, 12.40 and 8.00 A"),
        ("P 1 21/c 1", CELL, 2.4, "trained on data to 2.0 A or better"),
    ],
)
def test_outside_its_domain(symbol, cell, d_min, said, model):
    with pytest.raises(Sorry, match=said):
        phase(random_f_calc(symbol, cell, d_min), model)


def test_what_it_needs_to_begin(tmp_path):
    with pytest.raises(Sorry, match="phai_cctbx.import_phai PhAI_model.pth"):
        make_phaser("phai")
    with pytest.raises(Sorry, match=r"absent\.pt: there is no such file"):
        make_phaser("phai", model=tmp_path / "absent.pt")


def test_the_bundled_kind_of_model_is_refused(tmp_path):
    path = tmp_path / "model.pt"
    small = OperatorConfig(channels=8, scalars=8, relations=4, layers=1, hidden=16)
    save_model(FourierOperator(small), ModelMetadata("x", "none", (1.8, 2.3), 2.5, (14,)), path)
    with pytest.raises(Sorry, match="strategy=neural, not for strategy=phai"):
        make_phaser("phai", model=path)
