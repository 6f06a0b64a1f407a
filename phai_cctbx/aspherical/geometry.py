"""Conformers of a molecule relaxed by quantum chemistry in the worker process.

A continuum of high permittivity (C-PCM; Barone & Cossi, J. Phys. Chem. A 102, 1995, 1998) stands
for the crystal around it, so that zwitterions keep their charges.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np

# cctbx
from libtbx.utils import Sorry

from phai_cctbx.aspherical.quantum import Quantum
from phai_cctbx.building.connectivity import atomic_number
from phai_cctbx.building.molecule import Molecule, superposition_rmsd

logger = logging.getLogger(__name__)

N_RELAXED = 3
"""Conformers that are relaxed, those of lowest energy by the force field; the others, and the
foldings of rings, keep its geometry."""

MAX_ATOMS = 60
"""Hydrogens included: a relaxation of more takes hours."""


def relaxed(molecule: Molecule, quantum: Quantum) -> Molecule:
    """The molecule with its conformers of lowest energy relaxed.

    Parameters
    ----------
    molecule : Molecule
    quantum : Quantum
        Method, basis, cache and threads.

    Raises
    ------
    libtbx.utils.Sorry
        If the molecule is too large, has unpaired electrons, or the calculation fails.
    """
    if len(molecule.elements) < 3:
        return molecule
    if len(molecule.elements) > MAX_ATOMS:
        raise Sorry(
            f"geometry=qm: {molecule.name} has {len(molecule.elements)} atoms, at most {MAX_ATOMS}"
            " are relaxed. Use geometry=mmff."
        )
    numbers = [atomic_number(element) for element in molecule.elements]
    conformers = list(molecule.conformers)
    for k, sites in enumerate(conformers[:N_RELAXED]):
        name = f"geometry of {molecule.name}, conformer {k + 1}"
        found = quantum.geometry(numbers, sites, molecule.charge, name)
        moved = superposition_rmsd(found.coordinates[molecule.heavy], sites[molecule.heavy])
        logger.info(
            "%s: %s in %d steps, non-hydrogen atoms moved by %.3f A",
            name,
            "relaxed" if found.converged else "not relaxed to the end",
            found.n_steps,
            moved,
        )
        conformers[k] = found.coordinates - found.coordinates[molecule.heavy].mean(axis=0)
    return replace(molecule, conformers=np.array(conformers))
