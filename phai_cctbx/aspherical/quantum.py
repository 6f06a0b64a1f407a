"""Electron densities from PySCF, run in a worker process and kept in the cache.

`Method` says how, `Quantum` runs it: spherical atoms, molecules with their Hirshfeld
parts, and the transforms of these to form factors.
"""

import functools
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from libtbx.utils import Sorry

from phai_cctbx.aspherical.cache import Cache

logger = logging.getLogger(__name__)

WORKER = Path(__file__).with_name("worker.py")

METHODS = ("HF", "PBE", "B3LYP", "R2SCAN", "WB97X-D")
BASES = ("def2-SVP", "def2-TZVP", "STO-3G")

COORDINATE_DECIMALS = 6
"""Coordinates (A) and charges (e) are rounded to this before a calculation, so that a
repeated run finds the same content; esds of positions are a hundred times larger."""

JOB_PREFIX = "job_"

ABANDONED_AFTER = 86400.0
"""Seconds without a change after which a job's folder is left over from a killed run."""

CRASHED = "the worker process ended with code {code} without a message{hint}"


@dataclass(frozen=True)
class Method:
    """How the electron density is calculated.

    Attributes
    ----------
    method : str
        One of `METHODS`.
    basis : str
        One of `BASES`.
    relativity : str
        ``"ecp"`` (nonrelativistic; def2 core potentials from Rb on) or ``"x2c"`` (scalar
        relativistic, all electron, in Jorge DZP-DKH or TZP-DKH).
    grid_level : int
        Becke grid for the partition and the transform, PySCF levels 0 to 9.
    scf_grid_level : int
        Grid of the exchange-correlation functional during the SCF.
    density_fitting : bool
        Coulomb and exchange integrals by density fitting.
    scf_max_cycles : int
        DIIS cycles before damping and then second order are tried.
    """

    method: str = "B3LYP"
    basis: str = "def2-SVP"
    relativity: str = "ecp"
    grid_level: int = 3
    scf_grid_level: int = 1
    density_fitting: bool = True
    scf_max_cycles: int = 60

    def __post_init__(self):
        if self.method not in METHODS:
            raise Sorry(f"method {self.method!r} is not known. Choose from: {', '.join(METHODS)}.")
        if self.basis not in BASES:
            raise Sorry(f"basis {self.basis!r} is not known. Choose from: {', '.join(BASES)}.")
        if self.relativity not in ("ecp", "x2c"):
            raise Sorry(f"relativity {self.relativity!r}: choose ecp or x2c.")
        if self.relativity == "x2c" and not self.basis.startswith("def2"):
            raise Sorry("relativity=x2c has bases for def2-SVP and def2-TZVP only.")

    def description(self):
        """One line for logs, tables and CIFs."""
        fitting = ", density fitting" if self.density_fitting else ""
        treatment = "scalar X2C" if self.relativity == "x2c" else "non-relativistic, ECP from Rb on"
        return f"{self.method}/{self.basis} ({treatment}{fitting})"


@dataclass(frozen=True)
class MoleculeDensity:
    """Hirshfeld atoms of one molecule.

    Attributes
    ----------
    points, values : numpy.ndarray, (n, 3) bohr and (n,) e
        Deformation density on the grid, relative to each nucleus; `offsets` (n_atoms + 1).
    charges : numpy.ndarray, (n_atoms,), e
    dipoles : numpy.ndarray, (n_atoms, 3), e A
    density_matrix : numpy.ndarray
        To start the next SCF from.
    n_electrons : float
        Electrons counted on the grid.
    n_core : numpy.ndarray, (n_atoms,)
        Electrons in effective core potentials.
    energy : float, hartree
    """

    points: np.ndarray
    values: np.ndarray
    offsets: np.ndarray
    charges: np.ndarray
    dipoles: np.ndarray
    density_matrix: np.ndarray
    n_electrons: float
    n_core: np.ndarray
    energy: float


@dataclass(frozen=True)
class RelaxedGeometry:
    """A geometry of least energy.

    Attributes
    ----------
    coordinates : numpy.ndarray, (n_atoms, 3), A
    energy : float, hartree
    converged : bool
        Whether the gradient is as small as it should be.
    n_steps : int
    """

    coordinates: np.ndarray
    energy: float
    converged: bool
    n_steps: int


