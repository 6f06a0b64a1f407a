import numpy as np
import pytest

# cctbx
from cctbx import crystal, miller, xray
from cctbx.array_family import flex
from libtbx.utils import Sorry

from phai_cctbx.phasing import atoms
from phai_cctbx.phasing.atoms import AtomPhaser, suits
from phai_cctbx.phasing.auto import AutoPhaser, make_phaser
from phai_cctbx.phasing.result import PhasingResult
from phai_cctbx.phasing.scoring import score_r

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


@pytest.mark.parametrize(("sure", "asked"), [(0.97, 0), (0.5, 1)])
def test_atoms_are_searched_for_where_the_network_is_not_sure(
    glycolamide, monkeypatch, sure, asked
):
    f_obs, f_calc = glycolamide
    phased = f_obs.phase_transfer(f_calc)
    calls = []

    def answer(strategy, expected):
        def phase(self, f_obs):
            calls.append(strategy)
            flat = phased.array(data=flex.double(phased.size(), expected))
            return PhasingResult(phased, flat, strategy=strategy)

        return phase

    monkeypatch.setattr(AutoPhaser, "neural", answer("neural", sure))
    monkeypatch.setattr(AutoPhaser, "atoms", answer("atoms", 0.9))
    result = make_phaser("auto", composition=COMPOSITION)(f_obs)
    assert calls == ["neural", "atoms"][: 1 + asked]
    assert result.strategy == ("atoms" if asked else "neural")
    assert [other.strategy for other in result.alternatives] == ["neural"] * asked
    calls.clear()
    for options in ({}, {"composition": COMPOSITION, "radiation": "neutron"}):
        assert make_phaser("auto", **options)(f_obs).strategy == "neural"
    assert calls == ["neural", "neural"]


def test_atoms_take_the_place_of_a_network_that_cannot_be_used(glycolamide, monkeypatch):
    f_obs, f_calc = glycolamide

    def unknown(self, f_obs):
        raise Sorry("No model.")

    monkeypatch.setattr(AutoPhaser, "neural", unknown)
    result = AutoPhaser(composition=without_hydrogens(COMPOSITION))(f_obs)
    assert result.strategy == "atoms"
    assert score_r(result.f_phased, f_calc).r > 0.95
