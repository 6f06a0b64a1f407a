"""Two-part disorder of simulated crystals: found where it is, not where it is not."""

from io import StringIO

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

# cctbx
import smtbx.utils
from cctbx import adptbx, crystal, miller, xray
from cctbx.array_family import flex
from iotbx.shelx import parse_smtbx_refinement_model
from smtbx.refinement import constraints

from phai_cctbx.building.connectivity import HYDROGENS, bonds, element_of
from phai_cctbx.building.disorder import DisorderedGroup, parts, split
from phai_cctbx.refinement.difference_atoms import place_hydrogens
from phai_cctbx.refinement.disorder import model_disorder
from phai_cctbx.refinement.full_refinement import update_weights
from phai_cctbx.refinement.parts import same_distances, with_shared_occupancies
from phai_cctbx.refinement.riding import CovalentBonds
from phai_cctbx.refinement.trial_model import TrialModel
from phai_cctbx.refinement.verdict import bonded_share

#: Cell and orientation leave the molecules apart.
SYMMETRY = crystal.symmetry((7.9, 10.2, 10.8, 90, 98, 90), "P 1 21/c 1")
CENTRE = np.array([0.32, 3.84, 1.29])
#: Rotation vector, radians.
ORIENTATION = np.array([-2.617, 0.27, -0.614])
BOND = 1.39


def _fluorines(azimuth):
    """Three F of a trifluoromethyl group on the C atom at (2.89, 0, 0)."""
    angles = np.radians(azimuth + np.array([0, 120, 240]))
    return [np.array([2.89 + 0.45, 1.25 * np.cos(a), 1.25 * np.sin(a)]) for a in angles]


def _toluene(azimuths):
    """Trifluorotoluene: (label, element, Cartesian site, part) with CF3 at one or two azimuths."""
    atoms = []
    for k in range(6):
        direction = np.array([np.cos(k * np.pi / 3), np.sin(k * np.pi / 3), 0])
        atoms.append((f"C{k + 1}", "C", BOND * direction, 0))
        if k:
            atoms.append((f"H{k + 1}", "H", (BOND + 0.95) * direction, 0))
    atoms.append(("C7", "C", np.array([2.89, 0, 0]), 0))
    for part, azimuth in enumerate(azimuths, start=1):
        for k, site in enumerate(_fluorines(azimuth)):
            atoms.append((f"F{k + 1}{'B' if part == 2 else ''}", "F", site, part))
    return atoms


def _structure(atoms, occupancy=1.0, u_iso=0.03):
    structure = xray.structure(crystal_symmetry=SYMMETRY)
    tilt = Rotation.from_rotvec(ORIENTATION).as_matrix()
    for label, element, site, part in atoms:
        structure.add_scatterer(
            xray.scatterer(
                label,
                site=SYMMETRY.unit_cell().fractionalize(tuple(tilt @ site + CENTRE)),
                u=u_iso * (1.2 if element == "H" else 1.0),
                occupancy=(1.0, occupancy, 1 - occupancy)[part],
                scattering_type=element,
            )
        )
    structure.scattering_type_registry(table="it1992")
    return structure


def _data(structure, seed=0):
    """Intensities to 0.84 A with errors of 3 % and 1 % of the mean."""
    f_calc = (
        miller.build_set(structure, False, 0.84)
        .structure_factors_from_scatterers(structure, algorithm="direct")
        .f_calc()
    )
    exact = flex.norm(f_calc.data()).as_numpy_array()
    sigmas = np.hypot(0.03 * exact, 0.01 * exact.mean())
    noisy = exact + np.random.default_rng(seed).normal(0, sigmas)
    return f_calc.customized_copy(
        data=flex.double(noisy), sigmas=flex.double(sigmas)
    ).set_observation_type_xray_intensity()


