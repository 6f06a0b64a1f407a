"""phai_cctbx is a module of libtbx by each route of installation, in fresh environments.

A fresh environment is an empty virtual environment into which the libraries of the running one are
linked, all but phai_cctbx: nothing is downloaded, and each route takes seconds.
"""

import os
import shutil
import subprocess
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SOURCES = (
    "LICENSE",
    "MANIFEST.in",
    "Makefile",
    "README.md",
    "docs",
    "libtbx_config",
    "phai_cctbx",
    "pyproject.toml",
    "setup.py",
    "tests",
)
HAS_MODULE = """
import os
import phai_cctbx
import libtbx.load_env
assert libtbx.env.has_module("phai_cctbx")
assert os.path.isfile(libtbx.env.under_dist("phai_cctbx", "libtbx_config"))
print(os.path.dirname(phai_cctbx.__file__))
"""


def run(*command, folder):
    """Run a command without the Python and libtbx settings of this process."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "LIBTBX", "VIRTUAL_ENV"))
    }
    process = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=kept,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.returncode == 0, process.stdout
    return process.stdout


class Environment:
    """An empty virtual environment with the libraries of the running one, but without phai_cctbx.

    Parameters
    ----------
    root : pathlib.Path
        Folder to make it in.
    """

    def __init__(self, root):
        self.root = root
        venv.create(root / "env", with_pip=False, symlinks=True)
        self.bin = root / "env" / "bin"
        self.site_packages = Path(
            sysconfig.get_path("purelib", "venv", {"base": str(root / "env")})
        )
        for entry in Path(sysconfig.get_path("purelib")).iterdir():
            if "phai_cctbx" not in entry.name and entry.suffix != ".pth":
                (self.site_packages / entry.name).symlink_to(entry)
        for pattern in ("cctbx.python", "libtbx.*"):
            for dispatcher in Path(sysconfig.get_path("scripts")).glob(pattern):
                shutil.copy(dispatcher, self.bin)  # not linked: a dispatcher looks beside itself
        self.sources = root / "modules" / "phai_cctbx"
        self.sources.mkdir(parents=True)

    def copy_sources(self, repository):
        """Copy the checkout, less what Git ignores, to ``modules/phai_cctbx``."""
        for name in SOURCES:
            source = repository / name
            if source.is_dir():
                ignore = shutil.ignore_patterns("__pycache__", "*.pyc", "_build")
                shutil.copytree(source, self.sources / name, ignore=ignore)
            else:
                shutil.copy(source, self.sources / name)

    def pip_install(self, *arguments):
        options = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet")
        run(self.bin / "python", "-m", "pip", "install", *options, *arguments, folder=self.root)

    def imported_from(self, interpreter):
        """Folder that phai_cctbx is imported from, after ``libtbx.env`` was seen to know it."""
        return Path(run(interpreter, "-c", HAS_MODULE, folder=self.root).split()[-1])

    def package_files(self, suffixes):
        package = self.sources / "phai_cctbx"
        return {
            str(path.relative_to(self.sources))
            for path in package.rglob("*")
            if path.suffix in suffixes and "__pycache__" not in path.parts
        }


@pytest.fixture
def environment(tmp_path, repository):
    if not (Path(sysconfig.get_path("scripts")) / "cctbx.python").is_file():
        pytest.skip("cctbx is not installed by pip or conda here")
    pytest.importorskip("setuptools", minversion="77")
    fresh = Environment(tmp_path)
    fresh.copy_sources(repository)
    return fresh


def check_commands(environment):
    assert environment.imported_from(environment.bin / "python")
    assert environment.imported_from(environment.bin / "cctbx.python")
    printed = run(environment.bin / "phai_cctbx.version", folder=environment.root)
    assert printed.startswith("phai_cctbx")
    assert {path.name for path in environment.bin.glob("phai_cctbx.*")} == {
        f"phai_cctbx.{path.stem}"
        for path in (environment.sources / "phai_cctbx" / "command_line").glob("[a-z]*.py")
    }


def test_plain_pip(environment):
    environment.pip_install(environment.sources)
    check_commands(environment)
    package = environment.imported_from(environment.bin / "python")
    assert package == environment.site_packages / "phai_cctbx"
    installed = {
        str(path.relative_to(environment.site_packages)) for path in package.rglob("*.*")
    } | {"phai_cctbx/libtbx_config"}
    assert environment.package_files({".py", ".pt", ".json", ".md"}) <= installed
    assert (package / "libtbx_config").is_file()


def test_editable_pip(environment):
    environment.pip_install("--editable", environment.sources)
    check_commands(environment)
    package = environment.imported_from(environment.bin / "python")
    assert package == environment.sources / "phai_cctbx"
    assert not (package / "libtbx_config").exists()


def test_configure_in_a_build_directory(environment):
    """``libtbx.configure`` writes dispatchers, and the module is known without importing it."""
    build = environment.root / "build"
    build.mkdir()
    run(environment.bin / "libtbx.configure", "phai_cctbx", folder=build)
    python = build / "bin" / "phai_cctbx.python"
    assert environment.imported_from(python) == environment.sources / "phai_cctbx"
    known = "import libtbx.load_env; print(libtbx.env.has_module('phai_cctbx'))"
    assert run(python, "-c", known, folder=environment.root).split() == ["True"]
    added = "import phai_cctbx.registration as r; print(r.ensure_registered())"
    assert run(python, "-c", added, folder=environment.root).split() == ["False"]
    printed = run(build / "bin" / "phai_cctbx.version", folder=environment.root)
    assert printed.startswith("phai_cctbx")


def test_source_distribution_is_complete(environment):
    """The sdist holds all that the build and the tests need; a wheel built from it all data."""
    code = """
import sys
from setuptools import build_meta
print(build_meta.build_sdist(sys.argv[1]))
"""
    python, root = environment.bin / "python", environment.root
    name = run(python, "-c", code, root, folder=environment.sources).split()[-1]
    with tarfile.open(root / name) as archive:
        archive.extractall(root, filter="data")
    unpacked = root / name.removesuffix(".tar.gz")
    for source in SOURCES:
        assert (unpacked / source).exists(), source
    held = {str(path.relative_to(unpacked)) for path in unpacked.rglob("*.*")}
    tests = {
        str(path.relative_to(environment.sources))
        for path in (environment.sources / "tests").rglob("*.*")
    }
    assert environment.package_files({".py", ".pt", ".json", ".md"}) | tests <= held

    name = run(python, "-c", code.replace("sdist", "wheel"), root, folder=unpacked).split()[-1]
    with zipfile.ZipFile(root / name) as archive:
        wheel = set(archive.namelist())
    assert environment.package_files({".py", ".pt", ".json", ".md"}) <= wheel
    assert "phai_cctbx/libtbx_config" in wheel
    assert not [entry for entry in wheel if entry.startswith("tests/")]


def test_registering_twice_changes_nothing():
    from phai_cctbx import registration

    assert not registration.ensure_registered()


def test_incomplete_installation_is_named(monkeypatch, tmp_path):
    from phai_cctbx import registration

    module = tmp_path / "phai_cctbx" / "registration.py"
    monkeypatch.setattr(registration, "__file__", str(module))
    with pytest.raises(RuntimeError, match="libtbx_config is missing"):
        registration.distribution_path()
