"""PhAI's network: its box of indices, its architecture, its checkpoint, in and out."""

import json

import pytest

import phai_cctbx  # noqa: F401  (Boost before torch)

torch = pytest.importorskip("torch")

from torch.nn import functional  # noqa: E402

from phai_cctbx.network.model_file import (  # noqa: E402
    METADATA_NAME,
    ModelFileError,
    load_model,
)
from phai_cctbx.network.phai import (  # noqa: E402
    GRID_SHAPE,
    PhaiNetwork,
    likely_phases,
    recycle,
    sphere_indices,
    to_grid,
)
from phai_cctbx.network.phai_file import (  # noqa: E402
    PhaiMetadata,
    import_checkpoint,
    load_phai,
    published_form,
    read_checkpoint,
    save_phai,
    set_parameters,
)

SMALL = {
    "filters": 3,
    "convolution_blocks": 2,
    "mixer_depth": 2,
    "dim": 8,
    "channel_expansion": 10,
    "token_expansion": 5,
}


@pytest.fixture(scope="module")
def small():
    """A network of small sizes with random parameters, norms included."""
    torch.manual_seed(0)
    model = PhaiNetwork(**SMALL).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def test_box_of_indices():
    """1205 reflections in a sphere of radius 10 (Larsen et al., 2024), l running fastest."""
    hkl = sphere_indices()
    assert hkl.shape == (1205, 3)
    assert hkl[:4].tolist() == [[-10, 0, 0], [-9, 0, 0], [-9, 0, 1], [-9, 0, 2]]
    assert hkl[-1].tolist() == [10, 0, 0]
    assert (hkl[:, 1:] >= 0).all()
    assert (hkl**2).sum(1).max() == 100
    assert (hkl**2).sum(1).min() == 1


def test_values_stand_at_their_indices():
    hkl = sphere_indices()
    values = torch.arange(1.0, 1206.0)
    grid = to_grid(values[None])
    assert grid.shape == (1, *GRID_SHAPE)
    h, k, l = hkl.T  # noqa: E741
    assert (grid[0, h + 10, k, l] == values).all()
    assert grid.sum() == values.sum()


def test_classes_are_180_and_0_degrees():
    logits = torch.tensor([[[2.0, -1.0], [1.0, 3.0]]])
    assert likely_phases(logits).tolist() == [[-180.0, 0.0]]


def norm_per_row(x, weight, bias):
    """What a group norm with a group per channel does, written out."""
    rows = x.flatten(2)
    rows = (rows - rows.mean(2, keepdim=True)) / torch.sqrt(
        rows.var(2, unbiased=False, keepdim=True) + 1e-5
    )
    return (rows * weight[:, None] + bias[:, None]).reshape(x.shape)


def test_architecture_by_hand(small):
    """The published description, written out by the names of the published parameters."""
    p = small.state_dict()
    gelu = functional.gelu
    amplitudes, phases = torch.rand(2, *GRID_SHAPE), -180.0 * torch.rand(2, *GRID_SHAPE).round()

    def convolved(x, name):
        return functional.conv3d(x, p[f"{name}.weight"], p[f"{name}.bias"], padding=1)

    def normed(x, name):
        return norm_per_row(x, p[f"{name}.weight"], p[f"{name}.bias"])

    x = sum(
        normed(gelu(convolved(grid[:, None], f"{net}.1")), f"{net}.3")
        for net, grid in (("net_a", amplitudes), ("net_p", phases))
    )
    for i in range(SMALL["convolution_blocks"]):
        block = f"net_convolution_layers.{i}.0"
        y = normed(gelu(convolved(x, f"{block}.conv1")), f"{block}.norm1")
        x = x + normed(gelu(convolved(y, f"{block}.conv2")), f"{block}.norm2")
    x = x.flatten(2) @ p["net_projection_layer.1.weight"].T + p["net_projection_layer.1.bias"]
    for i in range(SMALL["mixer_depth"]):
        tokens, channels = f"net_mixer_layers.{i}.0", f"net_mixer_layers.{i}.1"
        y = normed(x, f"{tokens}.norm1")
        y = p[f"{tokens}.layer1.weight"][..., 0] @ y + p[f"{tokens}.layer1.bias"][:, None]
        x = x + p[f"{tokens}.layer2.weight"][..., 0] @ gelu(y) + p[f"{tokens}.layer2.bias"][:, None]
        y = normed(x, f"{channels}.norm1")
        y = y @ p[f"{channels}.layer1.weight"].T + p[f"{channels}.layer1.bias"]
        x = x + gelu(y) @ p[f"{channels}.layer2.weight"].T + p[f"{channels}.layer2.bias"]
    last = f"net_mixer_layers.{SMALL['mixer_depth']}"
    x = functional.layer_norm(x, (SMALL["dim"],), p[f"{last}.weight"], p[f"{last}.bias"])
    x = x.mean(1) @ p["net_output.3.weight"].T + p["net_output.3.bias"]
    expected = torch.stack([x[:, :1205], x[:, 1205:]], dim=1)
    torch.testing.assert_close(small(amplitudes, phases), expected, rtol=1e-4, atol=1e-4)


