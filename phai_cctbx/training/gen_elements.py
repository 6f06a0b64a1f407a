"""Generator of ``elements.json``: form factors, radii and volumes of the elements 1 to 96.

Run with cctbx and RDKit: ``cctbx.python phai_cctbx/training/gen_elements.py``.

Sources: form factors, International Tables C (1992), table 6.1.1.4, from
``cctbx.eltbx.xray_scattering.it1992`` (neutral atoms); covalent radii, Cordero et al., Dalton
Trans. (2008) 2832, from ``cctbx.eltbx.covalent_radii``; van der Waals radii, Bondi, J. Phys. Chem.
68 (1964) 441, completed by the Blue Obelisk Data Repository, from RDKit; volumes, average volume
of an atom in molecular crystals, Hofmann, Acta Cryst. B58 (2002) 489 (the cube of the covalent
radius times ``VOLUME_PER_RADIUS_CUBED`` where none is listed below); electronegativities, Pauling's
scale, CRC Handbook of Chemistry and Physics, 97th ed. (0 where none is listed below).
"""

from __future__ import annotations

import json
from pathlib import Path

from cctbx.eltbx import covalent_radii, tiny_pse, xray_scattering  # isort: skip
from rdkit import Chem

TABLE = Path(__file__).with_name("elements.json")
HEAVIEST = 96
#: Of the heavier elements in the paper's table, the mean of volume over covalent radius cubed, A^3.
VOLUME_PER_RADIUS_CUBED = 10.0
HOFMANN_VOLUMES = {
    "H": 5.08, "Li": 22.6, "Be": 36.0, "B": 13.24, "C": 13.87, "N": 11.8, "O": 11.39, "F": 11.17,
    "Na": 26.0, "Mg": 36.0, "Al": 39.6, "Si": 37.3, "P": 29.5, "S": 25.2, "Cl": 25.8, "K": 36.0,
    "Ca": 45.0, "Sc": 42.0, "Ti": 27.3, "V": 24.0, "Cr": 28.1, "Mn": 31.9, "Fe": 30.4, "Co": 29.4,
    "Ni": 26.0, "Cu": 26.9, "Zn": 39.0, "Ga": 37.8, "Ge": 41.6, "As": 36.4, "Se": 30.3,
    "Br": 32.7, "Rb": 42.0, "Sr": 47.0, "Y": 44.0, "Zr": 27.0, "Nb": 37.0, "Mo": 38.0, "Tc": 38.0,
    "Ru": 37.3, "Rh": 31.2, "Pd": 35.0, "Ag": 35.0, "Cd": 51.0, "In": 55.0, "Sn": 52.8,
    "Sb": 48.0, "Te": 46.7, "I": 46.2, "Cs": 46.0, "Ba": 66.0,
}  # fmt: skip
#: Elements that form polar covalent bonds.
ELECTRONEGATIVITIES = {
    "H": 2.20, "B": 2.04, "C": 2.55, "N": 3.04, "O": 3.44, "F": 3.98, "Si": 1.90, "P": 2.19,
    "S": 2.58, "Cl": 3.16, "As": 2.18, "Se": 2.55, "Br": 2.96, "I": 2.66,
}  # fmt: skip


def element(atomic_number: int, periodic_table) -> dict:
    """Row of the table for one element."""
    symbol = tiny_pse.table(atomic_number).symbol()
    gaussian = xray_scattering.it1992(symbol, True).fetch()
    radius = covalent_radii.table(symbol).radius()
    volume = HOFMANN_VOLUMES.get(symbol, VOLUME_PER_RADIUS_CUBED * radius**3)
    return {
        "symbol": symbol,
        "a": [round(x, 5) for x in gaussian.array_of_a()],
        "b": [round(x, 5) for x in gaussian.array_of_b()],
        "c": round(gaussian.c(), 5),
        "covalent_radius": round(radius, 2),
        "van_der_waals_radius": round(periodic_table.GetRvdw(atomic_number), 2),
        "volume": round(volume, 2),
        "electronegativity": ELECTRONEGATIVITIES.get(symbol, 0.0),
    }


def main() -> None:
    """Write the table beside this file."""
    periodic_table = Chem.GetPeriodicTable()
    rows = (element(z, periodic_table) for z in range(1, HEAVIEST + 1))
    lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
    TABLE.write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
