import numpy as np
import pytest
import torch

# cctbx
from cctbx import crystal, miller
from cctbx.array_family import flex

from phai_cctbx.phasing.atom_target import END_OF_CHAIN, AtomTarget, sought_atoms
from phai_cctbx.phasing.normalisation import to_reference_setting

GROUPS = ("P -1", "P 1 21/c 1", "P 21 21 21", "C 1 2/c 1", "P 31", "R -3 :H", "I -4")


def target_of(crystal):
    """Target, Cartesian sites in its setting, and the true structure factors there."""
    structure, f_obs, _ = crystal
    reference, operator = to_reference_setting(f_obs)
    structure = structure.change_basis(operator)
    composition = dict(structure.unit_cell_content().items())
    target = AtomTarget(reference, composition)
    heaviest_first = sorted(structure.scatterers(), key=lambda s: s.element_symbol() != "O")
    sites = torch.tensor([s.site for s in heaviest_first], dtype=torch.float32)
    f_calc = reference.structure_factors_from_scatterers(structure, algorithm="direct").f_calc()
    return target, (sites @ target.orthogonalisation.T)[None], f_calc


@pytest.mark.parametrize("symbol", GROUPS)
def test_true_atoms_explain_the_amplitudes_in_every_kind_of_group(random_crystal, symbol):
    target, sites, f_calc = target_of(random_crystal(symbol, n_atoms=8, d_min=2.0))
    u_iso = torch.full((1,), 0.03)
    calculated = target.calculated(sites, torch.zeros(1, target.n_atoms), u_iso)
    assert calculated.r1.item() < 1e-3
    truth = f_calc.data().as_numpy_array()
    assert np.abs(calculated.f_calc[0].numpy() - truth).max() < 2e-3 * np.abs(truth).max()
    wrong = target.calculated(sites.flip(2), torch.zeros(1, target.n_atoms), u_iso)
    assert wrong.r1.item() > 0.2


@pytest.mark.parametrize("symbol", GROUPS)
def test_the_gradient_is_that_of_the_target(random_crystal, symbol):
    target, sites, _ = target_of(random_crystal(symbol, n_atoms=8, d_min=2.0))
    generator = torch.Generator().manual_seed(0)
    # disturbed so that atoms overlap, stand in the gap and are lonely
    sites = sites + 0.4 * torch.randn(sites.shape, generator=generator)
    for name, value in vars(target).items():
        if torch.is_tensor(value) and value.dtype == torch.float32:
            setattr(target, name, value.double())
    sites = sites.double()
    direction = torch.randn(sites.shape, generator=generator, dtype=torch.float64)
    step = 1e-5 * direction
    for function in (target, target.geometry):
        gradient = function(sites)[1]
        slope = (function(sites + step)[0] - function(sites - step)[0]) / 2e-5
        assert slope.item() != 0.0
        assert (gradient * direction).sum().item() == pytest.approx(slope.item(), rel=1e-4)


def test_geometry_tells_molecules_from_heaps_of_atoms(random_crystal):
    target, sites, _ = target_of(random_crystal("P -1", n_atoms=8, d_min=2.0))
    n = target.n_atoms
    chain = torch.zeros(1, n, 3)
    chain[0, :, 0] = 0.6 + 1.25 * torch.arange(n)  # 1.45 A apart, angles of 120 degrees
    chain[0, ::2, 1] = 0.73
    isolated = AtomTarget(
        target.f_obs.customized_copy(
            unit_cell=(40, 40, 40, 90, 90, 90), space_group_info=target.f_obs.space_group_info()
        ),
        {"C": 10, "O": 6},
    )
    heap = chain * torch.tensor([0.5, 1.0, 1.0])
    spread = chain * torch.tensor([2.0, 1.0, 1.0])
    assert isolated.geometry(chain + 5.0, ends=False)[0].item() < 0.01
    # one of the two ends is a carbon atom
    with_ends = isolated.geometry(chain + 5.0)[0].item()
    assert with_ends == pytest.approx(END_OF_CHAIN / n, abs=0.01)
    assert isolated.geometry(heap + 5.0)[0].item() > 0.1
    assert isolated.geometry(spread + 5.0)[0].item() > 0.05


def test_atoms_of_special_positions_have_the_share_that_is_left():
    assert sought_atoms({"C": 8, "H": 30, "Fe": 2, "O": 4.1}, 4) == (
        ["Fe", "O", "C", "C"],
        [0.5, 1.0, 1.0, 1.0],
    )
    assert sought_atoms({"H": 8}, 4) == ([], [])


def test_atoms_with_a_share_lie_on_the_positions_that_have_it():
    symmetry = crystal.symmetry((5.6, 5.6, 4.7, 90, 90, 90), "P -4 21 m")
    indices = miller.build_set(symmetry, anomalous_flag=False, d_min=2.0)
    f_obs = indices.array(data=flex.double(indices.size(), 1.0))
    target = AtomTarget(f_obs, {"C": 2, "O": 2, "N": 4, "H": 8})
    assert target.elements == ["O", "N", "C"]
    assert target.n_coordinates == 4  # 2c of O and C: z, 4e of N: x and z
    settings = symmetry.special_position_settings(min_distance_sym_equiv=1e-3)
    generator = torch.Generator().manual_seed(0)
    sites = target.random_sites(200, generator)
    moved = target.on_positions(sites + 0.1 * torch.randn(sites.shape, generator=generator))
    for places in (sites, moved):
        for atom, multiplicity in ((0, 2), (1, 4), (2, 2)):
            fractions = places[:, atom] @ target.fractionalisation.T
            found = {settings.site_symmetry(tuple(x)).multiplicity() for x in fractions.tolist()}
            assert found == {multiplicity}
    assert torch.allclose(target.on_positions(moved), moved, atol=1e-5)


def test_hydrogens_add_to_the_atoms_that_carry_them(random_crystal):
    _, f_obs, _ = random_crystal("P -1", n_atoms=8, d_min=2.0)
    reference = to_reference_setting(f_obs)[0]
    assert isinstance(reference, miller.array)
    sites = torch.zeros(1, 8, 3)
    weights, u_iso = torch.zeros(1, 8), torch.zeros(1)

    def share_of_low_angles(composition):
        target = AtomTarget(reference, composition)
        f_calc = target.calculated(sites, weights, u_iso).f_calc[0].abs()
        order = np.argsort(reference.d_star_sq().data().as_numpy_array())
        return (f_calc[order[0]] / f_calc[order[-1]]).item()

    assert share_of_low_angles({"C": 10, "O": 6, "H": 20}) > share_of_low_angles({"C": 10, "O": 6})
