"""The number of threads of torch, in processes of their own since it belongs to the process."""

import os
import subprocess
import sys

import pytest

CODE = """
import phai_cctbx
{imports}
from phai_cctbx.network.threads import one_thread
before = torch.get_num_threads()
with one_thread():
    within = torch.get_num_threads()
print(before, within, torch.get_num_threads())
"""


@pytest.mark.parametrize(
    ("imports", "before"),
    [("import torch; import cctbx.miller", 2), ("import cctbx.miller; import torch", 1)],
)
def test_one_thread_within_and_as_before_afterwards(repository, imports, before):
    """The stand-ins for OpenMP in cctbx leave torch one thread where cctbx.miller comes first.

    Both variables are given: torch asks MKL too, and what Dask sets for its workers stays behind
    in the process that ran the tests before.
    """
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "2")
    process = subprocess.run(
        [sys.executable, "-c", CODE.format(imports=imports)],
        env={**os.environ, "PYTHONPATH": str(repository), **threads},
        capture_output=True,
        text=True,
        check=True,
    )
    assert process.stdout.split() == [str(before), "1", str(before)]
