"""Which libraries may share a process, and in which order: each case in a process of its own."""

import importlib.metadata
import subprocess
import sys

import pytest

CATCH_A_CPP_EXCEPTION = """
from cctbx import sgtbx
try:
    sgtbx.space_group("no Hall symbol")
except RuntimeError as error:
    print("caught:", error)
"""


def run_python(code, path, *options):
    """Run code in a fresh interpreter that finds modules in ``path`` before all others."""
    prologue = f"import sys; sys.path[:0] = {[str(folder) for folder in path]!r}\n"
    return subprocess.run(
        [sys.executable, *options, "-c", prologue + code], capture_output=True, text=True
    )


@pytest.fixture
def fresh(repository):
    """Run code where this checkout is importable."""
    return lambda code: run_python(code, [repository])


@pytest.fixture(scope="module")
def without_cctbx(repository, tmp_path_factory):
    """Run code where everything installed here is importable but cctbx."""
    try:
        installed = importlib.metadata.files("cctbx-base")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("cctbx does not come from the package cctbx-base")
    of_cctbx = {file.parts[0] for file in installed}
    folder = tmp_path_factory.mktemp("site-packages")
    site_packages = importlib.metadata.distribution("torch").locate_file("")
    for entry in site_packages.iterdir():
        if entry.name not in of_cctbx and entry.suffix != ".pth":
            (folder / entry.name).symlink_to(entry)
    return lambda code: run_python(code, [folder, repository], "-I", "-S")


@pytest.mark.parametrize("library", ["torch", "rdkit"])
def test_boost_too_late(fresh, library):
    pytest.importorskip(library)
    process = fresh(f"import {library}\nimport phai_cctbx")
    assert process.returncode == 1
    assert f"ImportError: {library} was imported before cctbx" in process.stderr
    assert f"put 'import phai_cctbx' before 'import {library}'" in process.stderr


def test_boost_between_torch_and_rdkit_is_too_late(fresh):
    """The order counts, and not only what is loaded."""
    names = "['torch', 'boost_python_meta_ext', 'rdkit']"
    process = fresh(f"sys.modules.update(dict.fromkeys({names}, sys))\nimport phai_cctbx")
    assert "ImportError: torch was imported before cctbx" in process.stderr


def test_pyscf_shares_no_process(fresh):
    process = fresh("sys.modules['pyscf'] = sys\nimport phai_cctbx")
    assert process.returncode == 1
    assert "ImportError: pyscf and cctbx in one process" in process.stderr


@pytest.mark.parametrize(
    ("library", "use"),
    [
        ("torch", "print(torch.fft.fft(torch.ones(8)).real.sum().item())"),
        ("rdkit", "from rdkit import Chem\nprint(Chem.MolFromSmiles('C1CC1').GetNumAtoms())"),
    ],
)
def test_boost_first_then_cpp_exceptions_work(fresh, library, use):
    """A C++ exception is where a process with the wrong order dies."""
    pytest.importorskip(library)
    process = fresh(f"import phai_cctbx\nimport {library}\n{use}\n{CATCH_A_CPP_EXCEPTION}")
    assert process.returncode == 0, process.stderr
    assert "caught: cctbx Error" in process.stdout


def test_cctbx_before_torch_without_us(fresh):
    process = fresh("import cctbx.sgtbx, torch, phai_cctbx\n" + CATCH_A_CPP_EXCEPTION)
    assert process.returncode == 0, process.stderr


def test_import_is_light(fresh):
    heavy = "['torch', 'numpy', 'scipy', 'iotbx', 'smtbx', 'cctbx.miller']"
    process = fresh(f"import phai_cctbx\nprint([m for m in {heavy} if m in sys.modules])")
    assert process.stdout.strip() == "[]", process.stderr


def test_unknown_name(fresh):
    process = fresh("import phai_cctbx\nphai_cctbx.no_such_name")
    assert "AttributeError: module 'phai_cctbx' has no attribute 'no_such_name'" in process.stderr


def test_public_names_exist(fresh):
    process = fresh("import phai_cctbx\nfor n in phai_cctbx.__all__: getattr(phai_cctbx, n)")
    assert process.returncode == 0, process.stderr


def test_without_cctbx_network_and_training_import(without_cctbx):
    code = """
import torch
import importlib.util, pkgutil
import phai_cctbx.network, phai_cctbx.training
assert importlib.util.find_spec("cctbx") is None
for room in (phai_cctbx.network, phai_cctbx.training):
    for module in pkgutil.iter_modules(room.__path__, room.__name__ + "."):
        if not module.name.rpartition(".")[2].startswith("gen_"):
            importlib.import_module(module.name)
            print(module.name)
"""
    process = without_cctbx(code)
    assert process.returncode == 0, process.stderr
    assert "phai_cctbx.network." in process.stdout


@pytest.mark.parametrize("name", ["solve", "read", "NeuralPhaser"])
def test_without_cctbx_names_say_what_is_missing(without_cctbx, name):
    process = without_cctbx(f"import phai_cctbx\nphai_cctbx.{name}")
    assert process.returncode == 1
    assert f"ImportError: phai_cctbx.{name} needs cctbx, which is not installed" in process.stderr
