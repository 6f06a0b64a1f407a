"""A refinement that is killed goes on from its last finished stage and ends the same."""

import shutil
import subprocess
import sys
import time

import numpy as np
import pytest

from cctbx import miller
from libtbx import easy_pickle

from phai_cctbx.aspherical.cache import Cache
from phai_cctbx.aspherical.hirshfeld import HirshfeldSettings, refine_hirshfeld
from phai_cctbx.aspherical.quantum import Quantum

RUN = """
import sys
import phai_cctbx
from libtbx import easy_pickle
from phai_cctbx.aspherical.cache import Cache
from phai_cctbx.aspherical.hirshfeld import refine_hirshfeld
from phai_cctbx.aspherical.quantum import Quantum
structure, f_sq, settings, method = easy_pickle.load(sys.argv[1])
quantum = Quantum(method, Cache(sys.argv[2]), threads=1, memory_mb=1000)
refine_hirshfeld(structure, f_sq, quantum, settings, sys.argv[3], wavelength=0.71073)
"""


def n_stored(folder):
    """Number of entries of the cache `folder`; it is not gone into whose jobs come and go."""
    return len(list(folder.glob("??/*.npz")))


def refined(structure, f_sq, quantum, settings, path):
    result = refine_hirshfeld(structure, f_sq, quantum, settings, path, wavelength=0.71073)
    return result, np.array(result.refinement.xray_structure.sites_frac())


@pytest.mark.slow
def test_killed_run_repeats_no_finished_stage_and_ends_the_same(urea, quantum, tmp_path):
    f_sq = (
        miller.build_set(urea, anomalous_flag=False, d_min=0.9)
        .structure_factors_from_scatterers(urea, algorithm="direct")
        .f_calc()
        .as_intensity_array()
    )
    f_sq = f_sq.customized_copy(
        sigmas=0.01 * f_sq.data() + 0.01
    ).set_observation_type_xray_intensity()
    settings = HirshfeldSettings(
        hydrogens="isotropic", cluster_radius=4, max_cycles=2, weighting="keep", extinction="no"
    )
    for z in (1, 6, 7, 8):
        quantum.proatom(z)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        shutil.copytree(quantum.cache.folder, folder)
    n_before = n_stored(broken)
    easy_pickle.dump(str(tmp_path / "job"), (urea, f_sq, settings, quantum.method))
    arguments = [str(tmp_path / "job"), str(broken), str(tmp_path / "killed.tsc")]
    process = subprocess.Popen([sys.executable, "-c", RUN, *arguments])
    while process.poll() is None and n_stored(broken) < n_before + 2:
        time.sleep(0.02)
    process.kill()
    assert process.wait() != 0, "it ended before it was killed"

    again = Quantum(quantum.method, Cache(broken), threads=1, memory_mb=1000)
    resumed, sites = refined(urea, f_sq, again, settings, tmp_path / "resumed.tsc")
    assert again.n_cached["molecule"] >= 1 and again.n_cached["transform"] >= 1
    assert again.n_computed["proatom"] == 0
    fresh = Quantum(quantum.method, Cache(whole), threads=1, memory_mb=1000)
    uninterrupted, expected = refined(urea, f_sq, fresh, settings, tmp_path / "fresh.tsc")
    # other tests may have left a molecule in the cache that both begin with
    needed = [run.n_computed["molecule"] + run.n_cached["molecule"] for run in (fresh, again)]
    assert needed[0] == needed[1]
    assert again.n_cached["molecule"] > fresh.n_cached["molecule"]
    np.testing.assert_allclose(sites, expected, atol=1e-10)
    assert resumed.refinement.wr2 == pytest.approx(uninterrupted.refinement.wr2, abs=1e-10)
