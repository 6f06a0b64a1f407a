"""The network commutes with everything that leaves the amplitudes as they are."""

from dataclasses import replace

import numpy as np
import pytest

import phai_cctbx  # noqa: F401  (Boost before torch)

torch = pytest.importorskip("torch")

from phai_cctbx.network.alignment import (  # noqa: E402
    align,
    map_correlation,
    other_hand,
    shifted,
)
from phai_cctbx.network.frame import Frame, describe, stack  # noqa: E402
from phai_cctbx.network.model_file import ModelMetadata, load_model, save_model  # noqa: E402
from phai_cctbx.network.operator import FourierOperator, OperatorConfig, operator  # noqa: E402
from phai_cctbx.network.reflections import d_star, indices_to, unique_reflections  # noqa: E402
from phai_cctbx.network.space_groups import space_group  # noqa: E402

CELLS = {
    "triclinic": (6.1, 7.3, 8.2, 78, 95, 103),
    "monoclinic": (7.2, 6.1, 8.9, 90, 101, 90),
    "orthorhombic": (6.3, 7.7, 9.4, 90, 90, 90),
    "tetragonal": (8.1, 8.1, 9.7, 90, 90, 90),
    "trigonal": (9.3, 9.3, 11.2, 90, 90, 120),
    "hexagonal": (9.3, 9.3, 8.1, 90, 90, 120),
    "cubic": (10.2, 10.2, 10.2, 90, 90, 90),
}
GROUPS = [1, 2, 4, 7, 9, 14, 15, 19, 29, 33, 43, 61, 76, 88, 96, 144, 146, 148, 161, 166, 176, 198]
SMALL = OperatorConfig(channels=8, scalars=8, relations=4, layers=2, hidden=16)


def frame_of(number, d_min=2.0, cell=None):
    cell = np.array(cell or CELLS[space_group(number).crystal_system], dtype=float)
    hkl, _ = unique_reflections(number, indices_to(cell, d_min))
    hkl = hkl[d_star(cell, hkl) <= 1 / d_min]
    return Frame(**stack([describe(number, cell, hkl, d_min, 3.0)]))


def network(seed=0):
    torch.manual_seed(seed)
    return FourierOperator(SMALL).eval()


