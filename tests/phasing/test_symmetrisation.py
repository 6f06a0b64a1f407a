import numpy as np
import pytest

from phai_cctbx.phasing.origins import shift_origin
from phai_cctbx.phasing.scoring import score_r
from phai_cctbx.phasing.symmetrisation import symmetrise

SHIFT = (0.137, 0.291, 0.413)


@pytest.mark.parametrize(
    "symbol",
    ["P1", "P-1", "P21", "Cc", "P 1 21/n 1", "P212121", "Pna21", "Fdd2", "I41/a:2", "R3:H"],
)
def test_a_structure_anywhere_in_the_cell_comes_back(random_crystal, symbol):
    _, f_obs, f_calc = random_crystal(symbol, n_atoms=5, d_min=1.2)
    anywhere = shift_origin(f_calc.expand_to_p1(), SHIFT)
    symmetric = symmetrise(anywhere, f_obs)
    assert symmetric.agreement == pytest.approx(1, abs=1e-6)
    assert symmetric.consistency == pytest.approx(np.ones(f_obs.size()), abs=1e-5)
    assert symmetric.f_phased.indices().all_eq(f_obs.indices())
    assert score_r(symmetric.f_phased, f_calc).r == pytest.approx(1, abs=1e-6)


def test_the_other_hand_is_found_in_an_enantiomorphic_pair(random_crystal):
    _, f_obs, f_calc = random_crystal("P41", n_atoms=5, d_min=1.2)
    anywhere = shift_origin(f_calc.expand_to_p1(), SHIFT)
    mirrored = anywhere.customized_copy(data=anywhere.conjugate().data())
    symmetric = symmetrise(mirrored, f_obs)
    assert symmetric.agreement == pytest.approx(1, abs=1e-6)
    assert score_r(symmetric.f_phased, f_calc).r == pytest.approx(1, abs=1e-6)


def test_random_phases_have_no_symmetry(random_crystal):
    _, f_obs, f_calc = random_crystal("P212121", n_atoms=10, d_min=1.0)
    p1 = f_calc.expand_to_p1()
    rng = np.random.default_rng(0)
    phases = rng.uniform(0, 2 * np.pi, p1.size())
    symmetric = symmetrise(
        p1.phase_transfer(p1.customized_copy(data=type(p1.data())(list(np.exp(1j * phases))))),
        f_obs,
    )
    assert symmetric.agreement < 0.3