def _ordered_model(truth):
    """The model with the first part alone, refined with anisotropic atoms and hydrogens."""
    model = TrialModel(_data(truth), None, "xray", None)
    start = _structure([atom for atom in _toluene([0.0]) if atom[1] != "H"])
    start.convert_to_anisotropic()
    model.structure = start
    model.refine("start", n_cycles=8)
    place_hydrogens(model)
    model.refine("hydrogens", n_cycles=8)
    update_weights(model)
    model.refine("weights", n_cycles=8)
    return model


@pytest.fixture(scope="module")
def disordered():
    """Trifluoromethyl turned by 60 degrees in three of ten molecules, modelled."""
    model = _ordered_model(_structure(_toluene([0.0, 60.0]), 0.7))
    before = model.result
    model_disorder(model)
    return model, before


def test_a_turned_group_gets_two_parts(disordered):
    model, before = disordered
    (group,) = model.disorder
    scatterers = model.structure.scatterers()
    assert sorted(scatterers[i].label for i, _ in group.pairs) == ["F1", "F2", "F3"]
    assert group.occupancy == pytest.approx(0.7, abs=5 * group.esd)
    assert group.esd < 0.01
    assert all(scatterers[i].occupancy == group.occupancy for i in group.first)
    assert all(scatterers[j].occupancy == pytest.approx(1 - group.occupancy) for j in group.second)
    assert model.result.r1 < before.r1 / 2
    truth = _structure([("F", "F", site, 0) for site in _fluorines(60.0)])
    distances = [
        min(
            SYMMETRY.unit_cell().distance(scatterers[j].site, other.site)
            for other in truth.scatterers()
        )
        for _, j in group.pairs
    ]
    assert max(distances) < 0.05


def test_two_sets_of_whole_atoms_become_parts():
    """Both places of a CF3 group were found as atoms of full weight, of wrong elements."""
    truth = _structure(_toluene([0.0, 60.0]), 0.6)
    composition = {"C": 28, "H": 20, "F": 12}
    model = TrialModel(_data(truth), composition, "xray", None)
    atoms = [atom for atom in _toluene([0.0, 60.0]) if atom[1] != "H"]
    elements = {"F1B": "C", "F2B": "N", "F3B": "C"}
    start = _structure([(label, elements.get(label, e), xyz, 0) for label, e, xyz, _ in atoms])
    start.convert_to_anisotropic()
    model.structure = start
    model.refine("start", n_cycles=8)
    model_disorder(model)
    (group,) = model.disorder
    scatterers = model.structure.scatterers()
    assert len(group.pairs) == 3
    assert {element_of(scatterers[i]) for pair in group.pairs for i in pair} == {"F"}
    assert group.occupancy == pytest.approx(0.6, abs=5 * group.esd)


def test_parts_are_not_bonded_to_one_another(disordered):
    model, _ = disordered
    (group,) = model.disorder
    part = model.parts
    for i, near in enumerate(bonds(model.structure, part)):
        assert all({part[i], part[n.index]} != {1, 2} for n in near)
    pairs = {(i, j) for i, j, _ in CovalentBonds(model.structure, part).pairs}
    assert not pairs & {(i, j) for i in group.first for j in group.second}
    assert bonded_share(model.structure, part) == 1.0


def test_distances_of_the_parts_are_the_same(disordered):
    model, _ = disordered
    sites = np.array(model.structure.sites_cart())
    same = same_distances(model.structure, model.disorder)
    labels = [scatterer.label for scatterer in model.structure.scatterers()]
    assert {labels[i] for i, j, k, m, _ in same} >= {"F1", "F2", "F3"}
    for i, j, k, m, sigma in same:
        first, second = (np.linalg.norm(sites[a] - sites[b]) for a, b in ((i, j), (k, m)))
        assert first == pytest.approx(second, abs=4 * sigma)


