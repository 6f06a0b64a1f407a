"""Figures of the documentation from rows of the benchmark.

    python docs/figures.py reliability phasing.json docs/images/reliability.png
    python docs/figures.py cost cost.json docs/images/cost.png
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np


def reliability(rows: list[dict], path: Path) -> None:
    """Mean cosine of the phase error against the confidence, calculated and measured apart."""
    figure, axes = plt.subplots(figsize=(4.2, 4.0), layout="constrained")
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    for kind, marker in (("calculated", "o"), ("measured", "s")):
        of_kind = [r["details"]["reliability"] for r in rows if r["kind"] == kind and r["r"]]
        n, confidence, cosine = np.sum(of_kind, axis=0).T
        axes.plot(confidence / n, cosine / n, marker=marker, label=f"{kind} ({n.sum():.0f})")
    axes.set(xlabel="confidence of the reflection", ylabel="mean cosine of its phase error")
    axes.legend(title="amplitudes (reflections)")
    figure.savefig(path, dpi=150)


def cost(rows: list[dict], path: Path) -> None:
    """CPU time of a pass and memory of the process against the volume of the cell."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.5, 3.4), layout="constrained")
    for group in dict.fromkeys(row["space_group"] for row in rows):
        of_group = [row for row in rows if row["space_group"] == group]
        volume = [row["volume"] for row in of_group]
        details = [row["details"] for row in of_group]
        left.loglog(volume, [1e3 * d["pass_seconds"] for d in details], "o-", label=group)
        right.semilogx(volume, [d["memory_gb"] for d in details], "o-", label=group)
    phai = 1e3 * np.median([row["details"]["phai_pass_seconds"] for row in rows])
    left.axhline(phai, color="0.5", linestyle="--", label="a network of PhAI's shape")
    left.set(xlabel="V, Å$^3$", ylabel="CPU milliseconds per start and pass")
    right.set(xlabel="V, Å$^3$", ylabel="memory of the process, GB", ylim=(0, None))
    for axes in (left, right):
        axes.set_xticks(volume, [f"{v:.0f}" for v in volume])
        axes.minorticks_off()
    left.legend(fontsize="small")
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    which, source, target = sys.argv[1:]
    {"reliability": reliability, "cost": cost}[which](
        json.loads(Path(source).read_text(encoding="utf-8")), Path(target)
    )