@dataclass
class Quantum:
    """Runs the worker for one `Method`, through the cache.

    Parameters
    ----------
    method : Method
    cache : Cache
    threads : int
        Threads of the worker; 0 is all cores.
    memory_mb : float
        Bound given to PySCF; 0 is half of the memory that is free now.
    python : str
        Interpreter that has PySCF; default the running one.
    progress : callable(str), optional
        Told each stage as it goes on.
    """

    method: Method = field(default_factory=Method)
    cache: Cache = field(default_factory=Cache)
    threads: int = 0
    memory_mb: float = 0.0
    python: str = sys.executable
    progress: object = None

    def __post_init__(self):
        self.threads = (
            self.threads or len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else self.threads or os.cpu_count()
        )
        self.memory_mb = self.memory_mb or free_memory_mb() / 2
        kinds = ("proatom", "molecule", "geometry", "transform")
        self.seconds = dict.fromkeys(kinds, 0.0)
        self.n_computed = dict.fromkeys(kinds, 0)
        self.n_cached = dict.fromkeys(kinds, 0)

    def proatom(self, z):
        """Spherical density of a neutral atom.

        Returns
        -------
        dict
            ``density`` (e/bohr^3 on the worker's radial grid), ``n_core``, ``n_electrons``.
        """
        settings = self._settings("proatom", z=int(z))
        return self._run(settings, {}, f"spherical atom Z = {z}")

    def molecule(
        self,
        numbers,
        coordinates,
        charge,
        multiplicity,
        charge_positions=None,
        charges=None,
        guess=None,
        name="molecule",
    ):
        """Hirshfeld atoms of a molecule, embedded in point charges.

        Parameters
        ----------
        numbers : sequence of int
            Atomic numbers.
        coordinates, charge_positions : numpy.ndarray, (n, 3), A
        charge, multiplicity : int
        charges : numpy.ndarray, (n,), e
        guess : numpy.ndarray, optional
            Density matrix to start from; not part of the content.

        Raises
        ------
        Sorry
            The number of electrons does not fit the multiplicity, PySCF is missing, the
            SCF does not converge, or the worker dies.
        """
        numbers = np.asarray(numbers, dtype=int)
        n_electrons = int(numbers.sum()) - charge
        if multiplicity < 1 or (n_electrons - multiplicity + 1) % 2 or n_electrons < 1:
            raise Sorry(
                f"{name}: charge {charge:+d} gives {n_electrons} electrons, which cannot have "
                f"multiplicity {multiplicity}. Give charge= and multiplicity= for this molecule."
            )
        elements = sorted(set(numbers.tolist()))
        proatoms = [self.proatom(z)["density"] for z in elements]
        arrays = {
            "numbers": numbers,
            "coordinates": np.round(coordinates, COORDINATE_DECIMALS) + 0.0,
            "charge_positions": np.round(
                np.zeros((0, 3)) if charge_positions is None else charge_positions,
                COORDINATE_DECIMALS,
            )
            + 0.0,
            "charges": np.round(np.zeros(0) if charges is None else charges, COORDINATE_DECIMALS)
            + 0.0,
        }
        settings = self._settings("molecule", charge=int(charge), multiplicity=int(multiplicity))
        extra = {"proatom_elements": np.array(elements), "proatom_densities": np.array(proatoms)}
        if guess is not None:
            extra["guess"] = guess
        out = self._run(settings, arrays, name, extra)
        return MoleculeDensity(
            points=out["points"],
            values=out["values"],
            offsets=out["offsets"],
            charges=out["hirshfeld_charges"],
            dipoles=out["hirshfeld_dipoles"],
            density_matrix=out["density_matrix"],
            n_electrons=float(out["n_electrons"]),
            n_core=out["n_core"],
            energy=float(out["energy"]),
        )

    def geometry(self, numbers, coordinates, charge, name="geometry"):
        """Coordinates of least energy of a molecule without unpaired electrons, in a continuum.

        Parameters
        ----------
        numbers : sequence of int
            Atomic numbers.
        coordinates : numpy.ndarray, (n, 3), A
        charge : int

        Returns
        -------
        RelaxedGeometry

        Raises
        ------
        Sorry
            The number of electrons is odd, PySCF is missing, the SCF does not converge, or the
            worker dies.
        """
        numbers = np.asarray(numbers, dtype=int)
        if (int(numbers.sum()) - charge) % 2:
            raise Sorry(f"{name}: charge {charge:+d} leaves an unpaired electron: use mmff.")
        arrays = {
            "numbers": numbers,
            "coordinates": np.round(coordinates, COORDINATE_DECIMALS) + 0.0,
        }
        settings = self._settings("geometry", charge=int(charge), multiplicity=1)
        out = self._run(settings, arrays, name)
        return RelaxedGeometry(
            coordinates=out["coordinates"],
            energy=float(out["energy"]),
            converged=bool(out["converged"]),
            n_steps=int(out["n_steps"]),
        )

    def transform(self, density, atoms, fractionalization, indices, name="transform"):
        """Deformation form factors of some atoms of a molecule.

        Parameters
        ----------
        density : MoleculeDensity
        atoms : sequence of int
        fractionalization : numpy.ndarray, (3, 3), A^-1
            Takes Cartesian A of the molecule to fractions of the cell.
        indices : numpy.ndarray of int, (n_h, 3)

        Returns
        -------
        numpy.ndarray, complex, (n_atoms, n_h), e
        """
        arrays = {
            "points": density.points,
            "values": density.values,
            "offsets": density.offsets,
            "atoms": np.asarray(atoms, dtype=int),
            "indices": np.asarray(indices, dtype=int),
            "h_max": np.abs(indices).max(axis=0).astype(int),
            "fractionalization": np.round(fractionalization, 12) + 0.0,
        }
        return self._run({"kind": "transform"}, arrays, name)["form_factors"]

    def _settings(self, kind, **more):
        settings = {"kind": kind, **asdict(self.method), **more}
        if kind == "proatom":
            for name in ("grid_level", "scf_grid_level", "density_fitting", "scf_max_cycles"):
                settings.pop(name)
        return settings

    def _run(self, settings, arrays, name, extra=None):
        kind = settings["kind"]
        started = time.time()

        def compute():
            self.n_computed[kind] += 1
            job = {
                "density_fitting": False,
                **settings,
                "threads": self.threads,
                "memory_mb": self.memory_mb,
            }
            return self._start_worker(job, {**arrays, **(extra or {})}, name)

        result, from_disk = self.cache.get(settings, arrays, compute)
        self.n_cached[kind] += from_disk
        self.seconds[kind] += time.time() - started
        return result

    def _start_worker(self, job, arrays, name):
        self.cache.folder.mkdir(parents=True, exist_ok=True)
        remove_abandoned_jobs(self.cache.folder)
        folder = Path(tempfile.mkdtemp(prefix=JOB_PREFIX, dir=self.cache.folder))
        try:
            (folder / "job.json").write_text(json.dumps(job))
            np.savez(folder / "input.npz", **arrays)
            environment = worker_environment(self.threads, folder)
            with open(folder / "worker.log", "w") as log:
                process = subprocess.Popen(
                    [self.python, str(WORKER), str(folder)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=environment,
                )
                try:
                    code = self._wait(process, folder, name)
                finally:
                    if process.poll() is None:
                        process.kill()
                        process.wait()
            output = folder / "output.npz"
            if code == 0 and output.exists():
                with np.load(output) as archive:
                    return {key: archive[key] for key in archive.files}
            raise Sorry(self._failure(folder, code, name))
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _wait(self, process, folder, name):
        last = None
        while True:
            try:
                return process.wait(timeout=1.0)
            except subprocess.TimeoutExpired:
                status = read_status(folder)
                text = progress_line(name, status)
                if self.progress and text != last:
                    self.progress(text)
                    last = text

    def _failure(self, folder, code, name):
        status = read_status(folder)
        place = f"{name}, {self.method.description()}"
        kind, message = status.get("kind"), status.get("message", "")
        if kind == "missing":
            return (
                f"{place}: {self.python} cannot import what the calculation needs "
                f"({message}). Install pyscf and finufft (pip install 'phai_cctbx[aspherical]')."
            )
        if kind == "not_converged":
            return (
                f"{place}: {message}. Check the charge, the multiplicity and the geometry, "
                "or try method=HF."
            )
        if kind == "memory":
            return (
                f"{place}: {message} within {self.memory_mb:.0f} MB. "
                "Give memory_mb= or a smaller basis."
            )
        if kind == "basis":
            return f"{place}: PySCF cannot build the molecule: {message}."
        if kind == "crash":
            return f"{place}: the calculation failed: {message}."
        hint = ""
        if code < 0:
            hint = f" (killed by signal {-code}; signal 9 often means: out of memory)"
        tail = (folder / "worker.log").read_text(errors="replace").strip().splitlines()[-1:]
        hint += f": {tail[0]}" if tail else ""
        return f"{place}: {CRASHED.format(code=code, hint=hint)}. Finished stages are kept."


def worker_environment(threads, folder) -> dict:
    """Environment variables of the worker.

    The OpenBLAS 0.3.3 inside PySCF's wheels does not know newer processors and falls back to
    kernels without vectors; naming one that it knows makes an SCF cycle twice as fast.
    """
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads), PYSCF_TMPDIR=str(folder))
    environment.pop("PYTHONPATH", None)
    if processor_has("avx2", "fma"):
        environment.setdefault("OPENBLAS_CORETYPE", "HASWELL")
    return environment


