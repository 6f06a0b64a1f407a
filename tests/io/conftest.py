"""Small simulated crystals, as objects and as SHELX files."""

from types import SimpleNamespace

import pytest

from cctbx import crystal, xray
from cctbx.array_family import flex

CELLS = {
    "P -1": (5.1, 6.2, 7.3, 84, 95, 102),
    "P 1 21/n 1": (6.1, 8.2, 7.3, 90, 98, 90),
    "P 21 21 21": (5.9, 7.1, 8.3, 90, 90, 90),
    "P 21 21 2": (7.9, 8.1, 5.3, 90, 90, 90),
    "R -3 :H": (9.1, 9.1, 7.2, 90, 90, 120),
    "C 1 2/c 1": (11.1, 6.2, 7.3, 90, 105, 90),
}
# Fractional sites on special positions, for groups that have one.
SPECIAL = {
    "P -1": (0.5, 0, 0.5),
    "P 1 21/n 1": (0, 0.5, 0),
    "P 21 21 2": (0, 0.5, 0.3123),
    "R -3 :H": (0, 0, 0.2345),
    "C 1 2/c 1": (0, 0.21, 0.25),
}


def build_structure(symbol):
    """Return four atoms: one anisotropic, one on a special position where there is one."""
    symmetry = crystal.symmetry(CELLS[symbol], symbol)
    structure = xray.structure(crystal_symmetry=symmetry)
    structure.add_scatterer(
        xray.scatterer("O1", (0.1234567, 0.2345678, 0.3456789), u=0.0312345, scattering_type="O")
    )
    structure.add_scatterer(
        xray.scatterer("C1", (0.3123456, 0.0934567, 0.4412345), u=0.0254321, scattering_type="C")
    )
    structure.add_scatterer(
        xray.scatterer("N1", (0.2101234, 0.4412345, 0.1523456), u=0.02, scattering_type="N")
    )
    if symbol in SPECIAL:
        structure.add_scatterer(xray.scatterer("S1", SPECIAL[symbol], u=0.03, scattering_type="S"))
    structure.convert_to_anisotropic(
        selection=flex.bool([False, False, True, True][: len(structure.scatterers())])
    )
    n1 = structure.scatterers()[2]
    u11, u22, u33, u12, u13, u23 = n1.u_star
    n1.u_star = (u11 * 1.4, u22 * 0.8, u33, u12 + 0.2 * u11, u13 - 0.1 * u11, u23 + 0.1 * u22)
    structure.scattering_type_registry(table="it1992")
    return structure


@pytest.fixture
def structure_in():
    """Function: space-group symbol -> small xray.structure."""
    return build_structure


@pytest.fixture
def shelx_files(tmp_path):
    """Folder with x.ins and x.hkl of a simulated P 1 21/n 1 crystal, and its parts as text."""
    structure = build_structure("P 1 21/n 1")
    f_calc = structure.structure_factors(d_min=0.9).f_calc()
    intensities = flex.norm(f_calc.data())
    rows = [
        f"{h:4d}{k:4d}{m:4d}{i:8.2f}{0.02 * i + 0.05:8.2f}"
        for (h, k, m), i in zip(f_calc.indices(), intensities)
    ]
    hkl = "\n".join([*rows, "   0   0   0    0.00    0.00"]) + "\n"
    ins = (
        "TITL simulated\n"
        "CELL 0.71073 6.1 8.2 7.3 90 98 90\n"
        "ZERR 4 0.001 0.002 0.001 0 0.01 0\n"
        "LATT 1\n"
        "SYMM 0.5-X, 0.5+Y, 0.5-Z\n"
        "SFAC C N O S\n"
        "UNIT 8 4 4 2\n"
        "L.S. 4\n"
        "HKLF 4\n"
        "END\n"
    )
    (tmp_path / "x.hkl").write_text(hkl)
    (tmp_path / "x.ins").write_text(ins)
    return SimpleNamespace(
        folder=tmp_path, ins=ins, hkl=hkl, rows=rows, f_calc=f_calc, structure=structure
    )
