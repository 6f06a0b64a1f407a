"""The network of PhAI: amplitudes and phases in a box of indices in, two logits per phase out.

Larsen, Rekis & Madsen, Science 385, 522, 2024. Written from the published description; parameters
have the names and shapes of the authors' checkpoint (doi:10.17894/ucph.681ff154-a66a-41f4-aee6-
9168777de7d9), which is not part of this package. It knows P 1 21/c 1 alone, where phases are 0
or 180 degrees.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import torch
from torch import Tensor, nn

#: Indices run to this; reflections stand inside a sphere of this radius in index space.
MAX_INDEX = 10
#: h from -10 to 10, k and l from 0 to 10.
GRID_SHAPE = (2 * MAX_INDEX + 1, MAX_INDEX + 1, MAX_INDEX + 1)
#: Reflections inside the sphere, (h, 0, 0) of both signs and (-h, k, 0) counted.
N_REFLECTIONS = 1205
#: Phases of the two classes as the network reads them back, degrees.
CLASS_PHASES = (-180.0, 0.0)

#: Sizes of the published network.
FILTERS = 96
KERNEL = 3
CONVOLUTION_BLOCKS = 6
MIXER_DEPTH = 8
DIM = 1024
CHANNEL_EXPANSION = 2048
TOKEN_EXPANSION = 512


def sphere_indices() -> np.ndarray:
    """Miller indices of the reflections in the network's order (l fastest), shape (1205, 3)."""
    h, k, l = np.indices(GRID_SHAPE)  # noqa: E741
    hkl = np.stack([h - MAX_INDEX, k, l], axis=-1).reshape(-1, 3)
    square = (hkl**2).sum(1)
    return hkl[(square > 0) & (square <= MAX_INDEX**2)]


def grid_positions() -> Tensor:
    """Positions of the reflections in the flattened grid, shape (1205,)."""
    hkl = sphere_indices() + [MAX_INDEX, 0, 0]
    return torch.from_numpy(np.ravel_multi_index(tuple(hkl.T), GRID_SHAPE))


def to_grid(values: Tensor) -> Tensor:
    """Values of the 1205 reflections in the box, zero elsewhere: (b, 1205) -> (b, 21, 11, 11)."""
    grid = values.new_zeros(len(values), int(np.prod(GRID_SHAPE)))
    grid[:, grid_positions()] = values
    return grid.reshape(-1, *GRID_SHAPE)


