"""phai_cctbx.train: own structures in, a model file out that the phaser takes."""

import random

import pytest

# cctbx
from cctbx import sgtbx
from cctbx.development import random_structure

from phai_cctbx.command_line import train

torch = pytest.importorskip("torch")

from phai_cctbx.network.model_file import load_model  # noqa: E402
from phai_cctbx.phasing.neural import NeuralPhaser  # noqa: E402

TINY = ["channels=8", "layers=1", "minutes=0.02", "largest_batch=2", "threads=1"]


def structure(symbol, seed):
    random.seed(seed)
    return random_structure.xray_structure(
        sgtbx.space_group_info(symbol), elements=["C"] * 5 + ["O"], volume_per_atom=40
    )


@pytest.fixture
def cif_folder(tmp_path):
    folder = tmp_path / "cifs"
    folder.mkdir()
    for i, symbol in enumerate(["P 1 21/n 1", "P -1", "P 21 21 21", "P 1 21/c 1"]):
        cif = structure(symbol, i).as_cif_simple
        with (folder / f"{i}.cif").open("w") as stream:
            cif(out=stream)
    return folder


def test_own_structures_become_a_model(cif_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert train.run([f"structures={cif_folder}", "model=mine.pt", *TINY]) == 0
    _, metadata = load_model(tmp_path / "mine.pt")
    assert metadata.training["crystals"] > 0
    assert set(metadata.groups) <= {2, 14, 19}
    f_obs = abs(structure("P 1 21/n 1", 9).structure_factors(d_min=2.0).f_calc())
    result = NeuralPhaser(model=tmp_path / "mine.pt", n_starts=2, n_passes=1)(f_obs)
    assert result.f_phased.size() == f_obs.size()


def test_goes_on_from_its_checkpoint_and_from_a_model(cif_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = [f"structures={cif_folder}", "model=mine.pt", *TINY]
    assert train.run(arguments) == 0
    first = load_model("mine.pt")[1].training["steps"]
    assert train.run([*arguments, "overwrite=True"]) == 0
    assert load_model("mine.pt")[1].training["steps"] > first
    onwards = [f"structures={cif_folder}", "init=mine.pt", "model=next.pt", "minutes=0.02"]
    assert train.run(onwards) == 0
    assert "mine.pt" in load_model("next.pt")[1].training_set


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["pools=."], "model=FILE"),
        (["model=m.pt"], "either structures"),
        (["model=m.pt", "structures=absent"], "no such folder"),
        (["model=m.pt", "structures=."], "no .cif"),
        (["model=m.pt", "pools=."], "no crystals"),
        (["model=m.pt", "pools=.", "d_min=3 2"], "finer one first"),
        (["model=m.pt", "pools=.", "init=absent.pt"], "no such file"),
    ],
)
def test_refusals(arguments, reason, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert train.run(arguments) == 1
    output = capsys.readouterr()
    assert reason in output.out + output.err
    assert not list(tmp_path.glob("m.*"))


def test_existing_model_is_kept(cif_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.pt").write_text("mine")
    assert train.run([f"structures={cif_folder}", "model=mine.pt", *TINY]) == 1
    assert (tmp_path / "mine.pt").read_text() == "mine"
    assert "overwrite" in capsys.readouterr().err
