"""Training: reproducible, resumable, and it learns."""

from dataclasses import replace

import numpy as np
import pytest

import phai_cctbx  # noqa: F401  (Boost before torch)

torch = pytest.importorskip("torch")

from phai_cctbx.network.model_file import load_model  # noqa: E402
from phai_cctbx.network.operator import OperatorConfig  # noqa: E402
from phai_cctbx.training.crystals import Crystal  # noqa: E402
from phai_cctbx.training.diffraction import Experiment, collate, diffract  # noqa: E402
from phai_cctbx.training.export import export  # noqa: E402
from phai_cctbx.training.loop import Schedule, Trainer, disturbed_truth  # noqa: E402
from phai_cctbx.training.loss import phase_loss  # noqa: E402
from phai_cctbx.training.pool import CrystalPool  # noqa: E402

TINY = OperatorConfig(channels=8, scalars=8, relations=4, layers=1, hidden=16)
EXPERIMENT = Experiment(d_min=(2.0, 2.2), missing=0.1, noise=0.05)
CELLS = {14: (7.1, 6.3, 8.2, 90, 100, 90), 2: (6.2, 7.0, 7.7, 80, 95, 102),
         19: (6.0, 7.4, 8.8, 90, 90, 90)}  # fmt: skip


def crystals(numbers, n=6):
    rng = np.random.default_rng(1)
    return [
        Crystal(
            number, np.array(CELLS[number], float), rng.random((5, 3)), np.array([6, 6, 7, 8, 6]),
            np.ones(5), np.full(5, 0.03),
        )
        for number in numbers
        for _ in range(n)
    ]  # fmt: skip


def trainer(path, numbers=(2, 14), config=TINY, **schedule):
    pool = CrystalPool(crystals(numbers), budget=1e6, largest_batch=4)
    once = iter([pool])
    return Trainer(
        config, lambda: next(once, None), EXPERIMENT, Schedule(**schedule), 3,
        torch.device("cpu"), path / "training.pt",
    )  # fmt: skip


def test_same_seed_same_losses(tmp_path):
    first, second = trainer(tmp_path), trainer(tmp_path)
    assert [first.train_step() for _ in range(4)] == [second.train_step() for _ in range(4)]


def test_checkpoint_brings_everything_back(tmp_path):
    first = trainer(tmp_path)
    for _ in range(3):
        first.train_step()
    first.save()
    again = trainer(tmp_path)
    assert (again.step, again.crystals, again.groups) == (3, first.crystals, first.groups)
    for name, tensor in first.average.state_dict().items():
        assert torch.equal(again.average.state_dict()[name], tensor)


def test_checkpoint_of_another_network_is_refused(tmp_path):
    first = trainer(tmp_path)
    first.config = OperatorConfig(channels=16)
    first.save()
    with pytest.raises(ValueError, match="another network"):
        trainer(tmp_path)


def loss_from_disturbed_truth(learning, numbers):
    """Mean loss on fixed crystals and starts."""
    batch = collate(crystals(numbers), EXPERIMENT, 2.5, np.random.default_rng(0))
    generator = torch.Generator().manual_seed(0)
    diffraction = diffract(batch, EXPERIMENT, generator)
    start = disturbed_truth(diffraction, generator)
    with torch.no_grad():
        output = diffraction.one_pass(learning.model, start)
    return phase_loss(output, diffraction).mean().item()


@pytest.mark.parametrize("numbers", [(2, 14), (19,)])
def test_loss_falls(tmp_path, numbers):
    learning = trainer(tmp_path, numbers)
    for group in learning.optimizer.param_groups:
        group["lr"] = 5e-3
    before = loss_from_disturbed_truth(learning, numbers)
    for _ in range(120):
        learning.train_step()
    assert loss_from_disturbed_truth(learning, numbers) < before - 0.03


@pytest.mark.parametrize("acentric_layers", [None, 1, 2])
def test_a_larger_network_begins_with_the_same_answers_and_learns(tmp_path, acentric_layers):
    small = trainer(tmp_path / "small")
    config = replace(TINY, layers=3, acentric_layers=acentric_layers)
    large = trainer(tmp_path / "large", numbers=(2, 19), config=config)
    large.start_from(small.model.state_dict())
    before = {name: value.clone() for name, value in large.model.state_dict().items()}
    kinds = set()
    for _ in range(12):
        chain = large.new_chain()
        kinds.add(chain.diffraction.batch.centrosymmetric)
        with torch.no_grad():
            answers = [chain.diffraction.one_pass(t.model, chain.start) for t in (small, large)]
        torch.testing.assert_close(answers[0], answers[1])
    assert kinds == {True, False}
    for _ in range(12):
        large.train_step()
    large.save()
    after = large.model.state_dict()
    learning = [name for name in after if name.endswith(("map_mlp.0.weight", "mix_in.weight"))]
    assert len(learning) == 2 * (3 + (acentric_layers or 0))
    for name in learning:
        assert not torch.equal(after[name], before[name]), name
    again = trainer(tmp_path / "large", numbers=(2, 19), config=config)
    assert again.step == large.step


def trained(folder, numbers, **size):
    training = trainer(folder, numbers, replace(TINY, **size))
    for _ in range(3):
        training.train_step()
    training.save()
    return training


def test_each_part_of_a_model_file_answers_as_its_own_training(tmp_path):
    general = trained(tmp_path / "general", (2, 19))
    special = trained(tmp_path / "special", (2, 14), layers=2)
    export(
        general.checkpoint, None, "general", "two groups", tmp_path / "general.pt",
        kappa_scale=(0.9, 0.4),
    )  # fmt: skip
    metadata = export(
        special.checkpoint, crystals((2, 19)), "both", "three groups", tmp_path / "both.pt",
        acentric=tmp_path / "general.pt",
    )  # fmt: skip
    assert metadata.groups == (2, 14, 19)
    assert metadata.kappa_scale[0] != 0.9 and metadata.kappa_scale[1] == 0.4
    assert (metadata.training["config"]["layers"], metadata.training["steps"]) == (2, 3)
    assert metadata.training["config"]["acentric_layers"] == 1
    assert metadata.training["acentric"]["name"] == "general"
    both, _ = load_model(tmp_path / "both.pt")
    for number, training in ((2, special), (19, general)):
        chain = trainer(tmp_path / f"{number}", (number,)).new_chain()
        half = training.average.half().float()
        with torch.no_grad():
            answers = [chain.diffraction.one_pass(m, chain.start) for m in (both, half)]
        torch.testing.assert_close(*answers)


def test_networks_of_two_sizes_do_not_go_into_one_file(tmp_path):
    general = trained(tmp_path / "general", (19,))
    export(general.checkpoint, None, "general", "one group", tmp_path / "general.pt")
    other = trained(tmp_path / "other", (2,), channels=4)
    with pytest.raises(ValueError, match="another size"):
        export(
            other.checkpoint, None, "both", "two groups", tmp_path / "both.pt",
            acentric=tmp_path / "general.pt",
        )  # fmt: skip
    assert not (tmp_path / "both.pt").exists()


def test_no_crystals_no_training(tmp_path):
    with pytest.raises(ValueError, match="no crystals"):
        Trainer(
            TINY, lambda: None, EXPERIMENT, Schedule(), 0, torch.device("cpu"), tmp_path / "x.pt"
        )
