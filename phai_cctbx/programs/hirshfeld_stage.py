"""Hirshfeld atoms as a stage of the commands: parameters, checks before the start, the run.

`phai_cctbx.refine` and `phai_cctbx.solve` share it, so that both know the same parameters
and say the same of time, memory and what is missing.
"""

from __future__ import annotations

import importlib.util
import logging
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, fields

# cctbx
import smtbx.utils
from cctbx import miller, xray
from cctbx.array_family import flex
from libtbx.utils import Sorry

from phai_cctbx.aspherical.cache import Cache
from phai_cctbx.aspherical.estimate import estimate_lines
from phai_cctbx.aspherical.hirshfeld import HirshfeldResult, HirshfeldSettings, refine_hirshfeld
from phai_cctbx.aspherical.neutron import hydrogen_bond_lengths, mean_deviation
from phai_cctbx.aspherical.quantum import Method, Quantum
from phai_cctbx.programs.model_file import Model

logger = logging.getLogger(__name__)

IAM, HAR = "iam", "har"
"""Kinds of scatterers: independent (spherical) and Hirshfeld atoms."""

ASPHERICAL_EXTENSIONS = ("tsc", "deformation.ccp4", "deformation.png")
"""Files that spherical atoms do not have."""

NEEDED = ("pyscf", "finufft")
"""Packages that the worker process imports."""

HAR_PHIL = """
har {
  method = HF PBE *B3LYP R2SCAN WB97X-D
    .type = choice
  basis = STO-3G *def2-SVP def2-TZVP
    .type = choice
  relativity = *ecp x2c
    .type = choice
    .help = Core potentials from Rb on, or scalar relativistic with all electrons
  cluster_radius = 8.0
    .type = float(value_min=0)
    .help = Molecules this near (A) surround the calculated one as charges and dipoles
  grid_level = 3
    .type = int(value_min=0, value_max=9)
    .help = Becke grid of the partition
  charges = None
    .type = str
    .help = Charges of the molecules where they cannot be worked out, as in C2H6NO2:+1 Cl:-1, \
            a multiplicity after a second colon
  rigid = False
    .type = bool
    .help = Calculate each molecule once and turn its form factors with it (low resolution)
  fragment_atoms = 120
    .type = int(value_min=20)
    .help = Molecules with more atoms are calculated as overlapping fragments
  max_cycles = 12
    .type = int(value_min=1)
    .help = Most cycles of calculation and refinement
  threads = 0
    .type = int(value_min=0)
    .help = Threads of the calculation, 0 for all cores
  memory_mb = 0
    .type = float(value_min=0)
    .help = Memory for the calculation, 0 for half of what is free
  cache = None
    .type = str
    .help = Folder of finished calculations, by default in the user's cache folder
}
"""


@dataclass(frozen=True)
class HirshfeldParameters:
    """The parameters of the scope ``har``, by their names there."""

    method: str = "B3LYP"
    basis: str = "def2-SVP"
    relativity: str = "ecp"
    cluster_radius: float = 8.0
    grid_level: int = 3
    charges: str | None = None
    rigid: bool = False
    fragment_atoms: int = 120
    max_cycles: int = 12
    threads: int = 0
    memory_mb: float = 0.0
    cache: str | None = None

    @classmethod
    def from_phil(cls, scope) -> HirshfeldParameters:
        """From the extracted scope ``har``."""
        return cls(**{each.name: getattr(scope, each.name) for each in fields(cls)})

    def as_phil(self) -> dict:
        """Full parameter name -> value."""
        return {f"har.{each.name}": getattr(self, each.name) for each in fields(self)}

    def quantum(self, progress: Callable[[str], None] | None = None) -> Quantum:
        """What runs the calculations."""
        method = Method(self.method, self.basis, self.relativity, self.grid_level)
        return Quantum(method, Cache(self.cache), self.threads, self.memory_mb, progress=progress)

    def settings(self, **choices) -> HirshfeldSettings:
        """How the refinement goes; `choices` are further fields of `HirshfeldSettings`."""
        return HirshfeldSettings(
            cluster_radius=self.cluster_radius,
            max_cycles=self.max_cycles,
            charges=parse_charges(self.charges),
            rigid=self.rigid,
            fragment_atoms=self.fragment_atoms,
            **choices,
        )


def check_possible(parameters: HirshfeldParameters, radiation: str = "xray") -> None:
    """Refuse before any work what cannot be calculated.

    Raises
    ------
    Sorry
        If PySCF or finufft is missing, the data are not X-ray data, or `charges` is not
        understood.
    """
    if radiation != "xray":
        raise Sorry(f"scattering=har is for X-rays; these data are {radiation} data.")
    parse_charges(parameters.charges)
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise Sorry(
            f"scattering=har needs {' and '.join(missing)}, which this Python does not have. "
            "Install them (pip install 'phai_cctbx[aspherical]'), or use scattering=iam."
        )