class ConvolutionBlock(nn.Module):
    """Two convolutions, each with GELU and a norm per channel, beside the identity."""

    def __init__(self, filters: int, kernel: int):
        super().__init__()
        self.conv1 = nn.Conv3d(filters, filters, kernel, padding=kernel // 2)
        self.norm1 = nn.GroupNorm(filters, filters)
        self.conv2 = nn.Conv3d(filters, filters, kernel, padding=kernel // 2)
        self.norm2 = nn.GroupNorm(filters, filters)
        self.activation = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        """Shape (b, filters, 21, 11, 11) in and out."""
        y = self.norm1(self.activation(self.conv1(x)))
        return x + self.norm2(self.activation(self.conv2(y)))


class MixerLayer(nn.Module):
    """One half of an MLP-Mixer layer (Tolstikhin et al., NeurIPS 2021) beside the identity.

    Parameters
    ----------
    tokens : int
        Rows, each normalised by itself.
    layer1, layer2 : nn.Module
        1x1 convolutions mix tokens, linear layers mix channels.
    """

    def __init__(self, tokens: int, layer1: nn.Module, layer2: nn.Module):
        super().__init__()
        self.norm1 = nn.GroupNorm(tokens, tokens)
        self.layer1 = layer1
        self.layer2 = layer2
        self.activation = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        """Shape (b, tokens, dim) in and out."""
        return x + self.layer2(self.activation(self.layer1(self.norm1(x))))


class TokenMean(nn.Module):
    """Mean over tokens, (b, tokens, dim) -> (b, dim)."""

    def forward(self, x: Tensor) -> Tensor:
        """The mean."""
        return x.mean(1)


class PhaiNetwork(nn.Module):
    """Convolutions over the box of indices, then an MLP-Mixer with a token per channel.

    The sizes default to those of the published network, 42 443 882 parameters; the names of
    the modules are those of its checkpoint.
    """

    def __init__(
        self,
        filters: int = FILTERS,
        convolution_blocks: int = CONVOLUTION_BLOCKS,
        mixer_depth: int = MIXER_DEPTH,
        dim: int = DIM,
        channel_expansion: int = CHANNEL_EXPANSION,
        token_expansion: int = TOKEN_EXPANSION,
    ):
        super().__init__()
        self.net_a = self._entrance(filters)
        self.net_p = self._entrance(filters)
        self.net_convolution_layers = nn.Sequential(
            *(nn.Sequential(ConvolutionBlock(filters, KERNEL)) for _ in range(convolution_blocks))
        )
        self.net_projection_layer = nn.Sequential(
            nn.Flatten(2), nn.Linear(int(np.prod(GRID_SHAPE)), dim)
        )
        self.net_mixer_layers = nn.Sequential(
            *(
                nn.Sequential(
                    MixerLayer(
                        filters,
                        nn.Conv1d(filters, token_expansion, 1),
                        nn.Conv1d(token_expansion, filters, 1),
                    ),
                    MixerLayer(
                        filters,
                        nn.Linear(dim, channel_expansion),
                        nn.Linear(channel_expansion, dim),
                    ),
                )
                for _ in range(mixer_depth)
            ),
            nn.LayerNorm(dim),
        )
        # The authors' modules 0 to 2 take the mean; "3" is the name in their checkpoint.
        self.net_output = nn.Sequential(
            OrderedDict(
                [
                    ("mean", TokenMean()),
                    ("3", nn.Linear(dim, len(CLASS_PHASES) * N_REFLECTIONS)),
                    ("classes", nn.Unflatten(1, (len(CLASS_PHASES), N_REFLECTIONS))),
                ]
            )
        )

    @staticmethod
    def _entrance(filters: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Unflatten(1, (1, GRID_SHAPE[0])),
            nn.Conv3d(1, filters, KERNEL, padding=KERNEL // 2),
            nn.GELU(),
            nn.GroupNorm(filters, filters),
        )

    def forward(self, amplitudes: Tensor, phases: Tensor) -> Tensor:
        """Logits of the classes -180 and 0 degrees.

        Parameters
        ----------
        amplitudes : Tensor, shape (b, 21, 11, 11)
            The largest is 1; 0 where a reflection is not known.
        phases : Tensor, shape (b, 21, 11, 11)
            0 or -180 degrees; 0 where nothing is known.

        Returns
        -------
        Tensor, shape (b, 2, 1205)
        """
        x = self.net_a(amplitudes) + self.net_p(phases)
        x = self.net_convolution_layers(x)
        x = self.net_projection_layer(x)
        x = self.net_mixer_layers(x)
        return self.net_output(x)


def likely_phases(logits: Tensor) -> Tensor:
    """The likelier phase of each reflection, 0 or -180 degrees: (b, 2, 1205) -> (b, 1205)."""
    return torch.tensor(CLASS_PHASES)[logits.argmax(1)]


def recycle(model: nn.Module, amplitudes: Tensor, start: Tensor, n_passes: int) -> Tensor:
    """Logits after some passes, all 1205 phases of each fed to the next.

    Parameters
    ----------
    model : PhaiNetwork, or the same as a ScriptModule
    amplitudes : Tensor, shape (b, 1205)
        Any scale.
    start : Tensor, shape (b, 1205)
        Phases of the first pass, degrees; the authors begin with zeros.
    n_passes : int

    Returns
    -------
    Tensor, shape (b, 2, 1205)
    """
    grid = to_grid(amplitudes / amplitudes.amax(1, keepdim=True))
    logits = torch.zeros(len(start), len(CLASS_PHASES), N_REFLECTIONS)
    phases = start
    for _ in range(n_passes):
        logits = model(grid, to_grid(phases))
        phases = likely_phases(logits)
    return logits
