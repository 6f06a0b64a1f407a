"""What is known of a crystal before phasing: the object that every reader returns."""

from __future__ import annotations

from dataclasses import dataclass

from cctbx import crystal, miller


@dataclass(frozen=True)
class Composition:
    """Contents of the unit cell.

    Attributes
    ----------
    unit_cell_contents : dict of str to float
        Element symbol -> atoms per unit cell.
    source : str
        Where the numbers come from, e.g. ``"UNIT"``, ``"_chemical_formula_sum"``
        or ``"estimated from the volume"``.
    """

    unit_cell_contents: dict[str, float]
    source: str


@dataclass(frozen=True)
class CrystalData:
    """Observations of one crystal, in the setting of the file.

    Attributes
    ----------
    title : str
    crystal_symmetry : cctbx.crystal.symmetry
    observations : cctbx.miller.array
        As read: intensities (``is_xray_intensity_array()``) or amplitudes
        (``is_xray_amplitude_array()``), with sigmas where given, merged or not.
    composition : Composition
    z : int or None
        Formula units per unit cell.
    wavelength : float or None
        In A.
    radiation : {"xray", "electron", "neutron"}
    provenance : tuple of str
        Files read, how, and what had to be assumed.
    rejected : tuple of (str, int)
        Reflections left out: reason and number.
    shelx_header : tuple of str or None
        Lines of the .ins to keep in a .res (TITL to UNIT, and instructions).
    """

    title: str
    crystal_symmetry: crystal.symmetry
    observations: miller.array
    composition: Composition
    z: int | None
    wavelength: float | None
    radiation: str
    provenance: tuple[str, ...]
    rejected: tuple[tuple[str, int], ...]
    shelx_header: tuple[str, ...] | None