@functools.cache
def processor_has(*flags) -> bool:
    """Whether the processor has these instruction sets (Linux; False where that is not known)."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return False
    found = next((line for line in lines if line.startswith("flags")), "").split()
    return set(flags) <= set(found)


def remove_abandoned_jobs(folder):
    """Remove the folders of jobs whose run was killed, a day after their last sign of life."""
    for job in Path(folder).glob(f"{JOB_PREFIX}*"):
        try:
            if time.time() - job.stat().st_mtime > ABANDONED_AFTER:
                shutil.rmtree(job, ignore_errors=True)
        except OSError:
            continue


def read_status(folder):
    """The worker's last status, empty where it has written none."""
    try:
        return json.loads((Path(folder) / "status.json").read_text())
    except (OSError, ValueError):
        return {}


def progress_line(name, status):
    """One line on where the worker stands."""
    stage = status.get("stage", "starting")
    if "cycle" in status:
        return f"{name}: SCF cycle {status['cycle'] + 1}, E = {status['energy']:.6f} hartree"
    if "fraction" in status:
        return f"{name}: {stage} {100 * status['fraction']:.0f} %"
    return f"{name}: {stage}"


def free_memory_mb():
    """Memory that is available now, in MB (Linux; 4000 elsewhere)."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 4000.0
