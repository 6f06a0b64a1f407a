"""phai_cctbx.import_phai, and its check against examples in the authors' format."""

import random
from functools import partial

import numpy as np
import pytest
import torch

# cctbx
from cctbx import sgtbx
from cctbx.array_family import flex
from cctbx.development import random_structure
from libtbx.utils import Sorry

from phai_cctbx.network import phai_file
from phai_cctbx.network.phai import PhaiNetwork, likely_phases, recycle, sphere_indices
from phai_cctbx.programs.command import run_command
from phai_cctbx.programs.import_phai import Program
from phai_cctbx.programs.phai_examples import phases_as_published, read_examples
from phai_cctbx.programs.pipeline import solve

SMALL = partial(
    PhaiNetwork,
    filters=3,
    convolution_blocks=1,
    mixer_depth=1,
    dim=8,
    channel_expansion=8,
    token_expansion=4,
)


@pytest.fixture
def network(monkeypatch):
    """The network, small: sizes do not matter to the command."""
    monkeypatch.setattr(phai_file, "PhaiNetwork", SMALL)
    torch.manual_seed(0)
    model = SMALL().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


@pytest.fixture
def checkpoint(network, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(network.state_dict(), "PhAI_model.pth")
    return "PhAI_model.pth"


def write_examples(network, path, flipped=0, n=2):
    """Examples in the authors' format, the output by three passes from zero phases."""
    rng = np.random.default_rng(0)
    lines = []
    for i in range(n):
        amplitudes = torch.tensor(rng.random((1, 1205)), dtype=torch.float32)
        with torch.no_grad():
            logits = recycle(network, amplitudes, torch.zeros_like(amplitudes), 3)
        output = likely_phases(logits)[0].numpy()
        output[:flipped] = -180.0 - output[:flipped]
        lines += [f"refcode:     crystal{i} loss  0.0844377 ", "        hkl   ampfull phasetarget"]
        lines += [
            "{:3d} {:3d} {:3d} {:.18f} {:9.4f} {:9.4f} ".format(*hkl, f, 180.0, phase)
            for hkl, f, phase in zip(sphere_indices(), amplitudes[0], output)
        ]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_import(checkpoint, network, tmp_path):
    assert run_command(Program, [checkpoint, "--quiet"]) == 0
    model, metadata = phai_file.load_phai(tmp_path / "phai.pt")
    assert metadata.groups == (14,)
    assert all(torch.equal(model.state_dict()[n], v) for n, v in network.state_dict().items())


def test_nothing_is_replaced_unasked(checkpoint, tmp_path, capsys):
    (tmp_path / "phai.pt").write_text("mine")
    assert run_command(Program, [checkpoint, "--quiet"]) == 1
    assert "phai.pt exists" in capsys.readouterr().err
    assert (tmp_path / "phai.pt").read_text() == "mine"
    assert run_command(Program, [checkpoint, "overwrite=True", "--quiet"]) == 0
    assert (tmp_path / "phai.pt").stat().st_size > 1000


@pytest.mark.parametrize("content", [None, b"not a checkpoint"])
def test_other_files(content, network, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / "other.pth").write_bytes(content)
    assert run_command(Program, ["other.pth", "--quiet"]) == 1
    error = capsys.readouterr().err
    assert "Sorry: other.pth" in error
    assert "doi.org/10.17894" in error
    assert not (tmp_path / "phai.pt").exists()


def test_examples_come_out_as_published(checkpoint, network, tmp_path):
    path = write_examples(network, tmp_path / "example_data.txt")
    examples = read_examples(path)
    assert [example.name for example in examples] == ["crystal0", "crystal1"]
    assert phases_as_published(network, examples) == [1.0, 1.0]
    assert run_command(Program, [checkpoint, str(path), "--quiet"]) == 0
    assert (tmp_path / "phai.pt").exists()


def test_other_phases_than_published_leave_no_model(checkpoint, network, tmp_path, capsys):
    path = write_examples(network, tmp_path / "example_data.txt", flipped=100)
    shares = phases_as_published(network, read_examples(path))
    assert all(0.85 < share < 0.97 for share in shares)
    assert run_command(Program, [checkpoint, str(path), "--quiet"]) == 1
    assert "only 0 of 2 examples come out as published" in capsys.readouterr().err
    assert not (tmp_path / "phai.pt").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda lines: [], "no example in it"),
        (lambda lines: lines[2:], "line 1: h k l amplitude"),
        (lambda lines: lines[:9] + ["1 2 three"], "line 10: h k l amplitude"),
        (lambda lines: lines[:900], "898 reflections, 1205 are expected"),
        (lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]], "order of the network"),
    ],
)
def test_files_of_another_form(change, said, network, tmp_path):
    path = write_examples(network, tmp_path / "example_data.txt", n=1)
    path.write_text("\n".join(change(path.read_text().splitlines())))
    with pytest.raises(Sorry, match=said) as caught:
        read_examples(path)
    assert str(path) in str(caught.value)


def write_crystal(folder, d_min):
    """Simulated intensities of a P 21/n crystal whose P 21/c cell has short axes."""
    random.seed(0)
    flex.set_random_seed(0)
    structure = random_structure.xray_structure(
        sgtbx.space_group_info("P 1 21/n 1"),
        unit_cell=(6.1, 8.2, 6.4, 90, 95, 90),
        elements=["C"] * 4 + ["O"],
        min_distance=1.3,
    )
    f_sq = (
        structure.structure_factors(d_min=d_min, algorithm="direct").f_calc().as_intensity_array()
    )
    rows = [
        "{:4d}{:4d}{:4d}{:8.2f}{:8.2f}".format(*hkl, value, 0.5)
        for hkl, value in zip(f_sq.indices(), f_sq.data())
    ]
    (folder / "x.hkl").write_text("\n".join([*rows, "   0   0   0    0.00    0.00", ""]))
    (folder / "x.ins").write_text(
        "TITL x\nCELL 0.71073 6.1 8.2 6.4 90 95 90\nZERR 4 0 0 0 0 0 0\nLATT 1\n"
        "SYMM 0.5-X,0.5+Y,0.5-Z\nSFAC C O\nUNIT 16 4\nHKLF 4\nEND\n"
    )


def test_solving_with_the_imported_network(checkpoint, tmp_path):
    """From the checkpoint to the files of a run; a random network finds nothing and says so."""
    assert run_command(Program, [checkpoint, "--quiet"]) == 0
    write_crystal(tmp_path, d_min=1.8)
    result = solve(tmp_path / "x.ins", strategy="phai", model="phai.pt", n_starts=2)
    assert (result.phasing.strategy, result.exit_status) == ("phai", 3)
    assert result.phasing.f_phased.size() == result.prepared.f_obs.size()
    assert str(result.phasing.f_phased.space_group_info()) == "P 1 21/n 1"
    assert 0 < result.confidence < 0.9
    with pytest.raises(Sorry, match="for strategy=phai, not for strategy=neural"):
        solve(tmp_path / "x.ins", strategy="neural", model="phai.pt", overwrite=True)
