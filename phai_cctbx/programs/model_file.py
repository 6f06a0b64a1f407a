"""A model to refine: atoms, constraints, restraints, weights and extinction from a file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

# cctbx
import iotbx.cif
from cctbx import xray
from iotbx.shelx import parse_smtbx_refinement_model
from libtbx.utils import Sorry
from smtbx.refinement.constraints import adp
from smtbx.refinement.constraints.geometrical import hydrogens as riding

from phai_cctbx.building.connectivity import HYDROGENS, element_of
from phai_cctbx.io.shelx_header import header_numbers
from phai_cctbx.io.text_file import bad_input, read_text
from phai_cctbx.programs.benchmark_entries import reference_structure
from phai_cctbx.refinement.parts import with_shared_occupancies
from phai_cctbx.refinement.weighting import Weighting

ROOM_TEMPERATURE = 20.0
"""SHELXL's default of TEMP, degrees Celsius."""

RESTRAINTS = frozenset("BUMP CHIV DANG DEFS DELU DFIX FLAT ISOR NCSY RIGU SADI SAME SIMU".split())
"""SHELXL's restraint instructions."""


@dataclass(frozen=True)
class Model:
    """What a refinement starts from.

    Attributes
    ----------
    xray_structure : xray.structure
    constraints : tuple
        smtbx constraints (AFIX, EADP, free variables).
    restraints : smtbx restraints manager or None
    weighting : Weighting or None
    extinction : float or None
        EXTI.
    temperature : float
        Degrees Celsius.
    conformers : tuple of int
        PART of each scatterer.
    occupancies : tuple of int
        Scatterers whose occupancy is refined.
    """

    xray_structure: xray.structure
    constraints: tuple = ()
    restraints: object = None
    weighting: Weighting | None = None
    extinction: float | None = None
    temperature: float = ROOM_TEMPERATURE
    conformers: tuple = ()
    occupancies: tuple = field(default=())

    def without_riding(self) -> Model:
        """The same model with hydrogens that are refined freely."""
        kept = tuple(c for c in self.constraints if not moves_hydrogen(c))
        return Model(
            self.xray_structure,
            kept,
            self.restraints,
            self.weighting,
            self.extinction,
            self.temperature,
            self.conformers,
            self.occupancies,
        )


def moves_hydrogen(constraint) -> bool:
    """Whether a constraint places hydrogens or ties their displacements to a pivot."""
    return isinstance(constraint, (riding.hydrogens, adp.u_iso_proportional_to_pivot_u_eq))


def read_model(path) -> Model:
    """Read a model from a .res, .ins or .cif file.

    Raises
    ------
    Sorry
        If the file cannot be read, holds no atoms, or is a twin.
    """
    path = Path(path)
    if path.suffix.lower() == ".cif":
        structure = reference_structure(path)
        return Model(structure, conformers=disorder_groups(path, structure))
    text = read_text(path)
    words = {line.split()[0].split("_")[0].upper() for line in text.splitlines() if line.split()}
    if words & {"TWIN", "BASF"}:
        raise bad_input(
            path, "TWIN or BASF", "Twins cannot be refined here: detwin the data, or use SHELXL"
        )
    try:
        builder = parse_smtbx_refinement_model(filename=str(path), strictly_shelxl=False)
    except Exception as error:  # of many types, all of them the file's fault
        raise bad_input(
            path, f"{type(error).__name__}: {error}", "Correct the line, or remove the instruction"
        ) from error
    structure = builder.structure
    if structure is None or structure.scatterers().size() == 0:
        raise bad_input(path, "no atoms", "Give a .res with a model; phai_cctbx.solve makes one")
    header = text.splitlines()
    weights = header_numbers(header, "WGHT")
    extinction = header_numbers(header, "EXTI")
    occupancies = tuple(i for i, s in enumerate(structure.scatterers()) if s.flags.grad_occupancy())
    return Model(
        structure,
        tuple(with_shared_occupancies(builder.constraints)),
        builder.restraints_manager if words & RESTRAINTS else None,
        Weighting(weights[0], weights[1] if len(weights) > 1 else 0.0) if weights else None,
        extinction[0] if extinction else None,
        ROOM_TEMPERATURE
        if builder.temperature_in_celsius is None
        else float(builder.temperature_in_celsius),
        tuple(int(c) for c in builder.conformer_indices or ()),
        occupancies,
    )


def disorder_groups(path, structure: xray.structure) -> tuple[int, ...]:
    """``_atom_site_disorder_group`` of each scatterer of a CIF, empty where it is not given."""
    for block in iotbx.cif.reader(file_path=str(path)).model().values():
        groups = block.get("_atom_site_disorder_group")
        if groups is not None and len(groups) == structure.scatterers().size():
            return tuple(abs(int(g)) if g.lstrip("-").isdigit() else 0 for g in groups)
    return ()


def check_hydrogens(structure: xray.structure, path) -> None:
    """Refuse a model without any hydrogen where its elements suggest there should be some."""
    elements = [element_of(s) for s in structure.scatterers()]
    if "C" in elements and not HYDROGENS & set(elements):
        raise Sorry(
            f"{path}: carbon but no hydrogen atoms. Quantum chemistry needs the whole molecule: "
            "add the hydrogens (phai_cctbx.solve places them, or HFIX in SHELXL)."
        )
