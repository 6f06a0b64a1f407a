"""The number of threads of torch, in processes of their own since it belongs to the process."""

import os
import subprocess
import sys

CODE = """
import phai_cctbx
from cctbx import miller
import torch
from phai_cctbx.network.threads import set_threads
assert torch.get_num_threads() == 1
set_threads({asked})
print(torch.get_num_threads())
"""


def threads(repository, asked, **environment):
    kept = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    process = subprocess.run(
        [sys.executable, "-c", CODE.format(asked=asked)],
        env={**kept, "PYTHONPATH": str(repository), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(process.stdout)


def test_all_cores_by_default(repository):
    assert threads(repository, "") == len(os.sched_getaffinity(0))


def test_the_variable_counts(repository):
    assert threads(repository, "", OMP_NUM_THREADS="3") == 3


def test_the_argument_counts_more(repository):
    assert threads(repository, "2", OMP_NUM_THREADS="3") == 2
