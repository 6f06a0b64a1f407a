import numpy as np
import pytest

# cctbx
from cctbx import crystal, miller, xray
from cctbx.array_family import flex
from libtbx.utils import Sorry

from phai_cctbx.phasing import atoms
from phai_cctbx.phasing.atoms import AtomPhaser, _Adam, suits
from phai_cctbx.phasing.auto import AutoPhaser, make_phaser
from phai_cctbx.phasing.result import PhasingResult
from phai_cctbx.phasing.scoring import score_r

torch = pytest.importorskip("torch")

COMPOSITION = {"C": 12, "O": 8, "N": 4, "H": 20}


@pytest.fixture(scope="module")
def glycolamide():
    """A molecule of five atoms and four hydrogens' worth of scattering, P 1 21/c 1, to 2 A."""
    symmetry = crystal.symmetry((7.5, 6.4, 7.9, 90, 104, 90), "P 1 21/c 1")
    structure = xray.structure(crystal_symmetry=symmetry)
    # O-C-C(=O)-N, planar, in A; turned and moved away from the inversion centres
    flat = np.array([[-2.3, 0.9, 0], [-1.4, -0.2, 0], [0, 0.3, 0], [0.25, 1.5, 0], [0.97, -0.6, 0]])
    turn = np.linalg.qr(np.random.default_rng(4).normal(size=(3, 3)))[0]
    places = flat @ turn.T + [2.1, 1.5, 1.9]
    for element, place in zip(("O", "C", "C", "O", "N"), places, strict=True):
        site = symmetry.unit_cell().fractionalize(tuple(place))
        structure.add_scatterer(xray.scatterer(element, site=site, u=0.03, scattering_type=element))
    f_calc = structure.structure_factors(d_min=2.0, algorithm="direct").f_calc().map_to_asu()
    noise = flex.double(1.0 + 0.03 * np.random.default_rng(0).normal(size=f_calc.size()))
    f_obs = f_calc.as_amplitude_array().set_observation_type_xray_amplitude()
    return f_obs.customized_copy(data=f_obs.data() * noise), f_calc


def without_hydrogens(composition):
    return {e: n for e, n in {**composition, "C": 8}.items() if e != "H"}


def test_random_atoms_become_the_structure(glycolamide):
    f_obs, f_calc = glycolamide
    result = AtomPhaser(without_hydrogens(COMPOSITION))(f_obs)
    assert score_r(result.f_phased, f_calc).r > 0.97
    assert result.expected_r > 0.9
    assert result.strategy == "atoms"
    assert result.f_phased.size() == f_obs.size()


def test_a_seed_means_one_answer(glycolamide, monkeypatch):
    f_obs, _ = glycolamide
    monkeypatch.setattr(atoms, "STEPS", 100)
    phaser = AtomPhaser(without_hydrogens(COMPOSITION), n_looks=1, seed=3)
    first, again = phaser(f_obs), phaser(f_obs)
    assert (first.f_phased.data() == again.f_phased.data()).all_eq(True)


def test_atoms_of_amplitudes_without_a_structure_are_not_believed(glycolamide):
    f_obs, _ = glycolamide
    order = flex.size_t(np.random.default_rng(1).permutation(f_obs.size()))
    shuffled = f_obs.customized_copy(data=f_obs.data().select(order))
    result = AtomPhaser(without_hydrogens(COMPOSITION), n_looks=1)(shuffled)
    assert result.expected_r < 0.6


def guess_of(f_obs, phases, confidence=0.8):
    """What another strategy might have found."""
    phased = f_obs.phase_transfer(flex.double(phases))
    return PhasingResult(phased, phased.array(data=flex.double(phased.size(), confidence)))


def test_half_right_phases_lead_to_the_atoms(glycolamide, disturbed):
    f_obs, f_calc = glycolamide
    guess = guess_of(f_obs, disturbed(f_calc, 0.8, seed=1))
    assert score_r(guess.f_phased, f_calc).r < 0.9
    phaser = AtomPhaser(without_hydrogens(COMPOSITION))
    result = phaser.from_phases(f_obs, guess)
    assert score_r(result.f_phased, f_calc).r > 0.97
    assert result.figures_of_merit["probability_right"] > 0.9
    again = phaser.from_phases(f_obs, guess)
    assert (again.f_phased.data() == result.f_phased.data()).all_eq(True)
    # of half of the reflections
    some = guess_of(f_obs, disturbed(f_calc, 0.3, seed=1))
    kept = flex.bool((np.arange(f_obs.size()) % 2 == 0).tolist())
    some = PhasingResult(some.f_phased.select(kept), some.confidence.select(kept))
    result = phaser.from_phases(f_obs, some)
    assert result.f_phased.size() == f_obs.size()
    assert score_r(result.f_phased, f_calc).r > 0.97


