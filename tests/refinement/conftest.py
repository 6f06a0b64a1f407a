"""Synthetic crystals and their data."""

import numpy as np
import pytest

# cctbx
from cctbx import crystal, xray
from cctbx.array_family import flex

from phai_cctbx.refinement.least_squares import prepare_scattering

#: Of the chiral crystals that `bromide` makes.
CELLS = {
    "P 21 21 21": (7.0, 9.0, 11.0, 90, 90, 90),
    "P 31": (8.0, 8.0, 9.0, 90, 90, 120),
    "P 1 21 1": (6.0, 9.0, 8.0, 90, 101, 90),
}


@pytest.fixture(scope="session")
def crystal_model():
    """Acetamide-like molecules and a copper ion on an inversion centre, in P -1."""
    symmetry = crystal.symmetry((6.2, 7.1, 8.3, 84, 98, 106), "P -1")
    structure = xray.structure(crystal_symmetry=symmetry)
    unit_cell = symmetry.unit_cell()
    for element, label, site, u_iso in (
        ("Cu", "Cu1", None, 0.020),
        ("O", "O1", (1.9, 2.2, 2.0), 0.035),
        ("C", "C1", (2.6, 3.2, 2.2), 0.030),
        ("N", "N1", (2.2, 4.4, 2.6), 0.040),
        ("C", "C2", (4.1, 3.1, 2.0), 0.045),
    ):
        fractional = (0, 0, 0) if site is None else unit_cell.fractionalize(site)
        structure.add_scatterer(
            xray.scatterer(label, site=fractional, u=u_iso, scattering_type=element)
        )
    structure.scattering_type_registry(table="it1992")
    return structure


@pytest.fixture(scope="session")
def exact_intensities(crystal_model):
    """Intensities of the model to 0.8 A, scale 4, sigma 1 % and a floor."""
    f_calc = crystal_model.structure_factors(d_min=0.8, algorithm="direct").f_calc()
    intensities = flex.norm(f_calc.data()) * 4.0
    sigmas = 0.01 * intensities + 0.5
    return f_calc.customized_copy(
        data=intensities, sigmas=sigmas
    ).set_observation_type_xray_intensity()


def _bromide(symbol, x=0.0):
    """A chiral arrangement with bromine, and its Mo K alpha intensities with 1 % noise.

    A share x of the crystal is inverted.
    """
    structure = xray.structure(crystal_symmetry=crystal.symmetry(CELLS[symbol], symbol))
    generator = np.random.default_rng(2)
    for k, element in enumerate(["Br", "O", "N", "C", "C", "C"]):
        structure.add_scatterer(
            xray.scatterer(
                f"{element}{k}", site=tuple(generator.random(3)), u=0.03, scattering_type=element
            )
        )
    prepare_scattering(structure, "xray", 0.71073)
    f_calc = structure.structure_factors(
        d_min=0.9, anomalous_flag=True, algorithm="direct"
    ).f_calc()
    mates = (
        f_calc.customized_copy(
            indices=flex.miller_index([tuple(-i for i in h) for h in f_calc.indices()])
        )
        .structure_factors_from_scatterers(structure, algorithm="direct")
        .f_calc()
    )
    exact = (1 - x) * flex.norm(f_calc.data()) + x * flex.norm(mates.data())
    sigmas = 0.01 * exact + 0.1
    noise = flex.double(generator.normal(size=exact.size())) * sigmas
    f_sq = f_calc.customized_copy(data=exact + noise, sigmas=sigmas)
    return structure, f_sq.set_observation_type_xray_intensity().map_to_asu()


@pytest.fixture(scope="session")
def bromide():
    """Function of a space group: a chiral crystal with bromine and its Mo K alpha intensities."""
    return _bromide
