"""A model file says what it is, or is refused with a reason."""

import json

import pytest

import phai_cctbx  # noqa: F401  (Boost before torch)

torch = pytest.importorskip("torch")

from phai_cctbx.network.model_file import (  # noqa: E402
    ARCHITECTURE,
    CONTRACT,
    METADATA_NAME,
    ModelFileError,
    ModelMetadata,
    load_model,
    read_model_file,
    save_model,
    weights_digest,
    write_model_file,
)
from phai_cctbx.network.operator import FourierOperator, OperatorConfig  # noqa: E402

SMALL = OperatorConfig(channels=8, scalars=8, relations=4, layers=1, hidden=16)
METADATA = ModelMetadata("test", "none", (1.8, 2.3), 2.5, (2, 14), kappa_scale=(0.9, 0.8))


@pytest.fixture
def model_file(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "model.pt"
    save_model(FourierOperator(SMALL), METADATA, path)
    return path


def test_round_trip(model_file):
    torch.manual_seed(0)
    original = FourierOperator(SMALL)
    model, metadata = load_model(model_file)
    assert metadata.name == "test"
    assert metadata.groups == (2, 14)
    assert metadata.kappa_scale == (0.9, 0.8)
    assert metadata.sha256 == weights_digest(original) == weights_digest(model)
    for name, tensor in original.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], tensor.half().float())


def test_files_that_say_nothing_of_absent_reflections_know_none(model_file):
    _, stored = read_model_file(model_file, ARCHITECTURE, CONTRACT)
    del stored["fills_in"]
    old = model_file.with_name("old.pt")
    write_model_file(FourierOperator(SMALL).half(), stored, old)
    with pytest.raises(ModelFileError, match="weights"):
        load_model(old)
    torch.manual_seed(0)
    write_model_file(FourierOperator(SMALL).half(), stored, old)
    assert load_model(old)[1].fills_in is False


def test_saving_leaves_the_model_alone(tmp_path):
    model = FourierOperator(SMALL)
    save_model(model, METADATA, tmp_path / "model.pt")
    assert model.phase_out.weight.dtype == torch.float32
    assert [p.name for p in tmp_path.iterdir()] == ["model.pt"]


def refused(path):
    with pytest.raises(ModelFileError) as caught:
        load_model(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_absent(tmp_path):
    assert "no such file" in refused(tmp_path / "absent.pt")


def test_truncated(model_file):
    content = model_file.read_bytes()
    model_file.write_bytes(content[: len(content) // 2])
    assert "damaged" in refused(model_file)


def test_text(tmp_path):
    path = tmp_path / "model.pt"
    path.write_text("not a model")
    assert "no TorchScript" in refused(path)


def test_other_torchscript(tmp_path):
    path = tmp_path / "model.pt"
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))
    assert "no model of phai_cctbx" in refused(path)


def resave(path, **changes):
    extra = {METADATA_NAME: ""}
    model = torch.jit.load(str(path), _extra_files=extra)
    stored = dict(json.loads(extra[METADATA_NAME]), **changes)
    torch.jit.save(model, str(path), _extra_files={METADATA_NAME: json.dumps(stored)})


def test_other_contract(model_file):
    resave(model_file, contract=99)
    assert "99" in refused(model_file)


def test_other_weights(model_file):
    resave(model_file, sha256="0" * 64)
    assert "weights" in refused(model_file)