def test_atoms_deny_phases_of_amplitudes_without_a_structure(glycolamide, disturbed):
    f_obs, f_calc = glycolamide
    order = flex.size_t(np.random.default_rng(1).permutation(f_obs.size()))
    shuffled = f_obs.customized_copy(data=f_obs.data().select(order))
    guess = guess_of(shuffled, disturbed(f_calc, 0.3))
    result = AtomPhaser(without_hydrogens(COMPOSITION)).from_phases(shuffled, guess)
    assert result.figures_of_merit["probability_right"] < 0.1


def test_halves_on_inversion_centres_are_found_out(random_crystal):
    light, _, _ = random_crystal("P -1", n_atoms=9, seed=1)
    structure = xray.structure(crystal_symmetry=light.crystal_symmetry())
    for site in ((0, 0, 0), (0.5, 0.5, 0)):
        structure.add_scatterer(xray.scatterer("Fe", site=site, u=0.03))
    structure.add_scatterers(light.scatterers())
    f_calc = structure.structure_factors(d_min=2.0, algorithm="direct").f_calc().map_to_asu()
    f_obs = f_calc.as_amplitude_array().set_observation_type_xray_amplitude()
    guess = guess_of(f_obs, f_calc.phases().data())
    # one iron atom in the asymmetric unit, the contents say
    result = AtomPhaser({"Fe": 2, "O": 6, "C": 12}).from_phases(f_obs, guess)
    assert result.figures_of_merit["probability_right"] > 0.9
    assert score_r(result.f_phased, f_calc).r > 0.97


def test_what_cannot_be_searched_is_refused(glycolamide):
    f_obs, _ = glycolamide
    with pytest.raises(Sorry, match="needs the composition"):
        AtomPhaser()
    with pytest.raises(Sorry, match="xray and electron"):
        AtomPhaser(COMPOSITION, radiation="neutron")
    with pytest.raises(Sorry, match="per coordinate"):
        AtomPhaser({"C": 400})(f_obs)
    with pytest.raises(Sorry, match="no atom to search for"):
        AtomPhaser({"H": 4})(f_obs)
    assert suits(f_obs, COMPOSITION)
    assert not suits(f_obs, {"C": 400})
    assert not suits(f_obs, {"H": 400})


@pytest.mark.parametrize(
    ("symbol", "most"), [("P 1", atoms.MOST_ATOMS), ("P -1", atoms.MOST_ATOMS_CENTROSYMMETRIC)]
)
def test_a_centre_of_symmetry_allows_more_atoms(symbol, most):
    symmetry = crystal.symmetry((11, 12, 13, 85, 80, 75), symbol)
    indices = miller.build_set(symmetry, anomalous_flag=False, d_min=2.0)
    f_obs = indices.array(data=flex.double(indices.size(), 1.0))
    f_obs = f_obs.set_observation_type_xray_amplitude()
    n_general = symmetry.space_group().order_z()
    assert suits(f_obs, {"C": most * n_general})
    assert not suits(f_obs, {"C": (most + 1) * n_general})


def answers(monkeypatch, f_obs, f_calc, **expected):
    """Lets strategies of AutoPhaser answer with these expected r; the list of those called."""
    phased = f_obs.phase_transfer(f_calc)
    calls = []

    def answer(strategy, figures):
        expected_r, right = figures

        def phase(self, *_, **options):
            calls.append(strategy)
            flat = phased.array(data=flex.double(phased.size(), expected_r))
            merit = {"expected_r": expected_r, "probability_right": right}
            found = PhasingResult(phased, flat, merit, strategy=strategy)
            if "enough" in options and options["enough"](found):
                calls.append("enough")
            return iter([found]) if strategy == "atoms_in_maps" else found

        return phase

    for strategy, figures in expected.items():
        monkeypatch.setattr(AutoPhaser, strategy, answer(strategy, figures))
    return calls


