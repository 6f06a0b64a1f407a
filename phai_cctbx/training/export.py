"""From a checkpoint to a model file: ``python -m phai_cctbx.training.export``.

Takes the averaged weights, scales kappa so that the confidence is true on crystals that were not
trained on, and writes one self-describing TorchScript file. The network for groups without a
centre of symmetry may come from another model file (``--acentric``).
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path

import torch

from phai_cctbx.network.model_file import ModelMetadata, load_model, save_model
from phai_cctbx.network.operator import OperatorConfig, fitted, operator
from phai_cctbx.network.space_groups import space_group
from phai_cctbx.training.calibration import calibration_error, kappa_scales, phase_errors
from phai_cctbx.training.crystals import Crystal, read_crystals
from phai_cctbx.training.diffraction import Experiment

logger = logging.getLogger(__name__)


def export(
    checkpoint: Path,
    calibration: list[Crystal] | None,
    name: str,
    training_set: str,
    path: Path,
    kappa_scale: tuple[float, float] = (1.0, 1.0),
    acentric: Path | None = None,
) -> ModelMetadata:
    """Write the model of a checkpoint.

    Parameters
    ----------
    checkpoint : Path
        Of `Trainer`.
    calibration : list of Crystal or None
        Crystals that were not trained on; without them `kappa_scale` stays.
    name, training_set : str
        Kept in the file.
    path : Path
    kappa_scale : tuple of float
        Read where there is no `calibration`.
    acentric : Path, optional
        Model file of the network for groups without a centre of symmetry, with the scale of its
        acentric reflections; the checkpoint gives that for the others.
    """
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    config = OperatorConfig(**state["config"])
    weights, groups = state["average"], set(state["groups"])
    training = {
        "seed": state["seed"],
        "steps": state["step"],
        "crystals": state["crystals"],
        "hours": round(state["seconds"] / 3600.0, 2),
    }
    if acentric is not None:
        other, described = load_model(acentric)
        config, weights = _joined(config, weights, described, other.state_dict())
        groups |= set(described.groups)
        training["acentric"] = {"name": described.name, **described.training}
    model = operator(config)
    model.load_state_dict(weights)
    model.eval()
    # a checkpoint that says nothing of absent reflections was trained without them
    saved = {"fills_in": False, **state["experiment"]}
    experiment = Experiment(**dict(saved, d_min=tuple(saved["d_min"])))
    if calibration is not None and acentric is None:
        kappa_scale = _measured_scales(model, calibration, experiment, config)
    elif calibration is not None:
        # acentric reflections are those of the other network, which was measured before
        ours = [c for c in calibration if space_group(c.number).centrosymmetric]
        of_centric, _ = _measured_scales(model, ours, experiment, config)
        kappa_scale = (of_centric, described.kappa_scale[1])
    metadata = ModelMetadata(
        name=name,
        training_set=training_set,
        d_min_range=experiment.d_min,
        grid_points_per_d_min=config.grid_points_per_d_min,
        groups=tuple(sorted(groups)),
        kappa_scale=kappa_scale,
        fills_in=experiment.fills_in,
        training={**training, "config": config.as_dict()},
    )
    save_model(model, metadata, path)
    return metadata


def _joined(config, weights, described, others):
    """Configuration and weights of a network by `config` and `weights` for centrosymmetric groups,
    and that of another model for the rest."""
    other = OperatorConfig(**described.training["config"])
    depth = other.layers if other.acentric_layers is None else other.acentric_layers
    config = replace(config, acentric_layers=depth)
    if replace(other, layers=config.layers, acentric_layers=depth) != config:
        raise ValueError(f"{described.name}: a network of another size, {other}")
    ours, theirs = fitted(weights, config), fitted(others, config)
    kept = [("centrosymmetric.", ours), ("acentric.", theirs)]
    return config, {n: w for part, all_ in kept for n, w in all_.items() if n.startswith(part)}


def _measured_scales(model, crystals, experiment, config) -> tuple[float, float]:
    errors = phase_errors(model, crystals, experiment, config.grid_points_per_d_min)
    scales = kappa_scales(errors)
    logger.info(
        "kappa scales %.2f (centric) %.2f (acentric): calibration error %.3f, without them %.3f",
        *scales,
        calibration_error(errors, scales),
        calibration_error(errors, (1.0, 1.0)),
    )
    return scales


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--checkpoint", type=Path, required=True)
    p.add_argument("--calibration", type=Path, required=True, help=".npz of unseen crystals")
    p.add_argument("--n-calibration", type=int, default=300)
    p.add_argument("--acentric", type=Path, help="model file for groups without a centre")
    p.add_argument("--name", required=True)
    p.add_argument("--training-set", required=True, help="one line that describes it")
    p.add_argument("--out", type=Path, required=True)
    options = p.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    crystals = read_crystals(options.calibration)[-options.n_calibration :]
    export(
        options.checkpoint, crystals, options.name, options.training_set, options.out,
        acentric=options.acentric,
    )  # fmt: skip


if __name__ == "__main__":
    main()
