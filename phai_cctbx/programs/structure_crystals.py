"""A user's own structures as crystals to train on: CIF files -> `Crystal`."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

# cctbx
import iotbx.cif
from cctbx import xray
from cctbx.eltbx import tiny_pse
from libtbx.utils import Sorry

from phai_cctbx.phasing.normalisation import reference_operator
from phai_cctbx.training.crystals import Crystal

logger = logging.getLogger(__name__)

#: Structures with fewer atoms in the asymmetric unit teach nothing.
FEWEST_ATOMS = 2


def crystal_of(structure: xray.structure) -> Crystal:
    """A structure in the reference setting of its group, displacements made isotropic."""
    structure = structure.change_basis(reference_operator(structure))
    scatterers = structure.scatterers()
    return Crystal(
        number=structure.space_group_info().type().number(),
        unit_cell=np.array(structure.unit_cell().parameters()),
        sites=np.array(scatterers.extract_sites()),
        atomic_numbers=np.array(
            [tiny_pse.table(s.element_symbol()).atomic_number() for s in scatterers]
        ),
        occupancies=np.array([s.weight() for s in scatterers]),
        u_iso=scatterers.extract_u_iso_or_u_equiv(structure.unit_cell()).as_numpy_array(),
    )


def read_structures(folder: Path) -> list[Crystal]:
    """The crystals of all CIF files of a folder; those without atoms are named in the log.

    Raises
    ------
    libtbx.utils.Sorry
        If the folder has no CIF file, or none with atoms.
    """
    paths = sorted(folder.glob("*.cif"))
    if not paths:
        raise Sorry(f"structures={folder}: no .cif files there.")
    crystals = []
    for path in paths:
        try:
            structures = iotbx.cif.reader(file_path=str(path)).build_crystal_structures()
        except (Sorry, RuntimeError, ValueError, KeyError, AssertionError) as error:
            logger.warning("%s: left out, cannot be read (%s)", path, str(error).strip()[:100])
            continue
        usable = [s for s in structures.values() if s.scatterers().size() >= FEWEST_ATOMS]
        if not usable:
            logger.warning("%s: left out, no atoms", path)
        crystals += [crystal_of(structure) for structure in usable]
    if not crystals:
        raise Sorry(f"structures={folder}: none of {len(paths)} .cif files holds atoms.")
    logger.info("%s: %d structures of %d files", folder, len(crystals), len(paths))
    return crystals
