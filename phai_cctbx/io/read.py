"""Reading any file of observations into `CrystalData`."""

from __future__ import annotations

import logging
from pathlib import Path

from phai_cctbx.io import checks, composition
from phai_cctbx.io.crystal_data import CrystalData
from phai_cctbx.io.hkl_file import parse_hkl
from phai_cctbx.io.shelx_instructions import parse_instructions
from phai_cctbx.io.text_file import bad_input, check_readable, read_text

logger = logging.getLogger(__name__)

# The shortest X-ray and the longest electron wavelengths in use are about 0.1 A and
# 0.05 A (60 kV): what is below is taken for electrons.
MAX_ELECTRON_WAVELENGTH = 0.06

_SHELX = (".ins", ".res")


def read(path, hkl=None) -> CrystalData:
    """Read the observations of a crystal, with its symmetry and composition.

    Parameters
    ----------
    path : path-like
        ``.ins``, ``.res`` (with NAME.hkl beside it), ``.hkl`` (with NAME.ins or
        NAME.res), ``.cif``, ``.fcf``, ``.mtz``, or a base name without extension.
    hkl : path-like, optional
        Reflection file to use in place of the one that belongs to `path`.

    Returns
    -------
    CrystalData

    Raises
    ------
    Sorry
        If a file cannot be used, with the place in it and what to do.
    """
    path = _instruction_file(Path(path))
    return _read_shelx(path, hkl)


def _beside(path: Path, *extensions: str) -> Path | None:
    """Return the first file of the same base name with one of `extensions`, in any case."""
    for extension in extensions:
        for name in (path.stem + extension, path.stem + extension.upper()):
            if (path.parent / name).is_file():
                return path.parent / name
    return None


def _instruction_file(path: Path) -> Path:
    """Return the file that holds the cell: `path`, or the one that belongs to it."""
    if path.suffix.lower() == ".hkl":
        check_readable(path)
        instructions = _beside(path, *_SHELX)
        if instructions is None:
            raise bad_input(
                path,
                f"no cell, since neither {path.stem}.ins nor {path.stem}.res lies beside it",
                "Put the .ins there, or name a file that holds the cell and give hkl=" + path.name,
            )
        return instructions
    if not path.exists():
        base = _beside(path.with_name(path.name + ".ins"), *_SHELX)
        if base is not None:
            return base
    return check_readable(path)


def _read_shelx(path: Path, hkl) -> CrystalData:
    instructions = parse_instructions(read_text(path), path)
    notes = [f"{path}: cell, symmetry and contents", *instructions.notes]
    hkl_path = Path(hkl) if hkl is not None else _beside(path, ".hkl")
    if hkl_path is None:
        raise bad_input(
            path,
            f"no reflections, since {path.stem}.hkl does not lie beside it",
            "Put the .hkl there, or give its name as hkl=",
        )
    reflections = parse_hkl(
        read_text(hkl_path),
        hkl_path,
        hklf=instructions.hklf,
        scale=instructions.hklf_scale,
        matrix=instructions.hklf_matrix,
        sigma_scale=instructions.hklf_sigma_scale,
    )
    radiation = _radiation(instructions.wavelength, instructions.neutron)
    observations, reflections = checks.usable(
        reflections, instructions.crystal_symmetry, instructions.wavelength, radiation
    )
    notes.append(f"{hkl_path}: {observations.size()} reflections, HKLF {instructions.hklf}")
    contents = _shelx_composition(instructions, path, notes)
    return CrystalData(
        title=instructions.title,
        crystal_symmetry=instructions.crystal_symmetry,
        observations=observations,
        composition=contents,
        z=instructions.z,
        wavelength=instructions.wavelength,
        radiation=radiation,
        provenance=tuple(notes + reflections.notes),
        rejected=tuple(sorted(reflections.rejected.items())),
        shelx_header=instructions.header,
    )


def _shelx_composition(instructions, path, notes):
    symmetry = instructions.crystal_symmetry
    if instructions.unit is None or not any(instructions.unit):
        notes.append(f"{path}: no UNIT, contents of the cell estimated from the volume")
        return composition.estimate(symmetry, instructions.elements)
    contents = composition.from_counts(instructions.elements, instructions.unit, "UNIT")
    return composition.checked(contents, symmetry, path, notes, instructions.unit_line)


def _radiation(wavelength: float | None, neutron: bool = False) -> str:
    if neutron:
        return "neutron"
    if wavelength is not None and wavelength < MAX_ELECTRON_WAVELENGTH:
        return "electron"
    return "xray"
