"""Urea, the smallest crystal with a molecule on a special position (mm2 in P -4 21 m)."""

import importlib.util

import pytest

from cctbx import crystal, xray
from cctbx.array_family import flex

from phai_cctbx.aspherical.cache import Cache
from phai_cctbx.aspherical.quantum import Method, Quantum


@pytest.fixture
def urea():
    """Urea at 60 K, rounded from the neutron structure (Swaminathan et al., 1984)."""
    symmetry = crystal.symmetry((5.565, 5.565, 4.684, 90, 90, 90), "P -4 21 m")
    structure = xray.structure(
        crystal.special_position_settings(symmetry),
        flex.xray_scatterer(
            [
                xray.scatterer("C1", site=(0, 0.5, 0.3275), u=0.010),
                xray.scatterer("O1", site=(0, 0.5, 0.5955), u=0.012),
                xray.scatterer("N1", site=(0.1447, 0.6447, 0.1785), u=0.014),
                xray.scatterer("H1", site=(0.2557, 0.7557, 0.2841), u=0.030),
                xray.scatterer("H2", site=(0.1431, 0.6431, -0.0348), u=0.030),
            ]
        ),
    )
    structure.scattering_type_registry(table="it1992")
    return structure


@pytest.fixture(scope="session")
def quantum(tmp_path_factory):
    """The cheapest calculation, with a cache of its own."""
    for name in ("pyscf", "finufft"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    cache = Cache(tmp_path_factory.mktemp("cache"))
    return Quantum(Method("HF", "STO-3G"), cache, threads=1, memory_mb=1000)
