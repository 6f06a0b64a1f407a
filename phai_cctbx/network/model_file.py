"""Models as files: one self-describing TorchScript file each.

Contract 1: `forward(e_value, d_star, epsilon, centric, mask, start, basis, weights)
-> kappa exp(i phase)`, shapes as of `FourierOperator.forward`; the metadata
travel inside the file (`_extra_files`) as JSON.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

#: Version of what a caller may rely on: arguments, result and metadata.
CONTRACT = 1
METADATA_NAME = "phai_cctbx.json"


class ModelFileError(ValueError):
    """A file that is no model of this contract; the message says why."""


@dataclass(frozen=True)
class ModelMetadata:
    """What a model file says of itself.

    Attributes
    ----------
    name : str
    training_set : str
        What it was trained on.
    d_min_range : tuple of float
        Resolution cuts it was trained on, A.
    grid_points_per_d_min : float
    groups : tuple of int
        Space groups it was trained on.
    kappa_scale : tuple of float
        Factors on kappa of centric and acentric reflections that make its
        confidence true on artificial crystals (temperature scaling,
        Guo et al., ICML 2017).
    licence : str
    contract : int
    sha256 : str
        Of the weights, in the order of the state dictionary.
    """

    name: str
    training_set: str
    d_min_range: tuple[float, float]
    grid_points_per_d_min: float
    groups: tuple[int, ...]
    kappa_scale: tuple[float, float] = (1.0, 1.0)
    licence: str = "BSD-3-Clause"
    contract: int = CONTRACT
    sha256: str = ""
    training: dict = field(default_factory=dict)


def weights_digest(model: torch.nn.Module) -> str:
    """SHA-256 of all parameters and buffers, as half precision bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().half().contiguous().numpy().tobytes())
    return digest.hexdigest()


def save_model(model: torch.nn.Module, metadata: ModelMetadata, path: str | Path) -> None:
    """Write a model as TorchScript, weights in half precision, by a temporary name."""
    path = Path(path)
    stored = dict(asdict(metadata), sha256=weights_digest(model), contract=CONTRACT)
    scripted = torch.jit.script(copy.deepcopy(model).eval().cpu().half())
    temporary = path.with_name(path.name + ".part")
    torch.jit.save(scripted, str(temporary), _extra_files={METADATA_NAME: json.dumps(stored)})
    os.replace(temporary, path)


def load_model(path: str | Path) -> tuple[torch.jit.ScriptModule, ModelMetadata]:
    """Read a model file.

    Raises
    ------
    ModelFileError
        Where the file is absent, is no TorchScript, has another contract or
        weights that are not those it was saved with.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelFileError(f"{path}: there is no such file")
    extra = {METADATA_NAME: ""}
    try:
        model = torch.jit.load(str(path), map_location="cpu", _extra_files=extra)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0][:120]
        raise ModelFileError(f"{path}: no TorchScript file, or a damaged one ({reason})") from error
    if not extra[METADATA_NAME]:
        raise ModelFileError(f"{path}: a TorchScript file, but no model of phai_cctbx")
    try:
        stored = json.loads(extra[METADATA_NAME])
    except json.JSONDecodeError as error:
        raise ModelFileError(f"{path}: its description cannot be read ({error})") from error
    if stored.get("contract") != CONTRACT:
        raise ModelFileError(
            f"{path}: made for contract {stored.get('contract')}, this phai_cctbx needs {CONTRACT}"
        )
    for name in ("d_min_range", "groups", "kappa_scale"):
        stored[name] = tuple(stored[name])
    try:
        metadata = ModelMetadata(**stored)
    except TypeError as error:
        raise ModelFileError(f"{path}: its description is not complete ({error})") from error
    if weights_digest(model) != metadata.sha256:
        raise ModelFileError(f"{path}: its weights are not those it was saved with")
    return model.float().eval(), metadata
