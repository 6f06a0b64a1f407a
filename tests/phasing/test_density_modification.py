import numpy as np
import pytest

from phai_cctbx.phasing.density_modification import SymmetricMap, eliminate_low_density


@pytest.mark.parametrize("symbol", ["P1", "P-1", "C2", "P212121", "R-3:H", "I41/a:2", "F23"])
def test_analysis_undoes_synthesis(random_crystal, symbol):
    _, _, f_calc = random_crystal(symbol, n_atoms=4, d_min=1.5)
    f = f_calc.data().as_numpy_array()
    grid = SymmetricMap(f_calc)
    back = grid.analysis(grid.synthesis(f))
    assert np.abs(back - f).max() < 1e-6 * np.abs(f).max()


@pytest.mark.parametrize("symbol", ["P212121", "P 1 21/c 1", "C2"])
def test_the_map_is_the_one_of_cctbx(random_crystal, symbol):
    _, _, f_calc = random_crystal(symbol, n_atoms=4, d_min=1.5)
    density = SymmetricMap(f_calc).synthesis(f_calc.data().as_numpy_array())
    # Highest density at the strongest peak that cctbx finds.
    fft_map = f_calc.fft_map(resolution_factor=1 / 4)
    fft_map.apply_sigma_scaling()
    reference = fft_map.real_map_unpadded().as_numpy_array()
    assert density.max() / density.std() == pytest.approx(reference.max(), rel=0.1)
    assert density.mean() == pytest.approx(0, abs=1e-9 * density.max())


def test_low_density_goes_and_high_density_stays():
    density = np.array([-1.0, 0.01, 0.05, 1.0, 5.0])
    kept = eliminate_low_density(density)
    assert kept[0] == 0
    assert kept[1] < 0.1 * density[1]
    assert kept[3:] == pytest.approx(density[3:], rel=0.1)
