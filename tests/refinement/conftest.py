"""A synthetic crystal and its exact data."""

import pytest

# cctbx
from cctbx import crystal, xray
from cctbx.array_family import flex


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
