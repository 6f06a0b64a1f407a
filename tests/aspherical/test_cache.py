"""The cache on disk: content decides, damage is repaired, two runs do the work once."""

import subprocess
import sys

import numpy as np

from phai_cctbx.aspherical import cache


def test_key_depends_on_content_and_not_on_order():
    a = cache.content_key({"x": 1, "y": 2}, {"p": np.arange(3), "q": np.ones(2)})
    assert a == cache.content_key({"y": 2, "x": 1}, {"q": np.ones(2), "p": np.arange(3)})
    assert a != cache.content_key({"x": 1, "y": 2}, {"p": np.arange(3), "q": np.zeros(2)})
    assert a != cache.content_key({"x": 1, "y": 3}, {"p": np.arange(3), "q": np.ones(2)})


def test_entries_are_computed_once_and_repaired(tmp_path):
    store = cache.Cache(tmp_path)
    calls = []

    def compute():
        calls.append(1)
        return {"value": np.array(7.0)}

    assert store.get({"k": 1}, {}, compute)[1] is False
    assert store.get({"k": 1}, {}, compute)[1] is True
    assert len(calls) == 1
    store.path(cache.content_key({"k": 1}, {})).write_bytes(b"PK\x03\x04 cut short")
    result, from_disk = store.get({"k": 1}, {}, compute)
    assert result["value"] == 7.0 and not from_disk and len(calls) == 2


def test_failed_computation_leaves_nothing(tmp_path):
    store = cache.Cache(tmp_path)

    def fail():
        raise ValueError

    try:
        store.get({"k": 2}, {}, fail)
    except ValueError:
        pass
    assert not list(tmp_path.rglob("*.npz"))


CONTENDER = """
import sys, time
import numpy as np
from phai_cctbx.aspherical.cache import Cache
def compute():
    with open(sys.argv[1] + "/count", "a") as stream:
        stream.write("x")
    time.sleep(1)
    return {"v": np.ones(1)}
Cache(sys.argv[1]).get({"k": 3}, {}, compute)
"""


def test_two_processes_do_the_work_once(tmp_path):
    runs = [subprocess.Popen([sys.executable, "-c", CONTENDER, str(tmp_path)]) for _ in range(2)]
    assert [run.wait(timeout=120) for run in runs] == [0, 0]
    assert (tmp_path / "count").read_text() == "x"
