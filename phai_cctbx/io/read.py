"""Reading any file of observations into `CrystalData`."""

from __future__ import annotations

import logging
from pathlib import Path

from cctbx import crystal

from phai_cctbx.io import checks, composition
from phai_cctbx.io.cif_file import CifContents, parse_crystal, parse_reflections
from phai_cctbx.io.crystal_data import Composition, CrystalData
from phai_cctbx.io.hkl_file import HKLF_INTENSITIES, parse_hkl
from phai_cctbx.io.mtz_file import read_mtz
from phai_cctbx.io.reflections import Reflections
from phai_cctbx.io.shelx_instructions import ShelxInstructions, parse_instructions
from phai_cctbx.io.text_file import bad_input, check_readable, read_text

logger = logging.getLogger(__name__)

# The longest electron wavelength in use is about 0.05 A (60 kV), the shortest of X-rays
# about 0.1 A: what lies below is taken for electrons.
MAX_ELECTRON_WAVELENGTH = 0.06
# Two files that describe one crystal may round its cell differently.
CELL_LENGTH_TOLERANCE = 0.02
CELL_ANGLE_TOLERANCE = 1.0

_SHELX = (".ins", ".res")
_CIF = (".cif", ".fcf", ".mmcif")


def read(path, hkl=None) -> CrystalData:
    """Read the observations of a crystal, with its symmetry and composition.

    Parameters
    ----------
    path : path-like
        ``.ins`` or ``.res`` (with NAME.hkl beside it), ``.hkl`` (with NAME.ins,
        NAME.res or NAME.cif), ``.cif``, ``.fcf``, ``.mtz``, or a base name
        without extension.
    hkl : path-like, optional
        Reflection file to use in place of the one that belongs to `path`:
        ``.hkl``, or ``.cif``, ``.fcf``, ``.mtz`` of the same crystal.

    Returns
    -------
    CrystalData

    Raises
    ------
    Sorry
        If a file cannot be used, with the place in it and what to do.
    """
    named = Path(path)
    path = _main_file(named)
    if hkl is not None:
        hkl = check_readable(hkl)
    elif named.suffix.lower() == ".hkl" and path != named:
        hkl = named
    extension = path.suffix.lower()
    if extension in _SHELX:
        data = _read_shelx(path, hkl)
    elif extension in _CIF or extension == ".hkl":
        data = _read_cif(path, hkl)
    elif extension == ".mtz":
        data = _read_mtz(path, hkl)
    else:
        raise bad_input(
            path,
            f"the extension {extension or '(none)'} is not known",
            "Give .ins, .res, .hkl, .cif, .fcf or .mtz",
        )
    for line in data.provenance:
        logger.info(line)
    for reason, number in data.rejected:
        logger.warning("%d reflections left out: %s", number, reason)
    return data


def _beside(path: Path, *extensions: str) -> Path | None:
    """Return the first file named as `path` but with one of `extensions`, in any case."""
    for extension in extensions:
        for name in (path.stem + extension, path.stem + extension.upper()):
            if (path.parent / name).is_file():
                return path.parent / name
    return None


def _main_file(path: Path) -> Path:
    """Return the file that holds the cell: `path`, or the one that belongs to it."""
    if path.suffix.lower() == ".hkl":
        text = read_text(path)
        main = _beside(path, *_SHELX, ".cif")
        if main is None and _is_cif(text):
            return path
        if main is None:
            raise bad_input(
                path,
                f"no cell, since neither {path.stem}.ins nor {path.stem}.res lies beside it",
                f"Put the .ins there, or name the file with the cell and give hkl={path.name}",
            )
        return main
    if not path.exists():
        main = _beside(path.with_name(path.name + ".ins"), *_SHELX)
        if main is not None:
            return main
    return check_readable(path)


def _is_cif(text: str) -> bool:
    """Return whether the first line that is no comment opens a data block."""
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            return line.lower().startswith("data_")
    return False


def _read_shelx(path: Path, hkl: Path | None) -> CrystalData:
    instructions = parse_instructions(read_text(path), path)
    notes = [f"{path}: cell, symmetry and contents", *instructions.notes]
    hkl = hkl or _beside(path, ".hkl")
    if hkl is None:
        raise bad_input(
            path,
            f"no reflections, since {path.stem}.hkl does not lie beside it",
            "Put the .hkl there, or give its name as hkl=",
        )
    symmetry = instructions.crystal_symmetry
    reflections = _read_reflections(hkl, symmetry, path, instructions)
    return _assemble(
        reflections,
        symmetry,
        instructions.wavelength,
        _radiation(instructions.wavelength, "neutron" if instructions.neutron else None),
        title=instructions.title or path.stem,
        contents=_shelx_composition(instructions, path, notes),
        z=instructions.z,
        notes=notes,
        header=instructions.header,
    )