@pytest.mark.parametrize("libration", [0.0, 0.08])
def test_an_ordered_group_stays_whole(libration):
    truth = _structure(_toluene([0.0]))
    if libration:  # tangential, about the C-C bond
        unit_cell = truth.unit_cell()
        labels = {s.label: i for i, s in enumerate(truth.scatterers())}
        sites = np.array(truth.sites_cart())
        axis = sites[labels["C7"]] - sites[labels["C1"]]
        for name in ("F1", "F2", "F3"):
            scatterer = truth.scatterers()[labels[name]]
            tangent = np.cross(axis, sites[labels[name]] - sites[labels["C7"]])
            tangent /= np.linalg.norm(tangent)
            tensor = 0.03 * np.eye(3) + libration * np.outer(tangent, tangent)
            u_cart = tuple(tensor[[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]])
            scatterer.u_star = adptbx.u_cart_as_u_star(unit_cell, u_cart)
            scatterer.flags.set_use_u_aniso_only()
    model = _ordered_model(truth)
    before = model.structure.scatterers().size()
    model_disorder(model)
    assert model.disorder == []
    assert model.structure.scatterers().size() == before


def test_split_doubles_hydrogens_and_keeps_those_beside():
    """A methyl group moves with its atom; hydrogens of the atoms beside it stay, in part 1."""
    model = _ordered_model(_structure(_toluene([0.0])))
    structure, riding = model.structure, model.riding
    labels = {s.label: i for i, s in enumerate(structure.scatterers())}
    moved = structure.unit_cell().orthogonalize(structure.scatterers()[labels["C3"]].site)
    second = {
        labels["C3"]: structure.unit_cell().fractionalize((moved[0], moved[1], moved[2] + 0.6))
    }
    new, groups, group, number = split(structure, riding, second, 0.8, lambda site: 0.0)
    assert len(group.pairs) == 1 and len(group.first) == len(group.second) == 2
    scatterers = new.scatterers()
    assert [scatterers[i].occupancy for i in group.second] == pytest.approx([0.2, 0.2])
    assert len({s.label for s in scatterers}) == scatterers.size()
    assert {element_of(scatterers[i]) for i in group.beside} <= HYDROGENS and group.beside
    assert all(scatterers[i].occupancy == 1 for i in group.beside)
    assert len(groups) == len(riding) + 1
    for old, i in labels.items():
        assert scatterers[number[i]].label == old


def test_parts_of_scatterers():
    group = DisorderedGroup(((1, 3),), (1, 2), (3, 4), (5,), 0.7)
    assert parts(7, [group]) == [0, 1, 1, 2, 2, 1, 0]
    assert parts(2, []) == [0, 0]


RES = """TITL two parts
CELL 0.71073 7 8 9 90 95 90
ZERR 4 .001 .001 .001 0 .01 0
LATT 1
SYMM -X,0.5+Y,0.5-Z
SFAC C
UNIT 16
WGHT 0.1
FVAR 1.0 0.7
PART 1
C1 1 0.1 0.1 0.1 21.0 0.03
C2 1 0.25 0.1 0.1 21.0 0.03
PART 2
C1A 1 0.1 0.15 0.15 -21.0 0.03
C2A 1 0.25 0.17 0.17 -21.0 -1.0
PART 0
HKLF 4
END
"""


def test_free_variables_of_a_res_tie_the_parts():
    """smtbx alone makes 0.7 of the occupancy of C2A (cctbx-base 2025.11)."""
    builder = parse_smtbx_refinement_model(file=StringIO(RES), strictly_shelxl=False)
    structure = builder.structure
    for scatterer in structure.scatterers():
        scatterer.flags.set_grad_site(True).set_grad_u_iso(True)
    reparametrisation = constraints.reparametrisation(
        structure,
        with_shared_occupancies(builder.constraints),
        smtbx.utils.connectivity_table(structure),
    )
    reparametrisation.linearise()
    reparametrisation.store()
    occupancies = [scatterer.occupancy for scatterer in structure.scatterers()]
    assert occupancies == pytest.approx([0.7, 0.7, 0.3, 0.3])