def parse_charges(text: str | None) -> dict:
    """``"Cl:-1 C10H10Fe:+1:2"`` as formula -> (charge, multiplicity or None)."""
    result = {}
    for word in (text or "").replace(",", " ").split():
        formula, *numbers = word.split(":")
        try:
            charge = int(numbers[0])
            multiplicity = int(numbers[1]) if len(numbers) > 1 else None
        except (IndexError, ValueError):
            raise Sorry(
                f"charges={text}: {word!r} is not FORMULA:CHARGE or FORMULA:CHARGE:MULTIPLICITY, "
                "such as Cl:-1."
            ) from None
        result[formula] = (charge, multiplicity)
    return result


def run_hirshfeld(
    model: Model,
    structure: xray.structure,
    f_sq: miller.array,
    wavelength: float | None,
    quantum: Quantum,
    settings: HirshfeldSettings,
) -> HirshfeldResult:
    """Say what will be calculated and for how long, then refine.

    Parameters
    ----------
    model : Model
        Constraints, restraints, weights, extinction and PARTs.
    structure : xray.structure
        Its atoms, scattering factors set.
    f_sq : miller.array
        Merged intensities with sigmas in the asymmetric unit.
    wavelength : float or None
        A.
    quantum : Quantum
    settings : HirshfeldSettings
    """
    for line in estimate_lines(structure, quantum, settings, model.conformers):
        logger.info("%s", line)
    with table_beside(quantum) as table_file:
        return refine_hirshfeld(
            structure,
            f_sq,
            quantum,
            settings,
            table_file,
            wavelength,
            model.weighting,
            model.extinction,
            model.conformers or None,
            **least_squares_keywords(model),
        )


@contextmanager
def table_beside(quantum: Quantum):
    """Path of a form-factor table that lasts as long as its refinement."""
    folder = quantum.cache.folder
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"table_{time.time_ns()}.tsc"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def least_squares_keywords(model: Model) -> dict:
    """What `phai_cctbx.refinement.least_squares.refine` is told of a model."""
    return {
        "constraints": model.constraints,
        "restraints": model.restraints,
        "temperature": model.temperature,
        "occupancies": model.occupancies,
        "connectivity": connectivity_of(model.conformers),
    }


def connectivity_of(conformers):
    """Function structure -> smtbx connectivity table that knows the PARTs, or None."""
    if not any(conformers):
        return None
    indices = flex.size_t(conformers)
    return lambda structure: smtbx.utils.connectivity_table(structure, conformer_indices=indices)


def hirshfeld_summary(result: HirshfeldResult, independent_atoms_residual) -> dict:
    """The figures of the .json file that a refinement with Hirshfeld atoms adds.

    Parameters
    ----------
    result : HirshfeldResult
    independent_atoms_residual : ResidualDensity
        Of the spherical model.
    """
    spherical = result.independent_atoms
    scatterers = result.refinement.xray_structure.scatterers()
    return {
        "independent_atoms": {
            "r1": spherical.r1,
            "wr2": spherical.wr2,
            "goof": spherical.goof,
            "difference_peak": independent_atoms_residual.peak,
            "difference_hole": independent_atoms_residual.hole,
        },
        "converged": result.converged,
        "cycles": [vars(cycle) for cycle in result.cycles],
        "molecules": list(result.molecules),
        "hirshfeld_charges": {
            s.label: round(float(q), 4) for s, q in zip(scatterers, result.charges, strict=True)
        },
    }


def agreement_lines(models) -> list[str]:
    """Agreement and residual density of models of one crystal, side by side.

    Parameters
    ----------
    models : sequence of (str, RefinementResult, ResidualDensity)
    """
    lines = [
        f"{'':<10s} {'R1':>7s} {'R1(all)':>7s} {'wR2':>7s} {'GooF':>6s} {'hole':>7s} "
        f"{'peak':>6s} {'e(gross)':>8s} {'param.':>6s}"
    ]
    lines += [
        f"{name[:10]:<10s} {r.r1:7.4f} {r.r1_all:7.4f} {r.wr2:7.4f} {r.goof:6.2f} "
        f"{residual.hole:7.3f} {residual.peak:6.3f} {residual.gross_electrons:8.2f} "
        f"{r.n_parameters:6d}"
        for name, r, residual in models
    ]
    return lines


def hydrogen_lines(structure: xray.structure) -> list[str]:
    """Bonds to hydrogen beside their neutron means, nothing where there are none to compare."""
    bonds = hydrogen_bond_lengths(structure)
    signed, absolute, n = mean_deviation(bonds)
    if not n:
        return []
    lines = ["", "X-H distances (A) and neutron means (Allen & Bruno, 2010)"]
    for bond in bonds:
        neutron = "-" if bond.neutron is None else f"{bond.neutron:.3f}"
        lines.append(f"  {bond.carrier:>4s}-{bond.hydrogen:<5s} {bond.length:6.3f} {neutron:>6s}")
    return [
        *lines,
        f"mean deviation {signed:+.4f} A, mean absolute deviation {absolute:.4f} A",
    ]