def test_all_phases_are_recycled_and_the_scale_does_not_matter(small):
    """The second pass sees the phases of the first, and amplitudes whose maximum is 1."""
    amplitudes = torch.rand(1, 1205)
    zeros = torch.zeros(1, 1205)
    grid = to_grid(amplitudes / amplitudes.max())
    first = small(grid, to_grid(zeros))
    second = small(grid, to_grid(likely_phases(first)))
    torch.testing.assert_close(recycle(small, amplitudes, zeros, 2), second)
    torch.testing.assert_close(recycle(small, 250.0 * amplitudes, zeros, 2), second)
    assert (second - first).abs().max() > 1e-4


def test_round_trip(small, tmp_path):
    path = tmp_path / "phai.pt"
    save_phai(small, PhaiMetadata(checkpoint_sha256="0" * 64), path)
    model, metadata = load_phai(path)
    assert (metadata.groups, metadata.max_axis, metadata.d_min) == ((14,), 10.0, 2.0)
    for name, tensor in small.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor)
    grid = to_grid(torch.rand(1, 1205))
    torch.testing.assert_close(model(grid, grid), small(grid, grid))


def test_other_strategies_refuse_the_file(small, tmp_path):
    path = tmp_path / "phai.pt"
    save_phai(small, PhaiMetadata(checkpoint_sha256="0" * 64), path)
    with pytest.raises(ModelFileError, match="strategy=phai, not for strategy=neural"):
        load_model(path)


def test_a_file_without_its_description_is_refused(small, tmp_path):
    path = tmp_path / "phai.pt"
    save_phai(small, PhaiMetadata(checkpoint_sha256="0" * 64), path)
    extra = {METADATA_NAME: ""}
    model = torch.jit.load(str(path), _extra_files=extra)
    stored = json.loads(extra[METADATA_NAME])
    del stored["groups"]
    torch.jit.save(model, str(path), _extra_files={METADATA_NAME: json.dumps(stored)})
    with pytest.raises(ModelFileError, match="not complete"):
        load_phai(path)


def refused(path):
    with pytest.raises(ModelFileError) as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_no_checkpoint(tmp_path):
    path = tmp_path / "PhAI_model.pth"
    assert "no such file" in refused(path)
    for content in (b"", b"not a checkpoint", b"root:x:0:0\n" * 9, b"PK\x03\x04" + bytes(100)):
        path.write_bytes(content)
        assert "no PyTorch checkpoint" in refused(path)


class Intruder:
    """A pickle that would run code where pickles are believed."""

    def __reduce__(self):
        return open, ("intruder", "w")


def test_nothing_is_run_from_a_checkpoint(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "PhAI_model.pth"
    torch.save({"net_a.1.weight": Intruder()}, path)
    assert "nothing was run" in refused(path)
    assert not (tmp_path / "intruder").exists()


@pytest.mark.parametrize("content", [[1, 2], {"state_dict": {}}, {3: torch.zeros(1)}])
def test_other_content_is_named(content, tmp_path):
    path = tmp_path / "PhAI_model.pth"
    torch.save(content, path)
    assert "a dictionary of parameters is expected, found" in refused(path)


@pytest.mark.slow
def test_published_sizes(tmp_path):
    """42 443 882 parameters (Larsen et al., 2024) go in and out unchanged."""
    published = PhaiNetwork().state_dict()
    assert sum(value.numel() for value in published.values()) == 42_443_882
    checkpoint, path = tmp_path / "PhAI_model.pth", tmp_path / "phai.pt"
    torch.save(published, checkpoint)
    metadata = import_checkpoint(checkpoint, path)
    assert len(metadata.checkpoint_sha256) == 64
    model, read = load_phai(path)
    assert read == metadata
    assert all(torch.equal(model.state_dict()[name], value) for name, value in published.items())


def test_wrong_parameters_are_named(small):
    published = small.state_dict()

    def message(**changes):
        state = {**published, **changes}
        with pytest.raises(ModelFileError) as caught:
            set_parameters(
                PhaiNetwork(**SMALL), {name: v for name, v in state.items() if v is not None}
            )
        return str(caught.value)

    bias = "net_projection_layer.1.bias"
    assert f"1 parameters missing ({bias})" in message(**{bias: None})
    assert "1 unknown (head.bias)" in message(**{"head.bias": torch.zeros(2)})
    assert f"{bias} is (7,), expected (8,)" in message(**{bias: torch.zeros(7)})
    assert f"{bias} is float16" in message(**{bias: published[bias].half()})
    assert f"not finite in {bias}" in message(**{bias: torch.full((8,), float("nan"))})
    assert "and 4 more" in message(**dict.fromkeys(list(published)[:7]))


def test_first_version_of_the_authors_is_the_same_network(small):
    """Linear layers mixed tokens and the output module was number 2."""
    first = {}
    for name, value in small.state_dict().items():
        if value.dim() == 3:
            value = value[..., 0]
        first[name.replace("net_output.3.", "net_output.2.")] = value
    renamed = published_form(first)
    assert list(renamed) == list(small.state_dict())
    assert all(torch.equal(renamed[name], value) for name, value in small.state_dict().items())
