"""Structure factors and normalised amplitudes of artificial crystals, against cctbx."""

from dataclasses import replace

import numpy as np
import pytest

import phai_cctbx  # noqa: F401  (Boost before torch)

torch = pytest.importorskip("torch")

# cctbx
from cctbx import crystal, miller, sgtbx, xray  # noqa: E402
from cctbx.array_family import flex  # noqa: E402

from phai_cctbx.network.alignment import map_correlation  # noqa: E402
from phai_cctbx.network.normalisation import NOT_MEASURED  # noqa: E402
from phai_cctbx.training.crystals import Crystal  # noqa: E402
from phai_cctbx.training.diffraction import (  # noqa: E402
    CALCULATED_2A,
    Experiment,
    collate,
    diffract,
    measured,
    polarised,
    structure_factors,
)
from phai_cctbx.training.elements import CHARGE, SYMBOLS  # noqa: E402

CELLS = {
    2: (6.2, 7.0, 7.7, 80, 95, 102), 14: (7.1, 6.3, 8.2, 90, 100, 90),
    15: (11.0, 6.3, 9.2, 90, 104, 90), 19: (6.0, 7.4, 8.8, 90, 90, 90),
    33: (9.0, 7.4, 6.8, 90, 90, 90), 146: (10.1, 10.1, 8.8, 90, 90, 120),
}  # fmt: skip


def artificial(number, seed=0):
    rng = np.random.default_rng(seed)
    return Crystal(
        number, np.array(CELLS[number], float), rng.random((4, 3)), np.array([6, 7, 8, 17]),
        np.array([1.0, 0.5, 1.0, 1.0]), np.array([0.02, 0.03, 0.05, 0.04]),
    )  # fmt: skip


def in_cctbx(artificial_crystal, hkl):
    symmetry = crystal.symmetry(
        unit_cell=artificial_crystal.unit_cell.tolist(),
        space_group_info=sgtbx.space_group_info(number=artificial_crystal.number),
    )
    structure = xray.structure(crystal_symmetry=symmetry)
    c = artificial_crystal
    for z, site, q, u in zip(c.atomic_numbers, c.sites, c.occupancies, c.u_iso, strict=True):
        structure.add_scatterer(
            xray.scatterer(label=SYMBOLS[z], site=site.tolist(), u=u, occupancy=q)
        )
    structure.scattering_type_registry(table="it1992")
    indices = flex.miller_index([tuple(int(i) for i in h) for h in hkl])
    f = miller.set(symmetry, indices, anomalous_flag=False).structure_factors_from_scatterers(
        structure, algorithm="direct"
    )
    return f.f_calc().data().as_numpy_array()


@pytest.mark.parametrize("number", sorted(CELLS))
def test_structure_factors_are_those_of_cctbx(number):
    chosen = artificial(number)
    batch = collate([chosen], CALCULATED_2A, 3.0, np.random.default_rng(0))
    found = structure_factors(batch)[0].numpy()
    expected = in_cctbx(chosen, batch.hkl[0].numpy())
    n_centring = {15: 2, 146: 3}.get(number, 1)
    parts = [found[0], found[1] if len(found) == 2 else np.zeros_like(found[0])]
    value = (parts[0] + 1j * parts[1]) * n_centring
    assert np.abs(value - expected).max() < 1e-3 * np.abs(expected).max()


def test_calculated_experiment_changes_nothing():
    batch = collate([artificial(14)], CALCULATED_2A, 3.0, np.random.default_rng(0))
    found = diffract(batch, CALCULATED_2A, torch.Generator().manual_seed(0))
    amplitude_sq = structure_factors(batch).square().sum(1)
    torch.testing.assert_close(found.f_sq, amplitude_sq, rtol=1e-4, atol=1e-4)
    assert map_correlation(
        found.phase_factor, found.phase_factor, found.f_sq, batch
    ).item() == pytest.approx(1.0, abs=1e-5)


def test_missing_reflections_stay_within_the_share():
    rng = np.random.default_rng(0)
    hkl = rng.integers(-8, 9, (400, 3))
    hkl = hkl[(hkl != 0).any(1)]
    inverse_d = np.linalg.norm(hkl, axis=1) / 10.0
    for _ in range(40):
        assert measured(hkl, inverse_d, 0.3, rng).mean() > 0.6


@pytest.mark.parametrize("complete", [0.0, 0.5, 1.0])
def test_a_share_of_the_crystals_is_complete(complete):
    experiment = replace(CALCULATED_2A, missing=0.3, complete=complete)
    batch = collate([artificial(14)] * 200, experiment, 3.0, np.random.default_rng(0))
    nothing_missing = (batch.measured == batch.mask).all(1).float().mean().item()
    # below the beam stop a few may be missing where none is at random
    assert 0.7 * complete - 0.1 < nothing_missing < complete + 0.1


