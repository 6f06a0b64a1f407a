"""Geometries relaxed by quantum chemistry."""

import numpy as np
import pytest

# cctbx
from libtbx.utils import Sorry

from phai_cctbx.aspherical.cache import Cache
from phai_cctbx.aspherical.geometry import relaxed
from phai_cctbx.aspherical.quantum import Method, Quantum
from phai_cctbx.building.molecule import read_molecules

pytest.importorskip("rdkit")
pytest.importorskip("finufft")  # of the same extra as PySCF, which must not be imported here


@pytest.fixture
def quantum(tmp_path):
    return Quantum(Method("HF", "STO-3G"), Cache(tmp_path), threads=1)


def test_water_has_the_geometry_of_hartree_fock(quantum):
    """O-H 0.989 A and H-O-H 100.0 degrees at HF/STO-3G (Hehre, Radom, Schleyer & Pople, Ab Initio
    Molecular Orbital Theory, 1986), slightly longer in a continuum."""
    (water,) = read_molecules("O")
    found = relaxed(water, quantum)
    oxygen, *hydrogens = found.conformers[0]
    a, b = (h - oxygen for h in hydrogens)
    assert np.linalg.norm(a) == pytest.approx(0.989, abs=0.01)
    assert np.linalg.norm(b) == pytest.approx(np.linalg.norm(a), abs=0.002)
    angle = np.degrees(np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b)))
    assert angle == pytest.approx(100.0, abs=1.5)


def test_what_is_too_large_or_has_an_odd_electron_is_refused(quantum):
    (large,) = read_molecules("C" * 30)
    with pytest.raises(Sorry, match="at most 60"):
        relaxed(large, quantum)
    with pytest.raises(Sorry, match="unpaired"):
        quantum.geometry([8, 1, 1], np.zeros((3, 3)), 1)
