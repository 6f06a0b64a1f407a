"""Phasing and structure solution at low resolution, as a module of cctbx.

Boost.Python of cctbx must be loaded before torch and RDKit, or the process ends in a segmentation
fault later, and PySCF cannot share a process with it at all: this module imports Boost first,
refuses to go on where it would come too late, and then registers itself with libtbx. Where cctbx is
not installed, the rooms ``network`` and ``training`` work all the same. The public names below are
imported when they are first used, so that ``import phai_cctbx`` loads neither torch nor the rest of
cctbx.
"""

import importlib
import importlib.util
import sys

from phai_cctbx.version import __version__

__all__ = [
    "ChargeFlippingPhaser",
    "NeuralPhaser",
    "PhaiPhaser",
    "PhasingResult",
    "__version__",
    "read",
    "solve",
]

_PUBLIC_NAMES = {
    "ChargeFlippingPhaser": "phai_cctbx.phasing.charge_flipping",
    "NeuralPhaser": "phai_cctbx.phasing.neural",
    "PhaiPhaser": "phai_cctbx.phasing.phai",
    "PhasingResult": "phai_cctbx.phasing.result",
    "read": "phai_cctbx.io.read",
    "solve": "phai_cctbx.programs.pipeline",
}

_BOOST_EXTENSION = "boost_python_meta_ext"
_LOADED_AFTER_BOOST = ("torch", "rdkit")
_NEVER_WITH_BOOST = "pyscf"


def _has_cctbx():
    return importlib.util.find_spec("boost_adaptbx") is not None


def _load_boost_first():
    """Load Boost.Python of cctbx, unless it would come too late.

    ``sys.modules`` keeps the order in which modules were loaded.

    Raises
    ------
    ImportError
        If torch or RDKit were imported before Boost.Python of cctbx, or PySCF at any time.
    """
    if _NEVER_WITH_BOOST in sys.modules:
        raise ImportError(
            f"{_NEVER_WITH_BOOST} and cctbx in one process end in a segmentation fault: "
            f"use {_NEVER_WITH_BOOST} in a process of its own",
            name=__name__,
        )
    loaded = list(sys.modules)
    if _BOOST_EXTENSION in loaded:
        loaded = loaded[: loaded.index(_BOOST_EXTENSION)]
    too_early = [name for name in _LOADED_AFTER_BOOST if name in loaded]
    if too_early:
        raise ImportError(
            f"{' and '.join(too_early)} was imported before cctbx, which ends in a segmentation "
            f"fault: put 'import phai_cctbx' before 'import {too_early[0]}'",
            name=__name__,
        )
    importlib.import_module("boost_adaptbx.boost.python")


def __getattr__(name):
    """Import a public name when it is first used (PEP 562)."""
    if name not in _PUBLIC_NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if not _has_cctbx():
        raise ImportError(
            f"phai_cctbx.{name} needs cctbx, which is not installed here: "
            "pip install 'phai_cctbx[cctbx]' (phai_cctbx.network and phai_cctbx.training work "
            "without it)",
            name="cctbx",
        )
    value = getattr(importlib.import_module(_PUBLIC_NAMES[name]), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *__all__})


if _has_cctbx():
    _load_boost_first()
    importlib.import_module("phai_cctbx.registration").ensure_registered()
