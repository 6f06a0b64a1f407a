import random

import numpy as np
import pytest

# cctbx
from cctbx import sgtbx
from cctbx.array_family import flex
from cctbx.development import random_structure


@pytest.fixture
def random_crystal():
    """Function: symbol -> (structure of carbon and oxygen at rest, f_obs, f_calc)."""

    def make(symbol, n_atoms=10, d_min=0.9, seed=0, elements=None):
        random.seed(seed)
        flex.set_random_seed(seed)
        structure = random_structure.xray_structure(
            sgtbx.space_group_info(symbol),
            elements=elements or ["C"] * (n_atoms - 3) + ["O"] * 3,
            volume_per_atom=18,
            min_distance=1.3,
            general_positions_only=True,
            u_iso=0.03,
        )
        f_calc = structure.structure_factors(d_min=d_min, algorithm="direct").f_calc().map_to_asu()
        f_obs = f_calc.as_amplitude_array().set_observation_type_xray_amplitude()
        return structure, f_obs, f_calc

    return make


@pytest.fixture
def disturbed():
    """Function: f_calc, noise -> phases in radians; weak reflections are disturbed most."""

    def disturb(f_calc, noise, seed=0):
        rng = np.random.default_rng(seed)
        amplitude = np.abs(f_calc.data().as_numpy_array())
        width = noise * amplitude.mean() / np.maximum(amplitude, 0.3 * amplitude.mean())
        phases = np.angle(f_calc.data().as_numpy_array())
        centric = f_calc.centric_flags().data().as_numpy_array()
        flipped = rng.random(phases.size) < (1 - np.exp(-(width**2) / 2)) / 2
        return phases + np.where(centric, np.pi * flipped, width * rng.normal(size=phases.size))

    return disturb


@pytest.fixture
def without_strongest():
    """Function: f_obs, share -> the same without so many of its strongest reflections."""

    def leave_out(f_obs, share):
        strongest = flex.sort_permutation(f_obs.data(), reverse=True)
        return f_obs.select(strongest[int(share * f_obs.size()) :]).sort()

    return leave_out
