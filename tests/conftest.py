"""Fixtures for all tests. Importing phai_cctbx here loads Boost before any test loads torch."""

import os
from pathlib import Path

import pytest

import phai_cctbx  # noqa: F401

REPOSITORY = Path(__file__).resolve().parent.parent
DATA_VARIABLE = "PHAI_CCTBX_DATA"

# Small operations spread over cores that others keep busy run many times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def repository():
    """Root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data():
    """Folder with ``measured/`` and ``structures/``, or a skip that says how to name it."""
    named = os.environ.get(DATA_VARIABLE)
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if not (folder / "measured" / "index.tsv").is_file():
        pytest.skip(f"no crystallographic data in {folder}: set {DATA_VARIABLE} to their folder")
    return folder


@pytest.fixture(scope="session")
def thpp_folder():
    """Folder of the measured thpp data (C10H10F2N4, P 1 21/n 1) that cctbx installs."""
    import smtbx

    folder = Path(smtbx.__path__[0], "regression", "test_data")
    if not (folder / "thpp.ins").is_file():
        pytest.skip(f"this cctbx has no thpp data in {folder}")
    return folder
