"""How long a Hirshfeld atom refinement will take, and how much memory, before it starts."""

from __future__ import annotations

import numpy as np

from phai_cctbx.aspherical.disorder import configurations
from phai_cctbx.aspherical.fragments import fragments_of
from phai_cctbx.aspherical.hirshfeld import as_calculated
from phai_cctbx.aspherical.molecules import Molecule, assign_charges, grow_molecules

FUNCTIONS_PER_ATOM = {
    "STO-3G": (1, 5, 9),
    "def2-SVP": (5, 14, 18),
    "def2-TZVP": (6, 31, 37),
}
"""Basis functions of hydrogen, of Li to Ne, and of heavier atoms (these as a rule)."""

SCF_CYCLES = 12
"""Typical SCF cycles from the first guess; later cycles of the refinement need about 8."""

HAR_CYCLES = 5
"""Typical cycles of the refinement."""

SECONDS_PER_SCF_CYCLE = 2.5e-6
"""Processor seconds per SCF cycle, atom and squared basis function (grid level 1, density
fitting; measured on L-alanine and sucrose, 13 and 45 atoms)."""

AUXILIARY_PER_FUNCTION = 4.5
"""Fitting functions per basis function (def2-universal-jkfit)."""


def n_functions(numbers, basis: str) -> int:
    """Basis functions of a molecule."""
    hydrogen, second_row, heavier = FUNCTIONS_PER_ATOM[basis]
    numbers = np.asarray(numbers)
    return int(
        hydrogen * np.sum(numbers <= 2)
        + second_row * np.sum((numbers > 2) & (numbers <= 10))
        + heavier * np.sum(numbers > 10)
    )


def calculations(structure, settings) -> list[Molecule]:
    """Everything that one cycle calculates: molecules, and fragments of those too large."""
    result = []
    for molecule in assign_charges(grow_molecules(structure), settings.charges):
        if len(molecule.numbers) > settings.fragment_atoms:
            result += [as_calculated(fragment) for fragment in fragments_of(molecule)]
        else:
            result.append(molecule)
    return result


def estimate_lines(structure, quantum, settings, conformers=()) -> list[str]:
    """What will be calculated, for how long and in how much memory, as log lines.

    Parameters
    ----------
    structure : xray.structure
    quantum : Quantum
    settings : HirshfeldSettings
    conformers : sequence of int
    """
    lines = [
        f"Hirshfeld atoms: {quantum.method.description()}, {quantum.threads} threads, cache "
        f"{quantum.cache.folder}"
    ]
    seconds = 0.0
    for part in configurations(structure, conformers or None):
        for molecule in calculations(part.structure, settings):
            n = n_functions(molecule.numbers, quantum.method.basis)
            cycle = SECONDS_PER_SCF_CYCLE * len(molecule.numbers) * n**2
            n_scf = SCF_CYCLES + HAR_CYCLES * 8
            seconds += n_scf * cycle / quantum.threads
            memory = AUXILIARY_PER_FUNCTION * n * n * (n + 1) / 2 * 8 / 1e6
            kept = "in memory" if memory < quantum.memory_mb else "on disk"
            lines.append(
                f"  {molecule.name()}: {len(molecule.numbers)} atoms, charge "
                f"{molecule.charge:+d}, multiplicity {molecule.multiplicity}, {n} basis functions, "
                f"integrals {memory:.0f} MB {kept} (limit {quantum.memory_mb:.0f} MB)"
            )
    lines.append(f"  about {max(seconds, 10):.0f} s where nothing is in the cache yet")
    return lines
