"""How close atoms of neighbouring molecules come in crystals.

Van der Waals radii less a little, with exceptions for hydrogen bonds and for the first neighbours
of metal ions.
"""

from __future__ import annotations

import numpy as np

from phai_cctbx.training.elements import COVALENT_RADII, VAN_DER_WAALS_RADII
from phai_cctbx.training.molecules import Molecule, bonds

#: Contacts in crystals begin below the sum of the van der Waals radii (Rowland & Taylor, J. Phys.
#: Chem. 100 (1996) 7384).
VAN_DER_WAALS_SHARE = 0.96
#: H...acceptor and donor...acceptor distances of ordinary hydrogen bonds, A (Taylor & Kennard,
#: Acc. Chem. Res. 17 (1984) 320), for acceptors of the second and of later periods.
HYDROGEN_BOND, DONOR_ACCEPTOR = 1.85, 2.75
HYDROGEN_BOND_LARGE, DONOR_ACCEPTOR_LARGE = 2.35, 3.15
#: Metal ions keep off each other and off hydrogens, A.
METAL_METAL, METAL_HYDROGEN = 3.4, 2.4
ACCEPTORS = (7, 8, 9, 16, 17, 34, 35, 53)
ALKALI = (3, 11, 19, 37, 55)


def contact_distances(molecules: list[Molecule]) -> np.ndarray:
    """Contact distances of all pairs of atoms of some bodies, were they in different molecules.

    Returns
    -------
    ndarray, shape (a, a)
        A.
    """
    numbers = np.concatenate([m.atomic_numbers for m in molecules])
    polar, donor, bare = [], [], []
    for molecule in molecules:
        bonded = bonds(molecule.atomic_numbers, molecule.coordinates)
        hydrogen = molecule.atomic_numbers == 1
        electronegative = np.isin(molecule.atomic_numbers, (7, 8))
        polar.append(hydrogen & (bonded & electronegative[None]).any(axis=1))
        donor.append(electronegative & (bonded & hydrogen[None]).any(axis=1))
        single = len(molecule.atomic_numbers) == 1
        bare.append(np.full(len(molecule.atomic_numbers), single) & ~np.isin(
            molecule.atomic_numbers, ACCEPTORS))
    polar, donor, bare = (np.concatenate(x) for x in (polar, donor, bare))
    acceptor = np.isin(numbers, ACCEPTORS)
    radii = VAN_DER_WAALS_RADII[numbers]
    contact = VAN_DER_WAALS_SHARE * (radii[:, None] + radii[None])

    def allow(first: np.ndarray, second: np.ndarray, distance: float) -> None:
        pairs = first[:, None] & second[None]
        pairs |= pairs.T
        contact[pairs] = np.minimum(contact[pairs], distance)

    small = acceptor & (numbers < 10)
    allow(polar, small, HYDROGEN_BOND)
    allow(donor, small, DONOR_ACCEPTOR)
    allow(polar, acceptor & ~small, HYDROGEN_BOND_LARGE)
    allow(donor, acceptor & ~small, DONOR_ACCEPTOR_LARGE)
    if bare.any():
        covalent = COVALENT_RADII[numbers][:, None] + COVALENT_RADII[numbers][None]
        to_metal = bare[:, None] ^ bare[None]
        contact[to_metal] = covalent[to_metal]
        hydrogen_to_metal = to_metal & ((numbers == 1)[:, None] | (numbers == 1)[None])
        contact[hydrogen_to_metal] = METAL_HYDROGEN
        contact[bare[:, None] & bare[None]] = METAL_METAL
    return contact
