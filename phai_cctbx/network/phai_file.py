"""The published checkpoint of PhAI in, a model file of this package out, and the file read back.

Contract 1 of the architecture "phai": `forward(amplitudes, phases) -> logits`, shapes as of
`phai_cctbx.network.phai.PhaiNetwork.forward`. Weights stay in single precision, as published.
"""

from __future__ import annotations

import hashlib
import pickle
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from phai_cctbx.network.model_file import (
    ModelFileError,
    read_model_file,
    weights_digest,
    write_model_file,
)
from phai_cctbx.network.phai import PhaiNetwork

ARCHITECTURE = "phai"
CONTRACT = 1
#: Where the authors publish data and parameters.
SOURCE = "https://doi.org/10.17894/ucph.681ff154-a66a-41f4-aee6-9168777de7d9"
CITATION = "Larsen, Rekis & Madsen, Science 385, 522 (2024), doi:10.1126/science.adn2777"
#: Names in the authors' first version, where the mean over tokens was one module, not three.
_FIRST_OUTPUT, _OUTPUT = "net_output.2.", "net_output.3."
#: What an error message lists at most.
_N_NAMED = 3


@dataclass(frozen=True)
class PhaiMetadata:
    """What the file says of itself.

    Attributes
    ----------
    name, source, citation : str
    checkpoint_sha256 : str
        Of the checkpoint that was imported.
    groups : tuple of int
        Space groups, reference setting.
    max_axis : float
        Longest cell axis it was trained on, A.
    d_min : float
        Coarsest resolution it was trained on, A.
    completeness : float
        Least completeness it was trained on.
    contract : int
    sha256 : str
        Of the weights.
    """

    checkpoint_sha256: str
    name: str = "PhAI"
    source: str = SOURCE
    citation: str = CITATION
    groups: tuple[int, ...] = (14,)
    max_axis: float = 10.0
    d_min: float = 2.0
    completeness: float = 0.85
    contract: int = CONTRACT
    sha256: str = ""


def import_checkpoint(checkpoint: str | Path, path: str | Path) -> PhaiMetadata:
    """Write the model file of a checkpoint.

    Raises
    ------
    ModelFileError
        As `read_checkpoint`.
    """
    model = read_checkpoint(checkpoint)
    digest = hashlib.sha256(Path(checkpoint).read_bytes()).hexdigest()
    return save_phai(model, PhaiMetadata(checkpoint_sha256=digest), path)


def save_phai(model: PhaiNetwork, metadata: PhaiMetadata, path: str | Path) -> PhaiMetadata:
    """Write a network with its description."""
    stored = dict(asdict(metadata), sha256=weights_digest(model), contract=CONTRACT)
    write_model_file(model.eval(), {"architecture": ARCHITECTURE, **stored}, path)
    return PhaiMetadata(**stored)


def load_phai(path: str | Path) -> tuple[torch.jit.ScriptModule, PhaiMetadata]:
    """Read a model file.

    Raises
    ------
    ModelFileError
        Where it is no such file, or a damaged one.
    """
    model, stored = read_model_file(path, ARCHITECTURE, CONTRACT)
    try:
        metadata = PhaiMetadata(**dict(stored, groups=tuple(stored["groups"])))
    except (KeyError, TypeError) as error:
        raise ModelFileError(f"{path}: its description is not complete ({error})") from error
    return model.eval(), metadata


def read_checkpoint(path: str | Path) -> PhaiNetwork:
    """The network with the parameters of a checkpoint.

    Raises
    ------
    ModelFileError
        Where the file cannot be read, or a parameter is missing, unknown, of another shape or
        type, or not finite; the message names it.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelFileError(f"{path}: there is no such file")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelFileError(
            f"{path}: holds more than tensors, or is no PyTorch checkpoint; nothing was run from it"
        ) from error
    except Exception as error:  # the reader of pickles lets bytes of any kind raise anything
        reason = (str(error).strip() or repr(error)).splitlines()[0].partition(".")[0]
        raise ModelFileError(
            f"{path}: no PyTorch checkpoint, or a damaged one ({reason})"
        ) from error
    try:
        return set_parameters(PhaiNetwork(), state)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: not the checkpoint of PhAI: {error}") from error


def set_parameters(model: PhaiNetwork, state: object) -> PhaiNetwork:
    """Give the network the parameters of a checkpoint's content, all of them and no others.

    Raises
    ------
    ModelFileError
        Naming the parameters that do not fit.
    """
    state = published_form(state)
    _check(state, model.state_dict())
    model.load_state_dict(state, strict=True)
    return model.eval()


def published_form(state: object) -> dict[str, Tensor]:
    """Parameters under the names and in the shapes of the published network.

    The authors' first version mixed tokens by linear layers instead of 1x1 convolutions and
    counted the output module as 2: the same numbers under other names.
    """
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise ModelFileError(
            f"a dictionary of parameters is expected, found {type(state).__name__}"
            + (" of " + _list(map(str, state)) if isinstance(state, dict) else "")
        )
    renamed = {}
    for name, value in state.items():
        if name.startswith(_FIRST_OUTPUT):
            name = _OUTPUT + name[len(_FIRST_OUTPUT) :]
        parts = name.split(".")
        mixes_tokens = parts[0] == "net_mixer_layers" and parts[2:3] == ["0"]
        if mixes_tokens and parts[-1] == "weight" and parts[-2] != "norm1" and value.dim() == 2:
            value = value[..., None]
        renamed[name] = value
    return renamed


def _check(state: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    missing = [name for name in expected if name not in state]
    unknown = [name for name in state if name not in expected]
    if missing or unknown:
        found = [f"{len(missing)} parameters missing ({_list(missing)})"] if missing else []
        found += [f"{len(unknown)} unknown ({_list(unknown)})"] if unknown else []
        raise ModelFileError(", ".join(found))
    shapes = [
        f"{name} is {tuple(state[name].shape)}, expected {tuple(value.shape)}"
        for name, value in expected.items()
        if state[name].shape != value.shape
    ]
    if shapes:
        raise ModelFileError(f"{len(shapes)} of another shape: {_list(shapes, '; ')}")
    types = [
        f"{name} is {str(value.dtype).removeprefix('torch.')}"
        for name, value in state.items()
        if value.dtype != torch.float32
    ]
    if types:
        raise ModelFileError(f"{len(types)} not float32: {_list(types)}")
    not_finite = [name for name, value in state.items() if not bool(torch.isfinite(value).all())]
    if not_finite:
        raise ModelFileError(f"numbers that are not finite in {_list(not_finite)}")


def _list(names, separator: str = ", ") -> str:
    names = list(names)
    shown = separator.join(names[:_N_NAMED])
    return shown + (f"{separator}and {len(names) - _N_NAMED} more" if len(names) > _N_NAMED else "")
