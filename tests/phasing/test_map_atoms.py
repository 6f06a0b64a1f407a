import numpy as np
import pytest
import torch

# cctbx
from cctbx import crystal, xray

from phai_cctbx.phasing.atom_target import AtomTarget
from phai_cctbx.phasing.map_atoms import APART, atoms_of_map, shares_in_map


def target_and_map(structure):
    """Target of a structure in its reference setting, and its true structure factors to 2 A."""
    f_calc = structure.structure_factors(d_min=2.0, algorithm="direct").f_calc().map_to_asu()
    f_obs = f_calc.as_amplitude_array().set_observation_type_xray_amplitude()
    contents = dict(structure.unit_cell_content().items())
    return AtomTarget(f_obs, contents), f_calc.data().as_numpy_array()


def distances(target, sites, true_sites):
    """From each true site to the nearest image of a site, A."""
    each = [target.distance_to_images(true_sites, site) for site in sites]
    return torch.stack(each).amin(0)


@pytest.mark.parametrize("symbol", ["P -1", "P 1 21/c 1", "P 21 21 21", "C 1 2/c 1", "P 31"])
def test_the_true_map_gives_back_most_atoms(random_crystal, symbol):
    structure, _, _ = random_crystal(symbol, n_atoms=8, d_min=2.0)
    target, f_map = target_and_map(structure)
    sites = atoms_of_map(target, f_map)
    fractions = torch.tensor(structure.sites_frac().as_numpy_array(), dtype=torch.float32)
    off = distances(target, sites, fractions @ target.orthogonalisation.T)
    assert (off < 0.6).sum() >= 5
    for i, site in enumerate(sites[:-1]):
        assert target.distance_to_images(sites[i + 1 :], site).min() > APART - 1e-3


def test_waves_and_images_follow_the_symmetry(random_crystal):
    structure, _, _ = random_crystal("P 41 21 2", n_atoms=4, d_min=2.0)
    target, f_map = target_and_map(structure)
    heaviest_first = sorted(structure.scatterers(), key=lambda s: s.element_symbol() != "O")
    fractions = torch.tensor([s.site for s in heaviest_first], dtype=torch.float32)
    sites = fractions @ target.orthogonalisation.T
    # atoms at rest in the search's way, each times its scattering
    f_calc = (target.waves(sites) * target.factors).sum(1).numpy()
    assert np.corrcoef(np.abs(f_calc), np.abs(f_map))[0, 1] > 0.98
    moved = structure.space_group()(3) * heaviest_first[0].site
    image = torch.tensor(moved, dtype=torch.float32) @ target.orthogonalisation.T
    assert target.distance_to_images(image[None], sites[0]).item() == pytest.approx(0.0, abs=1e-3)


def test_whole_atoms_are_seen_to_be_halves():
    symmetry = crystal.symmetry((6.1, 7.3, 9.2, 80, 97, 105), "P -1")
    structure = xray.structure(crystal_symmetry=symmetry)
    for element, site in (
        ("Ag", (0, 0, 0)),
        ("Ag", (0.5, 0.5, 0)),
        ("Cl", (0.3, 0.15, 0.31)),
        ("C", (0.7, 0.25, 0.4)),
        ("C", (0.62, 0.4, 0.33)),
    ):
        structure.add_scatterer(xray.scatterer(element, site=site, u=0.03))
    target, f_map = target_and_map(structure)
    assert target.shares == [1.0] * 4
    elements, shares = shares_in_map(target, f_map)
    assert elements == ["Ag", "Ag", "Cl", "C", "C"]
    assert shares == pytest.approx([0.5, 0.5, 1.0, 1.0, 1.0])
    halves = AtomTarget(target.f_obs, {"Ag": 2, "Cl": 2, "C": 4}, atoms=(elements, shares))
    fractions = atoms_of_map(halves, f_map) @ halves.fractionalisation.T
    silver = [tuple(np.round(site, 4) % 1.0) for site in fractions[:2].tolist()]
    assert sorted(silver) == [(0.0, 0.0, 0.0), (0.5, 0.5, 0.0)]