LOOK = ["atoms_in_maps", "neural_from"]


@pytest.mark.parametrize(
    ("network", "in_map", "of_atoms", "asked", "first", "expected_r"),
    [
        # atoms explain the amplitudes: that is the answer
        (0.5, (0.97, 0.98), None, ["neural", "atoms_in_maps", "enough"], "atoms_in_maps", 0.97),
        # atoms that are only likely do not end the search
        (0.5, (0.95, 0.95), 0.5, ["neural", *LOOK], "atoms_in_maps", 0.95),
        # the network is certain of what it makes of them
        (0.5, (0.4, 0.0), 0.99, ["neural", *LOOK, "enough"], "neural_from", 0.99),
        # they come near and agree with what the network believes
        (0.96, (0.76, 0.6), 0.5, ["neural", *LOOK, *LOOK], "atoms_in_maps", None),
        # they do not: a network that is sure is doubted, beyond a limit it is not
        (0.93, (0.4, 0.0), 0.5, ["neural", *LOOK, *LOOK, "atoms", "neural_from"], "atoms", 0.9),
        (0.96, (0.4, 0.0), 0.5, ["neural", *LOOK, *LOOK], "neural", 0.96),
        (0.995, (0.4, 0.0), 0.5, ["neural", *LOOK], "neural", 0.995),
        # nor does the network know: they are searched for
        (0.5, (0.4, 0.0), 0.5, ["neural", *LOOK, "atoms", "neural_from"], "atoms", 0.9),
    ],
)
def test_atoms_judge_the_network_and_it_judges_them(
    glycolamide, monkeypatch, network, in_map, of_atoms, asked, first, expected_r
):
    calls = answers(
        monkeypatch, *glycolamide, neural=(network, 0.0), atoms_in_maps=in_map,
        neural_from=(of_atoms, 0.0), atoms=(0.9, 0.5),
    )  # fmt: skip
    result = make_phaser("auto", composition=COMPOSITION)(glycolamide[0])
    assert calls == asked
    assert result.strategy == first
    if expected_r is None:
        # more than the atoms themselves promise
        assert 0.96 < result.expected_r <= 1.0
    else:
        assert result.expected_r == pytest.approx(expected_r)
    assert "neural" in {result.strategy, *(other.strategy for other in result.alternatives)}
    calls.clear()
    for options in ({}, {"composition": COMPOSITION, "radiation": "neutron"}):
        assert make_phaser("auto", **options)(glycolamide[0]).strategy == "neural"
    assert calls == ["neural", "neural"]


def test_a_denied_answer_is_believed_less(glycolamide, monkeypatch):
    answers(
        monkeypatch, *glycolamide, neural=(0.9, 0.0), atoms_in_maps=(0.4, 0.0),
        neural_from=(0.4, 0.0), atoms=(0.4, 0),
    )  # fmt: skip
    result = make_phaser("auto", composition=COMPOSITION)(glycolamide[0])
    assert result.strategy == "neural"
    # five sixths right before: odds of 5 to 1, times 0.05
    assert result.expected_r == pytest.approx(0.2 * 1.0 + 0.8 * 0.4, abs=1e-6)
    assert result.figures_of_merit["expected_r"] == pytest.approx(result.expected_r)


def test_atoms_take_the_place_of_a_network_that_cannot_be_used(glycolamide, monkeypatch):
    f_obs, f_calc = glycolamide

    def unknown(self, f_obs, **options):
        raise Sorry("No model.")

    monkeypatch.setattr(AutoPhaser, "neural", unknown)
    result = AutoPhaser(composition=without_hydrogens(COMPOSITION))(f_obs)
    assert result.strategy == "atoms"
    assert score_r(result.f_phased, f_calc).r > 0.95


def test_adam_is_that_of_torch():
    start = torch.tensor([0.3, -1.2, 2.0])
    ours, theirs = start.clone().requires_grad_(), start.clone().requires_grad_()
    small, reference = _Adam(ours), torch.optim.Adam([theirs], lr=0.02, betas=(0.9, 0.99))
    for _ in range(50):
        for parameter, optimiser in ((ours, small), (theirs, reference)):
            optimiser.zero_grad()
            (parameter - 1.0).pow(4).sum().backward()
        small.step(0.02)
        reference.step()
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert (ours - start).abs().min() > 0.1
