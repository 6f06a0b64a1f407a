"""Fragments are found where a map shows them, and not where chance does."""

import numpy as np
import pytest

# cctbx
from cctbx import crystal, miller, sgtbx, xray
from cctbx.array_family import flex

from phai_cctbx.building.fragment_library import fragments_for
from phai_cctbx.building.fragment_placement import control_maps, place_fragments
from phai_cctbx.building.molecule import read_molecules

pytest.importorskip("rdkit")

CONTENTS = {"C": 8.0, "O": 1.0, "N": 1.0}


@pytest.fixture(scope="module")
def acetanilide():
    """A crystal of acetanilide to 2 A: structure and structure factors."""
    symmetry = crystal.symmetry((9.8, 7.6, 11.2, 90, 104, 90), "P 1 21/c 1")
    (molecule,) = read_molecules("CC(=O)Nc1ccccc1")
    structure = xray.structure(crystal_symmetry=symmetry)
    for i in molecule.heavy:
        site = molecule.conformers[0][i] + [2.9, 1.9, 3.1]
        structure.add_scatterer(
            xray.scatterer(
                f"{molecule.elements[i]}{i}",
                site=symmetry.unit_cell().fractionalize(tuple(site)),
                u=0.04,
                scattering_type=molecule.elements[i],
            )
        )
    structure.scattering_type_registry(table="it1992")
    reflections = miller.build_set(symmetry, anomalous_flag=False, d_min=2.0)
    f_calc = reflections.structure_factors_from_scatterers(structure, algorithm="direct").f_calc()
    return structure, f_calc


def _placed(f_phased):
    sure = f_phased.customized_copy(data=flex.double(f_phased.size(), 1.0))
    wanted = {"benzene ring", "pyridine", "cyclohexane, chair", "secondary amide", "isopropyl"}
    fragments = [item for item in fragments_for(CONTENTS) if item[0] in wanted]
    return place_fragments(f_phased, sure, fragments, CONTENTS)


def test_the_ring_of_acetanilide_is_found(acetanilide):
    """Within a third of the resolution: fragments are not refined."""
    structure, f_calc = acetanilide
    placed = _placed(f_calc)
    (ring,) = [each for each in placed if each.name == "benzene ring"]
    true = list(structure.scatterers())[-6:]
    for site in ring.sites:
        equivalents = sgtbx.sym_equiv_sites(
            structure.space_group(),
            structure.unit_cell().fractionalize(tuple(site)),
            structure.unit_cell(),
        )
        assert (
            min(sgtbx.min_sym_equiv_distance_info(equivalents, s.site).dist() for s in true) < 0.6
        )
    assert ring.significance > 3


def test_random_phases_show_nothing(acetanilide):
    _, f_calc = acetanilide
    assert _placed(control_maps(f_calc, seed=5)[2]) == []


def test_controls_keep_amplitudes_and_the_phases_that_symmetry_allows(acetanilide):
    _, f_calc = acetanilide
    inverted, *random = control_maps(f_calc, seed=1)
    assert np.allclose((-inverted.data()).as_numpy_array(), f_calc.data().as_numpy_array())
    for each in random:
        assert np.allclose(abs(each).data().as_numpy_array(), abs(f_calc).data().as_numpy_array())
        turns = np.angle(each.data().as_numpy_array() / f_calc.data().as_numpy_array())
        assert np.allclose(np.sin(turns), 0, atol=1e-6)  # P 21/c: all phases are restricted
