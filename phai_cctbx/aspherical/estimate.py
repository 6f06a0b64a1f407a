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

FIRST_SCF_CYCLES, NEXT_SCF_CYCLES = 16, 9
"""Typical SCF cycles from the first guess, and from the density of the cycle before; cycles on
the coarse grid count."""

STAGE_CYCLES = 6
"""What fitted integrals, field of the neighbours and partition take, in SCF cycles."""

HAR_CYCLES = 5
"""Typical cycles of the refinement."""

SECONDS_PER_SCF_CYCLE = 1.5e-6
"""Processor seconds per SCF cycle, atom and squared basis function (density fitting; measured
on L-alanine and sucrose, 13 and 45 atoms)."""

SECONDS_PER_PROCESS = 3.0
"""Start of a worker process, of which a cycle of the refinement has two for each molecule."""

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
            n_cycles = FIRST_SCF_CYCLES + (HAR_CYCLES - 1) * NEXT_SCF_CYCLES
            n_cycles += HAR_CYCLES * STAGE_CYCLES
            seconds += n_cycles * cycle / quantum.threads + 2 * HAR_CYCLES * SECONDS_PER_PROCESS
            memory = AUXILIARY_PER_FUNCTION * n * n * (n + 1) / 2 * 8 / 1e6
            kept = "in memory" if memory < quantum.memory_mb else "on disk"
            lines.append(
                f"  {molecule.name()}: {len(molecule.numbers)} atoms, charge "
                f"{molecule.charge:+d}, multiplicity {molecule.multiplicity}, {n} basis functions, "
                f"integrals {memory:.0f} MB {kept} (limit {quantum.memory_mb:.0f} MB)"
            )
    lines.append(f"  about {seconds:.0f} s where nothing is in the cache yet")
    return lines
