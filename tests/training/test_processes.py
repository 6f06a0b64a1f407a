"""Two processes train one network together, as ``torchrun`` starts them, on a CPU."""

import re
import subprocess
import sys

import numpy as np
import pytest

import phai_cctbx  # noqa: F401  (Boost before torch)

torch = pytest.importorskip("torch")

from phai_cctbx.training.crystals import Crystal, write_crystals  # noqa: E402

SCRIPT = """
import sys
from pathlib import Path

import phai_cctbx
import torch
from phai_cctbx.network.operator import OperatorConfig
from phai_cctbx.training.crystals import read_crystals
from phai_cctbx.training.diffraction import Experiment
from phai_cctbx.training.loop import Schedule, Trainer
from phai_cctbx.training.pool import CrystalPool
from phai_cctbx.training.processes import join_processes, leave_processes

processes = join_processes("cpu")
pools = iter([CrystalPool(read_crystals(sys.argv[1]), budget=1e6, largest_batch=4)])
training = Trainer(
    OperatorConfig(channels=8, scalars=8, relations=4, layers=1, hidden=16),
    lambda: next(pools, None), Experiment(),
    Schedule(minutes=0.02, steps_apart=int(sys.argv[3])), 3,
    processes.device("cpu"), Path(sys.argv[2]), processes=processes,
)
training.run()
weights = sum(float(p.detach().double().square().sum()) for p in training.model.parameters())
batch = training.chains[-1].diffraction.e_value.sum().item()
line = f"rank {processes.rank} step {training.step} crystals {training.crystals} "
print(line + f"weights {weights!r} batch {batch!r}", flush=True)
leave_processes()
"""


@pytest.mark.parametrize("steps_apart", [1, 4])
def test_processes_keep_the_same_weights_from_their_own_crystals(tmp_path, steps_apart):
    rng = np.random.default_rng(1)
    crystals = [
        Crystal(
            14, np.array([7.1, 6.3, 8.2, 90, 100, 90]), rng.random((5, 3)),
            np.array([6, 6, 7, 8, 6]), np.ones(5), np.full(5, 0.03),
        )
        for _ in range(8)
    ]  # fmt: skip
    write_crystals(tmp_path / "pool.npz", crystals)
    script = tmp_path / "together.py"
    script.write_text(SCRIPT)
    run = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         script, tmp_path / "pool.npz", tmp_path / "together.ckpt",
         str(steps_apart)],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    found = sorted(
        re.findall(r"rank (\d) step (\d+) crystals (\d+) weights (\S+) batch (\S+)", run.stdout)
    )
    (rank_0, *same_0, batch_0), (rank_1, *same_1, batch_1) = found
    assert (rank_0, rank_1) == ("0", "1")
    assert same_0 == same_1
    assert batch_0 != batch_1
    state = torch.load(tmp_path / "together.ckpt", weights_only=True)
    assert str(state["step"]) == same_0[0] and str(state["crystals"]) == same_0[1]
    assert state["step"] > 3 and state["step"] % steps_apart == 0