def amplitudes(frame, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(frame.mask.shape, generator=generator) * 2 * frame.mask


def one_pass(model, frame, e_value, start):
    with torch.no_grad():
        return frame.one_pass(model, frame.transform(), e_value, start)


@pytest.mark.parametrize("number", range(1, 231))
def test_half_shifts_leave_the_operators_as_they_are(number):
    group = space_group(number)
    shifts = group.half_shifts
    assert len(shifts) in (1, 2, 4, 8)
    assert len({tuple((s + c) % 1.0) for s in shifts for c in group.centring}) == len(
        shifts
    ) * len(group.centring)
    moved = group.rotations @ shifts.T - shifts.T  # (m, 3, s)
    rest = moved.transpose(0, 2, 1)[..., None, :] - group.centring
    assert (np.abs(rest - np.round(rest)).max(-1) < 1e-6).any(-1).all()
    # all that the seminvariants allow
    steps = [np.array([0.0, 0.5])[:, None] * d for d in group.polar_directions]
    allowed = group.origin_shifts
    for step in steps:
        allowed = (allowed[:, None] + step).reshape(-1, 3)
    halves = {
        tuple((s + c) % 1.0)
        for s in allowed
        for c in group.centring
        if np.allclose((2 * (s + c)) % 1.0, 0.0)
    }
    assert halves <= {tuple((s + c) % 1.0) for s in shifts for c in group.centring}


@pytest.mark.parametrize("number", GROUPS)
def test_transform_is_orthonormal(number):
    frame = frame_of(number)
    parts, n = frame.n_parts, frame.hkl.shape[1]
    transform = frame.transform()
    blocks, weights = transform.blocks, transform.weights
    signs = FourierOperator.signs(frame.n_shifts)
    # every wave at the listed points and their copies
    basis = (signs[:, :, None, None] * blocks).transpose(0, 1)  # class, shift, wave, point
    basis = basis.transpose(1, 2).flatten(2)
    basis = basis.reshape(len(signs), parts, -1, basis.shape[-1]).transpose(1, 2).flatten(0, 1)
    basis = basis[transform.places[0]].transpose(0, 1).flatten(0, 1)  # parts * n
    gram = (basis * weights[0].repeat(len(signs)) / len(signs)) @ basis.T
    trace = gram.diagonal().reshape(parts, -1).sum(0)
    expected = torch.where(frame.centric[0], 1.0, 2.0)
    torch.testing.assert_close(trace, expected, atol=2e-5, rtol=0)
    gram = gram.reshape(parts, n, parts, n)
    same = torch.eye(n, dtype=torch.bool)
    assert gram.permute(0, 2, 1, 3)[..., ~same].abs().max() < 2e-5


@pytest.mark.parametrize("number", GROUPS)
def test_copies_of_points_by_half_shifts_are_where_the_signs_say(number):
    frame = frame_of(number)
    transform = frame.transform()
    points = frame.points[0] + torch.tensor(space_group(number).half_shifts[-1]).float()
    moved = replace(frame, points=points[None]).transform()
    signs = FourierOperator.signs(frame.n_shifts)[-1]
    torch.testing.assert_close(
        moved.blocks, transform.blocks * signs[:, None, None], atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("number", GROUPS)
def test_output_follows_an_allowed_origin_shift(number):
    frame = frame_of(number)
    model, e_value = network(), amplitudes(frame)
    start = frame.random_start(torch.Generator().manual_seed(2))
    group = space_group(number)
    moved_origin = torch.tensor(group.origin_shifts[-1], dtype=torch.float32)[None]
    shifted_start = shifted(start, frame.hkl, moved_origin)
    expected = shifted(one_pass(model, frame, e_value, start), frame.hkl, moved_origin)
    found = one_pass(model, frame, e_value, shifted_start)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("number", [4, 19, 33, 43, 146, 198])
def test_output_follows_the_change_of_hand(number):
    frame = frame_of(number)
    model, e_value = network(), amplitudes(frame)
    start = frame.random_start(torch.Generator().manual_seed(3))
    expected = other_hand(one_pass(model, frame, e_value, start), frame)
    found = one_pass(model, frame, e_value, other_hand(start, frame))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("number", GROUPS)
def test_output_obeys_phase_restrictions(number):
    frame = frame_of(number)
    start = frame.random_start(torch.Generator().manual_seed(4))
    output = one_pass(network(), frame, amplitudes(frame), start)
    if frame.n_parts == 1:
        assert output.shape[1] == 1
        return
    centric = frame.centric[0]
    angle = torch.atan2(output[0, 1], output[0, 0]) - frame.restricted_phase[0]
    assert torch.sin(angle[centric]).abs().max() < 1e-3 if centric.any() else True


@pytest.mark.parametrize(("number", "part"), [(14, "centrosymmetric"), (19, "acentric")])
def test_a_network_of_its_own_for_groups_without_a_centre(number, part, tmp_path):
    both = operator(replace(SMALL, acentric_layers=1)).eval()
    frame = frame_of(number)
    e_value, start = amplitudes(frame), frame.random_start(torch.Generator().manual_seed(6))
    expected = one_pass(getattr(both, part), frame, e_value, start)
    torch.testing.assert_close(one_pass(both, frame, e_value, start), expected)
    path = tmp_path / "both.pt"
    save_model(both, ModelMetadata("both", "none", (1.8, 2.3), 3.0, (14, 19)), path)
    model, _ = load_model(path)
    torch.testing.assert_close(
        one_pass(model, frame, e_value, start), expected, atol=2e-2, rtol=2e-2
    )


def test_padding_changes_nothing():
    small, large = frame_of(14), frame_of(14, cell=(9.2, 8.1, 10.9, 90, 95, 90))
    descriptions = [
        describe(14, np.array(cell, float), hkl, 2.0, 3.0)
        for cell, hkl in (
            (CELLS["monoclinic"], small.hkl[0].numpy().astype(int)),
            ((9.2, 8.1, 10.9, 90, 95, 90), large.hkl[0].numpy().astype(int)),
        )
    ]
    both = Frame(**stack(descriptions))
    n = small.hkl.shape[1]
    e_value = torch.zeros(both.mask.shape)
    e_value[0, :n], e_value[1] = amplitudes(small)[0], amplitudes(large)[0]
    start = both.random_start(torch.Generator().manual_seed(5))
    together = one_pass(network(), both, e_value, start)
    alone = one_pass(network(), small, e_value[:1, :n], start[:1, :, :n])
    torch.testing.assert_close(together[:1, :, :n], alone, atol=1e-4, rtol=1e-4)
    assert together[0, :, n:].abs().max() == 0


@pytest.mark.parametrize("number", [1, 2, 4, 9, 14, 19, 33, 76, 146, 161])
def test_alignment_finds_any_allowed_origin_and_hand(number):
    frame = frame_of(number)
    group = space_group(number)
    rng = np.random.default_rng(number)
    truth = frame.random_start(torch.Generator().manual_seed(6))
    shift = group.origin_shifts[rng.integers(len(group.origin_shifts))].copy()
    for direction in group.polar_directions:
        shift = shift + rng.random() * direction
    moved = shifted(truth, frame.hkl, torch.tensor(shift, dtype=torch.float32)[None])
    if frame.hand_free.item():
        moved = other_hand(moved, frame)
    f_sq = amplitudes(frame) ** 2
    assert map_correlation(moved, truth, f_sq, frame).item() > 0.999
    weight = f_sq * frame.multiplicity / (f_sq * frame.multiplicity).sum()
    torch.testing.assert_close(align(moved, truth, weight, frame), moved, atol=0.1, rtol=0)
