# LIBTBX_SET_DISPATCHER_NAME phai_cctbx.version
"""Prints the versions that a report of a fault should name."""

import argparse
import platform
import sys
from importlib import metadata

from phai_cctbx import __version__

DISTRIBUTIONS = ("cctbx-base", "torch", "numpy", "pyscf", "finufft", "rdkit")


def versions():
    """Name and version of phai_cctbx, of Python, and of what they stand on.

    Returns
    -------
    dict[str, str]
        ``"not found"`` where pip knows no such distribution, as in a source build of cctbx.
    """
    found = {"phai_cctbx": __version__, "python": platform.python_version()}
    for name in DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not found"
    return found


def run(args=None):
    """Print one line per name."""
    parser = argparse.ArgumentParser(prog="phai_cctbx.version", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    parser.parse_args(args)
    for name, version in versions().items():
        sys.stdout.write(f"{name:12s} {version}\n")


if __name__ == "__main__":
    sys.exit(run())
