"""The ten examples in the authors' repository of PhAI: does the imported network give their phases?

Each example of ``example_data.txt`` begins with a line ``refcode: NAME loss X`` and a line of
column titles; then come 1205 lines ``h k l amplitude target output`` in the order of the network,
phases in degrees. The authors make the output by three passes from zero.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

# cctbx
from libtbx.utils import Sorry

from phai_cctbx.network.phai import N_REFLECTIONS, likely_phases, recycle, sphere_indices
from phai_cctbx.network.threads import one_thread

logger = logging.getLogger(__name__)

#: Passes in the authors' example.
N_PASSES = 3
_HEAD = "refcode:"
_TITLES = "hkl"
_N_COLUMNS = 6


@dataclass(frozen=True)
class Example:
    """One crystal; arrays in the order of the network, phases in degrees.

    Attributes
    ----------
    name : str
    amplitudes, target, output : numpy.ndarray, shape (1205,)
        Of the crystal, its true phases, and what the authors' network made of the amplitudes.
    """

    name: str
    amplitudes: np.ndarray
    target: np.ndarray
    output: np.ndarray


def read_examples(path) -> list[Example]:
    """The examples of a file.

    Raises
    ------
    libtbx.utils.Sorry
        Where the file is not of the form above.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Sorry(f"{path}: cannot be read as text ({error}).") from error
    examples, name, rows = [], None, []
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words or words[0] == _TITLES:
            continue
        if words[0] == _HEAD:
            if name is not None:
                examples.append(_example(path, name, rows))
            name, rows = (words[1] if len(words) > 1 else f"line {number}"), []
            continue
        try:
            rows.append([float(word) for word in words])
            well_formed = len(words) == _N_COLUMNS and name is not None
        except ValueError:
            well_formed = False
        if not well_formed:
            raise Sorry(
                f"{path}, line {number}: h k l amplitude target output expected, found"
                f" {line.strip()!r}. example_data.txt of the authors' repository is meant."
            )
    if name is None:
        raise Sorry(f"{path}: no example in it; example_data.txt of the authors is meant.")
    return [*examples, _example(path, name, rows)]


def _example(path, name, rows):
    values = np.array(rows).reshape(-1, _N_COLUMNS)
    if len(values) != N_REFLECTIONS:
        raise Sorry(f"{path}, {name}: {len(values)} reflections, {N_REFLECTIONS} are expected.")
    if (values[:, :3] != sphere_indices()).any():
        raise Sorry(f"{path}, {name}: the reflections are not in the order of the network.")
    return Example(name, *values[:, 3:].T)


@one_thread()
def phases_as_published(model, examples: list[Example]) -> list[float]:
    """Share of |F|^2 whose phase comes out as the authors published it, for each example."""
    shares = []
    for example in examples:
        amplitudes = torch.tensor(example.amplitudes, dtype=torch.float32)[None]
        with torch.inference_mode():
            logits = recycle(model, amplitudes, torch.zeros_like(amplitudes), N_PASSES)
        same = np.cos(np.deg2rad(likely_phases(logits)[0].numpy() - example.output)) > 0
        weight = example.amplitudes**2
        shares.append(float(weight[same].sum() / weight.sum()))
        logger.info(
            "%-16s %6.2f %% of |F|^2 with the published phase", example.name, 100 * shares[-1]
        )
    return shares