def test_overloads_are_the_strongest_reflections():
    batch = collate([artificial(14)] * 200, CALCULATED_2A, 3.0, np.random.default_rng(0))
    saturated = Experiment((2.0, 2.0), missing=0.0, noise=0.0, strain=0.0, overloads=0.15)
    found = diffract(batch, saturated, torch.Generator().manual_seed(0))
    lost = batch.mask.bool() & ~found.batch.measured.bool()
    share = lost.sum(1) / batch.mask.sum(1)
    assert 0.5 < (share == 0.0).float().mean() < 0.9 and 0.1 < share.max() < 0.16
    amplitude = structure_factors(batch).square().sum(1).sqrt()
    assert amplitude[lost].mean() > 1.5 * amplitude[batch.mask.bool()].mean()
    assert (found.e_value[lost] == NOT_MEASURED).all() and found.f_sq[lost].abs().max() == 0.0
    gone = diffract(batch, replace(saturated, fills_in=False), torch.Generator().manual_seed(0))
    assert torch.equal(gone.batch.mask, gone.batch.measured)
    assert torch.equal(gone.batch.measured, found.batch.measured)
    assert gone.e_value[lost].abs().max() == gone.f_sq_all[lost].abs().max() == 0.0


def test_absent_reflections_take_part_without_an_amplitude():
    incomplete = Experiment((2.0, 2.0), missing=0.4, noise=0.0, strain=0.0, overloads=0.0)
    crystals = [artificial(14)] * 40
    batch = collate(crystals, incomplete, 3.0, np.random.default_rng(0))
    complete = collate(crystals, CALCULATED_2A, 3.0, np.random.default_rng(0))
    assert torch.equal(batch.hkl, complete.hkl) and torch.equal(batch.mask, complete.mask)
    share = 1.0 - batch.measured.sum(1) / batch.mask.sum(1)
    assert share.max() > 0.3 and (share == 0.0).any()
    found = diffract(batch, incomplete, torch.Generator().manual_seed(0))
    absent = batch.mask.bool() & ~batch.measured.bool()
    assert (found.e_value[absent] == NOT_MEASURED).all() and (found.f_sq[absent] == 0.0).all()
    true = structure_factors(complete).square().sum(1)
    torch.testing.assert_close(found.f_sq_all, true, rtol=1e-4, atol=1e-4)
    present = batch.measured.bool()
    assert (found.e_value[present] > 0.0).all()
    mean_square = (found.e_value.square() * present).sum(1) / present.sum(1)
    torch.testing.assert_close(mean_square, torch.ones(len(mean_square)), atol=0.05, rtol=0.0)


def test_noise_moves_amplitudes_as_asked():
    batch = collate([artificial(14)], CALCULATED_2A, 3.0, np.random.default_rng(0))
    noisy = Experiment(d_min=(2.0, 2.0), missing=0.0, noise=0.2, overloads=0.0)
    true = structure_factors(batch).square().sum(1).sqrt()
    found = diffract(batch, noisy, torch.Generator().manual_seed(1)).f_sq.sqrt()
    deviation = ((found - true).square().mean() / true.square().mean()).sqrt().item()
    assert 0.0 < deviation < 0.4


def test_kinds_do_not_mix():
    with pytest.raises(ValueError, match="several kinds"):
        collate([artificial(14), artificial(19)], CALCULATED_2A, 3.0, np.random.default_rng(0))


def urea():
    """A molecule of urea in P-1, internuclear distances."""
    cartesian = np.array([
        [0.0, 0.0, 0.0], [0.0, 0.0, 1.26], [1.145, 0.0, -0.685], [-1.145, 0.0, -0.685],
        [2.0, 0.0, -0.16], [1.145, 0.0, -1.69], [-2.0, 0.0, -0.16], [-1.145, 0.0, -1.69],
    ])  # fmt: skip
    return Crystal(
        2, np.array([6.0, 5.0, 6.0, 90.0, 90.0, 90.0]), cartesian / [6.0, 5.0, 6.0] + 0.25,
        np.array([6, 8, 7, 7, 1, 1, 1, 1]), np.ones(8), np.full(8, 0.02),
    )  # fmt: skip


def test_bonds_move_charge_and_keep_the_crystal_neutral():
    crystal = polarised(urea(), 0.11)
    charges = crystal.occupancies[8:]
    assert (crystal.atomic_numbers[8:] == CHARGE).all() and len(charges) == 8
    assert charges.sum() == pytest.approx(0.0, abs=1e-12)
    carbon, oxygen, nitrogen, hydrogen = charges[[0, 1, 2, 4]]
    assert oxygen == pytest.approx(0.11 * (3.44 - 2.55))
    assert nitrogen > 0.2 and carbon < -0.1 and hydrogen < -0.05


def test_polarity_changes_the_amplitudes_as_hirshfeld_atoms_do():
    def amplitudes(polarity):
        experiment = Experiment((2.0, 2.0), 0.0, 0.0, strain=0.0, polarity=polarity)
        batch = collate([urea()], experiment, 2.5, np.random.default_rng(0))
        return structure_factors(batch).square().sum(1).sqrt()[0]

    neutral, polar = amplitudes(0.0), amplitudes(0.11)
    difference = (polar - neutral).abs().sum() / neutral.sum()
    assert 0.01 < difference < 0.06