def _shelx_composition(instructions: ShelxInstructions, path, notes) -> Composition:
    symmetry = instructions.crystal_symmetry
    if instructions.unit is None or not any(instructions.unit):
        notes.append(f"{path}: no UNIT, contents of the cell estimated from the volume")
        return composition.estimate(symmetry, instructions.elements)
    contents = composition.from_counts(instructions.elements, instructions.unit, "UNIT")
    return composition.checked(contents, symmetry, path, notes, instructions.unit_line)


def _read_cif(path: Path, hkl: Path | None) -> CrystalData:
    cif = parse_crystal(read_text(path), path)
    notes = [f"{path}: cell and symmetry", *cif.notes]
    symmetry = cif.crystal_symmetry
    if hkl is None and cif.reflections is None:
        hkl = _beside(path, ".hkl", ".fcf")
        if hkl is None:
            raise bad_input(
                path,
                "a model without reflections (neither _refln loop nor _shelx_hkl_file)",
                "Give the reflections as hkl=, or a CIF that holds them",
            )
    reflections = cif.reflections
    if hkl is not None:
        reflections = _read_reflections(hkl, symmetry, path, cif.instructions)
    return _assemble(
        reflections,
        symmetry,
        cif.wavelength,
        _radiation(cif.wavelength, cif.radiation),
        title=cif.title,
        contents=_cif_composition(cif, path, notes),
        z=cif.z,
        notes=notes,
        header=cif.instructions.header if cif.instructions else None,
    )


def _cif_composition(cif: CifContents, path, notes) -> Composition:
    if cif.composition is not None:
        return composition.checked(
            cif.composition, cif.crystal_symmetry, path, notes, cif.composition_line
        )
    if cif.instructions is not None:
        return _shelx_composition(cif.instructions, path, notes)
    notes.append(f"{path}: no formula, contents of the cell estimated from the volume")
    return composition.estimate(cif.crystal_symmetry)


def _read_mtz(path: Path, hkl: Path | None) -> CrystalData:
    if hkl is not None:
        raise bad_input(
            path, f"an MTZ file together with hkl={hkl}", "Give the .ins or .cif with hkl="
        )
    mtz = read_mtz(path)
    notes = [f"{path}: no formula, contents of the cell estimated from the volume"]
    return _assemble(
        mtz.reflections,
        mtz.crystal_symmetry,
        mtz.wavelength,
        _radiation(mtz.wavelength),
        title=mtz.title or path.stem,
        contents=composition.estimate(mtz.crystal_symmetry),
        z=None,
        notes=notes,
        header=None,
    )


def _read_reflections(
    hkl: Path, symmetry: crystal.symmetry, main: Path, instructions: ShelxInstructions | None
) -> Reflections:
    """Return the reflections of a file of its own, which must not contradict the cell."""
    if hkl.suffix.lower() == ".mtz":
        mtz = read_mtz(hkl)
        _refuse_other_cell(hkl, mtz.crystal_symmetry, main, symmetry)
        return mtz.reflections
    text = read_text(hkl)
    if _is_cif(text):
        reflections, other = parse_reflections(text, hkl)
        if other is not None:
            _refuse_other_cell(hkl, other, main, symmetry)
        return reflections
    if instructions is None:
        reflections = parse_hkl(text, hkl)
        reflections.notes.append(f"{hkl}: HKLF {HKLF_INTENSITIES} assumed")
        return reflections
    reflections = parse_hkl(
        text,
        hkl,
        hklf=instructions.hklf,
        scale=instructions.hklf_scale,
        matrix=instructions.hklf_matrix,
        sigma_scale=instructions.hklf_sigma_scale,
    )
    reflections.notes.append(f"{hkl}: HKLF {instructions.hklf}")
    return reflections


def _refuse_other_cell(hkl, other: crystal.symmetry, main, symmetry: crystal.symmetry):
    if not symmetry.unit_cell().is_similar_to(
        other.unit_cell(), CELL_LENGTH_TOLERANCE, CELL_ANGLE_TOLERANCE
    ):
        raise bad_input(
            hkl,
            f"its cell {other.unit_cell()} is not the cell {symmetry.unit_cell()} of {main}",
            "Give two files of the same crystal in the same setting",
        )


def _radiation(wavelength: float | None, named: str | None = None) -> str:
    """Return the radiation that the file names, or else what the wavelength says."""
    if named is not None:
        return named
    if wavelength is not None and wavelength < MAX_ELECTRON_WAVELENGTH:
        return "electron"
    return "xray"


def _assemble(
    reflections, symmetry, wavelength, radiation, *, title, contents, z, notes, header
) -> CrystalData:
    """Check the observations against the symmetry and return the whole."""
    observations, reflections = checks.usable(reflections, symmetry, wavelength, radiation)
    count = f"{reflections.source}: {observations.size()} reflections used"
    return CrystalData(
        title=title,
        crystal_symmetry=symmetry,
        observations=observations,
        composition=contents,
        z=z,
        wavelength=wavelength,
        radiation=radiation,
        provenance=(*notes, *reflections.notes, count),
        rejected=tuple(sorted(reflections.rejected.items())),
        shelx_header=header,
    )
