"""X-ray form factors, radii, volumes and electronegativities of the elements 1 to 96.

All are arrays over the atomic number.

The table ``elements.json`` is made by ``gen_elements.py``, which names the sources. Row 0 of every
array pads: an atom of atomic number 0 scatters nothing.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

TABLE = Path(__file__).with_name("elements.json")
_ROWS = json.loads(TABLE.read_text(encoding="ascii"))


def _column(name: str) -> np.ndarray:
    return np.array([0.0] + [row[name] for row in _ROWS])


#: Symbol of each atomic number; the empty string for 0.
SYMBOLS = ("", *(row["symbol"] for row in _ROWS))
#: Atomic number of each symbol.
ATOMIC_NUMBERS = {symbol: z for z, symbol in enumerate(SYMBOLS) if symbol}
#: Covalent radii, A, shape (97,).
COVALENT_RADII = _column("covalent_radius")
#: Van der Waals radii, A, shape (97,).
VAN_DER_WAALS_RADII = _column("van_der_waals_radius")
#: Average volume of an atom in molecular crystals, A^3, shape (97,).
ATOMIC_VOLUMES = _column("volume")
#: Electronegativities, Pauling's scale, shape (97,); 0 where none is given.
ELECTRONEGATIVITIES = _column("electronegativity")

#: The number, after those of the elements, of one electron of charge that an atom gained: a
#: Gaussian, exp(-4 A^2 s^2). Of the widths tried it fits Hirshfeld atoms best.
CHARGE = len(SYMBOLS)
CHARGE_WIDTH = 4.0

_GAUSSIANS = np.zeros((len(SYMBOLS) + 1, 9))
_GAUSSIANS[1:CHARGE] = [row["a"] + row["b"] + [row["c"]] for row in _ROWS]
_GAUSSIANS[CHARGE, [0, 4]] = 1.0, CHARGE_WIDTH


@functools.lru_cache(maxsize=8)
def _gaussians(device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.tensor(_GAUSSIANS, device=device, dtype=dtype)


def form_factors(atomic_numbers: Tensor, s_sq: Tensor) -> Tensor:
    """Form factors of neutral atoms, ``sum_k a_k exp(-b_k s^2) + c`` with s = sin(theta)/lambda.

    Parameters
    ----------
    atomic_numbers : Tensor of int64, shape (..., a)
        0 pads.
    s_sq : Tensor, shape (..., n)
        (d*/2)^2 of each reflection, A^-2.

    Returns
    -------
    Tensor, shape (..., n, a)
        In electrons.
    """
    table = _gaussians(s_sq.device, s_sq.dtype)[atomic_numbers][..., None, :, :]
    a, b, c = table[..., :4], table[..., 4:8], table[..., 8]
    f = c.expand(*torch.broadcast_shapes(c.shape, (*s_sq.shape, 1))).clone()
    for k in range(4):
        f += a[..., k] * torch.exp(-b[..., k] * s_sq[..., None])
    return f
