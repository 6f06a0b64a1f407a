"""Models as files: one self-describing TorchScript file each.

A file names its architecture; one that names none holds the Fourier operator.
Contract 2 of that: `forward(e_value, d_star, epsilon, centric, mask, start, blocks,
weights, places) -> kappa exp(i phase)`, shapes as of `FourierOperator.forward`; the metadata
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
CONTRACT = 2
#: What `save_model` writes and `load_model` reads.
ARCHITECTURE = "neural"
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
    fills_in : bool
        Whether reflections that were not measured are to take part as well, with
        `NOT_MEASURED` for |E|: the network finds amplitude and phase for them.
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
    fills_in: bool = False
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
    stored = dict(asdict(metadata), sha256=weights_digest(model), contract=CONTRACT)
    write_model_file(copy.deepcopy(model).eval().cpu().half(), stored, path)


def write_model_file(model: torch.nn.Module, description: dict, path: str | Path) -> None:
    """Write a module as TorchScript with its description, by a temporary name."""
    path = Path(path)
    temporary = path.with_name(path.name + ".part")
    extra = {METADATA_NAME: json.dumps(description)}
    torch.jit.save(torch.jit.script(model), str(temporary), _extra_files=extra)
    os.replace(temporary, path)


def load_model(path: str | Path) -> tuple[torch.jit.ScriptModule, ModelMetadata]:
    """Read a model file.

    Raises
    ------
    ModelFileError
        As `read_model_file`, or where its description is not complete.
    """
    model, stored = read_model_file(path, ARCHITECTURE, CONTRACT)
    for name in ("d_min_range", "groups", "kappa_scale"):
        stored[name] = tuple(stored[name])
    try:
        metadata = ModelMetadata(**stored)
    except TypeError as error:
        raise ModelFileError(f"{path}: its description is not complete ({error})") from error
    return model.float().eval(), metadata


def read_model_file(
    path: str | Path, architecture: str, contract: int
) -> tuple[torch.jit.ScriptModule, dict]:
    """A module and its description as stored, without the name of the architecture.

    Parameters
    ----------
    architecture : str
        What is expected, by the name of the phasing strategy that runs it.
    contract : int
        Of that architecture.

    Raises
    ------
    ModelFileError
        Where the file is absent, is no TorchScript, holds another architecture
        or contract, or weights that are not those it was saved with.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelFileError(f"{path}: there is no such file")
    extra = {METADATA_NAME: ""}
    try:
        model = torch.jit.load(str(path), map_location="cpu", _extra_files=extra)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0].partition(". ")[0][:120]
        raise ModelFileError(f"{path}: no TorchScript file, or a damaged one ({reason})") from error
    if not extra[METADATA_NAME]:
        raise ModelFileError(f"{path}: a TorchScript file, but no model of phai_cctbx")
    try:
        stored = json.loads(extra[METADATA_NAME])
    except json.JSONDecodeError as error:
        raise ModelFileError(f"{path}: its description cannot be read ({error})") from error
    found = stored.pop("architecture", ARCHITECTURE)
    if found != architecture:
        raise ModelFileError(
            f"{path}: holds a network for strategy={found}, not for strategy={architecture}"
        )
    if stored.get("contract") != contract:
        raise ModelFileError(
            f"{path}: made for contract {stored.get('contract')}, this phai_cctbx needs {contract}"
        )
    if weights_digest(model) != stored.get("sha256"):
        raise ModelFileError(f"{path}: its weights are not those it was saved with")
    return model, stored
