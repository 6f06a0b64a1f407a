"""Benchmark job=cost: time and memory of the network against the volume of the cell.

Cells of a few common groups are filled with random amplitudes: what a pass costs depends on
their number alone. A network of PhAI's published shape (Larsen, Rekis & Madsen, Science 385, 522,
2024; random weights) is timed in the same process, so that both run under the same load.
"""

from __future__ import annotations

import resource
import time

import numpy as np
import torch

# cctbx
from cctbx import crystal, miller
from cctbx.array_family import flex

from phai_cctbx.network.phai import GRID_SHAPE, PhaiNetwork
from phai_cctbx.network.threads import one_thread
from phai_cctbx.phasing.neural import NeuralPhaser
from phai_cctbx.programs.benchmark_entries import Entry
from phai_cctbx.programs.benchmark_rows import Row
from phai_cctbx.programs.benchmark_table import failure_lines

#: The job makes its own data.
JOB_KINDS = ()
KIND = "artificial"
GROUPS = ("P -1", "P 1 21/c 1", "P 1 21 1", "P 21 21 21")
VOLUMES = (250, 500, 1000, 2000, 4000, 6000)
#: Relative edges of the cells, which are right-angled.
EDGES = np.array([0.8, 1.0, 1.25])
#: Resolution where none is asked for, A.
D_MIN = 2.0
#: Starts and passes that are timed, enough for one round.
N_STARTS, N_PASSES = 8, 6
#: Passes of the network of PhAI's shape that are timed.
N_PHAI_PASSES = 3


def entries() -> list[Entry]:
    """One for each group and volume; the group and the volume are its id."""
    return [
        Entry(id=f"{group}, {volume}", kind=KIND, model_path=None, space_group=group)
        for volume in VOLUMES
        for group in GROUPS
    ]


def run(entry: Entry, settings) -> Row:
    """Time the passes of one crystal, and those of a network of PhAI's shape."""
    volume = float(entry.id.rsplit(",", 1)[1])
    f_obs = random_amplitudes(entry.space_group, volume, settings.d_min or D_MIN, settings.seed)
    options = settings.phaser_options()
    n_starts = options.pop("n_starts", N_STARTS)
    # the first one is not counted: it loads the model, and TorchScript compiles it
    _, *seconds = [
        _phase(f_obs, n_passes, n_starts, settings.seed, options) for n_passes in (2, 1, N_PASSES)
    ]
    per_pass = (seconds[1] - seconds[0]) / ((N_PASSES - 1) * n_starts)
    phai = phai_pass_seconds()
    return Row(
        id=entry.id,
        job="cost",
        kind=KIND,
        space_group=entry.space_group,
        volume=volume,
        d_min=f_obs.d_min(),
        seconds=seconds[1],
        details={
            "n_reflections": f_obs.size(),
            "pass_seconds": per_pass,
            "phai_pass_seconds": phai,
            "memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        },
    )


def random_amplitudes(group: str, volume: float, d_min: float, seed: int) -> miller.array:
    """Amplitudes of an acentric Wilson distribution, a complete set."""
    edges = EDGES * (volume / EDGES.prod()) ** (1.0 / 3.0)
    symmetry = crystal.symmetry((*edges, 90, 90, 90), group)
    indices = miller.build_set(symmetry, anomalous_flag=False, d_min=d_min)
    data = np.sqrt(np.random.default_rng(seed).exponential(size=indices.size()))
    return indices.array(data=flex.double(data)).set_observation_type_xray_amplitude()


def _phase(f_obs, n_passes, n_starts, seed, options):
    phaser = NeuralPhaser(n_starts=n_starts, n_passes=n_passes, seed=seed, **options)
    began = time.process_time()
    phaser(f_obs)
    return time.process_time() - began


@one_thread()
@torch.inference_mode()
def phai_pass_seconds() -> float:
    """CPU seconds of one pass of a network of PhAI's published shape, for one start."""
    network = PhaiNetwork().eval()
    zeros = torch.zeros(1, *GRID_SHAPE)
    network(zeros, zeros)
    began = time.process_time()
    for _ in range(N_PHAI_PASSES):
        network(zeros, zeros)
    return (time.process_time() - began) / N_PHAI_PASSES


def line(row: Row) -> str:
    """One crystal of the printed list."""
    d = row.details
    return (
        f"{row.space_group:<12s} V {row.volume:6.0f}  {d['n_reflections']:5d} reflections"
        f"  {1000 * d['pass_seconds']:8.2f} ms per pass"
        f"  1/{d['phai_pass_seconds'] / d['pass_seconds']:.0f} of PhAI's shape"
        f"  {d['memory_gb']:.2f} GB"
    )


def table(rows: list[Row]) -> list[str]:
    """Milliseconds per start and pass, and memory of the process, by group and volume."""
    done = [row for row in rows if row.details]
    by_place = {(row.space_group, row.volume): row for row in done}
    groups = list(dict.fromkeys(row.space_group for row in done))
    volumes = sorted({row.volume for row in done})
    lines = []
    for title, figure in (
        ("CPU milliseconds per start and pass", lambda d: f"{1000 * d['pass_seconds']:.2f}"),
        ("Times cheaper than a pass of PhAI's published shape",
         lambda d: f"{d['phai_pass_seconds'] / d['pass_seconds']:.0f}"),
        ("Largest memory of the process, GB", lambda d: f"{d['memory_gb']:.2f}"),
    ):  # fmt: skip
        lines += ["", title, f"{'V, A^3':>8s}" + "".join(f"{group:>14s}" for group in groups)]
        for volume in volumes:
            cells = [by_place.get((group, volume)) for group in groups]
            lines.append(
                f"{volume:8.0f}"
                + "".join(f"{figure(row.details) if row else '-':>14s}" for row in cells)
            )
    return lines + failure_lines([row for row in rows if not row.details])
