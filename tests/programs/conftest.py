"""Data to solve: measured thpp in a folder of its own, and simulated sucrose."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

# cctbx
from cctbx import crystal, xray
from cctbx.array_family import flex

#: The molecules A and B of the model are related by a screw axis along b through this point.
SCREW_AXIS = (-1.1268 / 2, 0.0, -1.0223 / 2)

SUCROSE_INS = """TITL sucrose, simulated, in P 21
CELL 0.71073 {cell}
ZERR 2 0.001 0.001 0.001 0.01 0.01 0.01
LATT -1
SYMM -X,Y+1/2,-Z
SFAC C H O
UNIT {unit}
HKLF 4
END
"""

#: Urea at 60 K, up to what a model adds.
UREA_HEADER = """TITL urea
CELL 0.71073 5.5650 5.5650 4.6840 90 90 90
ZERR 2 0 0 0 0 0 0
LATT -1
SYMM Y,-X,-Z
SYMM -Y,X,-Z
SYMM X+1/2,-Y+1/2,-Z
SYMM -X+1/2,Y+1/2,-Z
SYMM -X,-Y,Z
SYMM -Y+1/2,-X+1/2,Z
SYMM Y+1/2,X+1/2,Z
SFAC C H N O
UNIT 2 8 4 2
TEMP -213
"""


@dataclass(frozen=True)
class Simulated:
    """A simulated data set and the structure it comes from."""

    ins: Path
    structure: xray.structure


def simulate_intensities(structure, d_min, relative_sigma=0.03, seed=20):
    """Intensities with Gaussian errors, sigma^2 = (relative_sigma I)^2 + (0.01 <I>)^2."""
    f_sq = structure.structure_factors(d_min=d_min, anomalous_flag=False).f_calc().norm()
    data = f_sq.data().as_numpy_array()
    sigmas = np.hypot(relative_sigma * data, 0.01 * data.mean())
    noisy = data + np.random.default_rng(seed).normal(0.0, sigmas)
    scale = 9000.0 / noisy.max()
    return f_sq.customized_copy(
        data=flex.double(noisy * scale), sigmas=flex.double(sigmas * scale)
    ).set_observation_type_xray_intensity()


@pytest.fixture
def write_urea(tmp_path, monkeypatch):
    """Write urea files into an empty current folder, which is returned.

    Called with the rest of the SHELX file, its extension, (index, intensity) pairs, and the
    sigmas as a constant and a share of each intensity.
    """
    monkeypatch.chdir(tmp_path)

    def write(rest, extension, intensities, sigma):
        (tmp_path / f"urea.{extension}").write_text(UREA_HEADER + rest + "HKLF 4\nEND\n")
        with open(tmp_path / "urea.hkl", "w") as stream:
            for index, value in [*intensities, ((0, 0, 0), None)]:
                numbers = (0, 0) if value is None else (value, sigma[0] + sigma[1] * value)
                stream.write("{:4d}{:4d}{:4d}{:8.2f}{:8.2f}\n".format(*index, *numbers))
        return tmp_path

    return write


@pytest.fixture
def thpp(thpp_folder, tmp_path, monkeypatch):
    """thpp.ins and thpp.hkl in an empty current folder."""
    for extension in ("ins", "hkl"):
        shutil.copy(thpp_folder / f"thpp.{extension}", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "thpp.ins"


@pytest.fixture(scope="session")
def sucrose(thpp_folder, tmp_path_factory):
    """Sucrose in P 21 to 0.9 A: molecule A of the model in P 1 that cctbx installs."""
    folder = tmp_path_factory.mktemp("sucrose")
    in_p1 = xray.structure.from_shelx(filename=str(thpp_folder / "sucrose_p1.res"))
    structure = xray.structure(
        crystal_symmetry=crystal.symmetry(in_p1.unit_cell(), space_group_symbol="P 21")
    )
    for scatterer in in_p1.scatterers()[: in_p1.scatterers().size() // 2]:
        site = [x - x0 for x, x0 in zip(scatterer.site, SCREW_AXIS)]
        structure.add_scatterer(scatterer.customized_copy(site=site))
    counts = structure.unit_cell_content()
    ins = folder / "sucrose.ins"
    ins.write_text(
        SUCROSE_INS.format(
            cell=" ".join(f"{x:.4f}" for x in structure.unit_cell().parameters()),
            unit=" ".join(f"{counts[element]:.0f}" for element in ("C", "H", "O")),
        )
    )
    with ins.with_suffix(".hkl").open("w") as out:
        simulate_intensities(structure, 0.9).export_as_shelx_hklf(out)
    return Simulated(ins, structure)
