"""PySCF in a process of its own: electron densities, their Hirshfeld parts, and transforms.

PySCF and cctbx crash in one process, so this file is run by its path:
``python worker.py JOB_FOLDER``. PySCF is imported inside the jobs alone; the package
imports no more than the constants below. It reads
``job.json`` and ``input.npz`` there, and writes ``output.npz`` and
``status.json``. Every failure is written to ``status.json`` with its kind.

Hirshfeld partition: F. L. Hirshfeld, Theor. Chim. Acta 44, 129 (1977); atom
refinement: Capelli, Buergi, Dittrich, Grabowsky & Jayatilaka, IUCrJ 1, 361
(2014). Grids: A. D. Becke, J. Chem. Phys. 88, 2547 (1988).
"""

import json
import os
import sys
import time
import traceback
from pathlib import Path

import numpy as np

BOHR = 0.529177210903
"""Bohr radius in A (CODATA 2018)."""

FUNCTIONALS = {
    "HF": None,
    "PBE": "pbe",
    "B3LYP": "b3lyp",
    "R2SCAN": "r2scan",
    "WB97X-D": "hyb_gga_xc_wb97x_d",
}
"""Method name -> PySCF functional; None is Hartree-Fock."""

X2C_BASIS = {"def2-SVP": "dzp-dkh", "def2-TZVP": "tzp-dkh"}
"""All-electron bases of like size for scalar-relativistic Hamiltonians, H to Xe (Jorge et al.,
J. Chem. Phys. 130, 064108, 2009)."""

FIRST_ECP_ELEMENT = 37
"""def2 bases use an effective core potential from Rb on (Weigend & Ahlrichs, 2005)."""

RADII = np.exp(np.linspace(np.log(1e-6), np.log(30.0), 4000))
"""Radial grid of the proatoms in bohr; uniform in ln r, so that the trapezium rule is exact
to rounding for the smooth integrands used here."""

DENSITY_FLOOR = 1e-30
"""Density (e/bohr^3) below which a proatom counts as vanished, kept finite for logarithms."""

EXTENT_DENSITY = 1e-16
"""A proatom ends where its density falls below this (e/bohr^3)."""

CONTRIBUTION_CUTOFF = 1e-9
"""Grid contributions (e) below this are not transformed; 1e6 of them are still below 1e-3 e."""

BLOCK_POINTS = 360 * 56
"""Grid points worked on at once (PySCF wants a multiple of 56): bounds the memory by
BLOCK_POINTS x n_ao x 8 bytes x 4."""

SCF_ENERGY, SCF_GRADIENT = 1e-6, 2e-4
"""Change of the energy (hartree) and orbital gradient at which the density counts as converged;
form factors move by less than 1e-4 e after that."""

PERMITTIVITY = 80.0
"""Of the continuum around a molecule whose geometry is relaxed: as polar as its crystal may be."""

CAVITY_ORDER = 11
"""Lebedev order of its cavity, 50 points for each atom: gradients of urea differ by 1.5e-4
hartree/bohr from those of order 29."""

GEOMETRY_STEPS = 60
"""Largest number of geometry steps; small molecules need 10 to 40."""

GEOMETRY_GRADIENT = 1e-3
"""Largest gradient (hartree/bohr) of a relaxed geometry: bond lengths are then within 0.002 A."""

ROUGH_GRID_LEVEL = 0
ROUGH_ENERGY, ROUGH_GRADIENT = 1e-5, 1e-3
"""Grid and thresholds of the first SCF cycles of a density functional, which only bring the
orbitals near; a third of the time of a cycle on the final grid."""


class JobError(Exception):
    """A failure with a kind that the caller turns into a message for the user."""

    def __init__(self, kind, message):
        super().__init__(message)
        self.kind = kind


class Status:
    """Progress of one job, in ``status.json`` (replaced atomically).

    The process ends here when the one that started it is gone.
    """

    def __init__(self, folder):
        self.path = Path(folder) / "status.json"
        self.started = time.time()
        self.parent = os.getppid()

    def __call__(self, state, stage="", **more):
        if os.getppid() != self.parent:
            sys.exit("the process that started this job is gone")
        record = {"state": state, "stage": stage, "seconds": time.time() - self.started, **more}
        temporary = self.path.with_suffix(".new")
        temporary.write_text(json.dumps(record))
        os.replace(temporary, self.path)


def molecule_object(job, numbers, coordinates):
    """The PySCF molecule with its basis, core potentials, charge and spin."""
    from pyscf import gto
    from pyscf.data.elements import ELEMENTS

    symbols = [ELEMENTS[z] for z in numbers]
    basis = job["basis"]
    ecp = {}
    if job["relativity"] == "x2c":
        basis = X2C_BASIS.get(basis, basis)
    elif basis.lower().startswith("def2"):
        ecp = {ELEMENTS[z]: "def2-svp" for z in sorted(set(numbers)) if z >= FIRST_ECP_ELEMENT}
    molecule = gto.Mole()
    molecule.atom = list(zip(symbols, np.asarray(coordinates).tolist(), strict=True))
    molecule.unit = "Bohr"
    molecule.basis = basis
    molecule.ecp = ecp
    molecule.charge = int(job["charge"])
    molecule.spin = int(job["multiplicity"]) - 1
    molecule.verbose = 0
    molecule.max_memory = float(job["memory_mb"])
    try:
        molecule.build()
    except Exception as error:
        raise JobError("basis", f"{type(error).__name__}: {error}") from error
    return molecule


def mean_field(molecule, job):
    """Hartree-Fock or Kohn-Sham object for the molecule, unrestricted when it has spin."""
    from pyscf import dft, scf

    functional = FUNCTIONALS[job["method"]]
    open_shell = molecule.spin != 0
    if functional is None:
        method = scf.UHF(molecule) if open_shell else scf.RHF(molecule)
    else:
        method = dft.UKS(molecule) if open_shell else dft.RKS(molecule)
        method.xc = functional
        method.grids.level = int(job["scf_grid_level"])
    if job["relativity"] == "x2c":
        method = method.sfx2c1e()
    if job["density_fitting"]:
        method = method.density_fit()
    method.conv_tol = SCF_ENERGY
    method.conv_tol_grad = SCF_GRADIENT
    return method


def embed(method, positions, charges):
    """Add the potential of point charges (bohr, e) to the one-electron Hamiltonian."""
    if len(charges) == 0:
        return method
    molecule = method.mol
    bare = method.get_hcore()
    block = max(1, int(2e8 / 8 / molecule.nao**2))
    potential = np.zeros_like(bare)
    for start in range(0, len(charges), block):
        part = slice(start, start + block)
        integrals = molecule.intor("int1e_grids", hermi=1, grids=positions[part])
        potential -= np.einsum("g,gij->ij", charges[part], integrals)
    method.get_hcore = lambda *_: bare + potential
    return method


def run_scf(method, job, guess, status):
    """Converge the SCF: DIIS, then damping with a level shift, then second order.

    Density functionals come near on a coarse grid before they are converged on the final one.
    """

    def report(variables):
        status("running", "scf", cycle=int(variables["cycle"]), energy=float(variables["e_tot"]))

    method.callback = report
    method.max_cycle = int(job["scf_max_cycles"])
    if hasattr(method, "grids") and method.grids.level > ROUGH_GRID_LEVEL:
        guess = rough_density(method, guess)
    method.kernel(dm0=guess)
    if not method.converged:
        method.level_shift, method.damp = 0.3, 0.5
        method.kernel(dm0=method.make_rdm1())
        method.level_shift, method.damp = 0.0, 0.0
    if not method.converged:
        second_order = method.newton()
        second_order.max_cycle = 50
        second_order.callback = None
        second_order.kernel(method.mo_coeff, method.mo_occ)
        method = second_order
    if not method.converged:
        raise JobError(
            "not_converged",
            f"the SCF did not converge in {job['scf_max_cycles']} cycles, nor with damping, "
            f"nor to second order (last energy {method.e_tot:.6f} hartree)",
        )
    return method


def rough_density(method, guess):
    """Density matrix of a few SCF cycles on a coarse grid; the method is left as it was."""
    level, energy, gradient = method.grids.level, method.conv_tol, method.conv_tol_grad
    method.grids.level = ROUGH_GRID_LEVEL
    method.conv_tol, method.conv_tol_grad = ROUGH_ENERGY, ROUGH_GRADIENT
    method.kernel(dm0=guess)
    method.grids.reset()
    method.grids.level = level
    method.conv_tol, method.conv_tol_grad = energy, gradient
    return method.make_rdm1()


def atomic_occupations(z, n_core, angular, n_shells):
    """Electrons per spin in every shell of one angular momentum, spread evenly over m.

    Open shells are high spin (Hund), from the ground-state configuration.

    Returns
    -------
    numpy.ndarray, shape (2, n_shells)
        Occupation (0 to 1) of each orbital of the shell.
    """
    from pyscf.data import elements
    from pyscf.gto import ecp

    n_electrons = elements.CONFIGURATION[z][angular] if angular < 4 else 0
    degeneracy = 2 * angular + 1
    if n_core and angular < 4:
        symbol = elements.ELEMENTS[z]
        n_electrons -= 2 * degeneracy * ecp.core_configuration(n_core, atom_symbol=symbol)[angular]
    occupation = np.zeros((2, n_shells))
    n_closed, n_open = divmod(n_electrons, 2 * degeneracy)
    occupation[:, :n_closed] = 1.0
    if n_open:
        n_alpha = min(n_open, degeneracy)
        occupation[0, n_closed] = n_alpha / degeneracy
        occupation[1, n_closed] = (n_open - n_alpha) / degeneracy
    return occupation


def spherical_atom(job, z):
    """Unrestricted SCF of a neutral atom with spherically averaged occupations.

    Returns
    -------
    density : numpy.ndarray
        Electron density in e/bohr^3 at RADII.
    n_core : int
        Electrons in the effective core potential, not in the density.
    """
    from pyscf import dft, scf
    from pyscf.dft import numint

    job = dict(job, charge=0, multiplicity=1 + z % 2)
    atom = molecule_object(job, [z], np.zeros((1, 3)))
    n_core = int(atom.atom_nelec_core(0))
    angular_of_ao = np.repeat(
        [atom.bas_angular(i) for i in range(atom.nbas)],
        [(2 * atom.bas_angular(i) + 1) * atom.bas_nctr(i) for i in range(atom.nbas)],
    )

    def shells(matrix, angular):
        index = np.where(angular_of_ao == angular)[0]
        degeneracy = 2 * angular + 1
        block = matrix[np.ix_(index, index)].reshape(
            len(index) // degeneracy, degeneracy, len(index) // degeneracy, degeneracy
        )
        return index, np.einsum("piqi->pq", block) / degeneracy

    class SphericalAverage:
        def _eigh_by_shell(self, fock, overlap):
            energies, orbitals = [], []
            for angular in sorted(set(angular_of_ao)):
                degeneracy = 2 * angular + 1
                index, fock_l = shells(fock, angular)
                _, overlap_l = shells(overlap, angular)
                energy, vectors = scf.hf.eig(fock_l, overlap_l)
                block = np.zeros((atom.nao, len(energy), degeneracy))
                for m in range(degeneracy):
                    block[index[m::degeneracy], :, m] = vectors
                orbitals.append(block.reshape(atom.nao, -1))
                energies.append(np.repeat(energy, degeneracy))
            return np.hstack(energies), np.hstack(orbitals)

        def eig(self, fock, overlap, *_args, **_keywords):
            pairs = [self._eigh_by_shell(f, overlap) for f in fock]
            return (np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs]))

        def get_occ(self, mo_energy=None, mo_coeff=None):
            occupations = []
            for angular in sorted(set(angular_of_ao)):
                degeneracy = 2 * angular + 1
                n_shells = int(np.sum(angular_of_ao == angular)) // degeneracy
                occupations.append(
                    np.repeat(atomic_occupations(z, n_core, angular, n_shells), degeneracy, axis=1)
                )
            return np.hstack(occupations)

        def get_grad(self, mo_coeff, mo_occ, fock=None):
            return np.zeros(1)

    functional = FUNCTIONALS[job["method"]]
    base = scf.uhf.UHF if functional is None else dft.uks.UKS
    method = type("AtomSCF", (SphericalAverage, base), {})(atom)
    if functional is not None:
        method.xc = functional
        method.grids.atom_grid = (100, 302)
    if job["relativity"] == "x2c":
        method.get_hcore = lambda *_: scf.RHF(atom).sfx2c1e().get_hcore()
    method.conv_tol = 1e-10
    method.max_cycle = 200
    method.kernel(dump_chk=False)
    if not method.converged:
        method.level_shift = 0.5
        method.kernel(dm0=method.make_rdm1(), dump_chk=False)
    if not method.converged:
        raise JobError("not_converged", f"the spherical atom Z = {z} did not converge")
    dm = method.make_rdm1()
    points = np.zeros((len(RADII), 3))
    points[:, 2] = RADII
    ao = atom.eval_gto("GTOval_sph", points)
    density = numint.eval_rho(atom, ao, dm[0] + dm[1])
    return np.maximum(density, DENSITY_FLOOR), n_core


def proatom_job(job, _data, status):
    """One spherical atom: its density on RADII."""
    status("running", f"spherical atom Z = {job['z']}")
    density, n_core = spherical_atom(job, int(job["z"]))
    n_electrons = np.trapezoid(4 * np.pi * RADII**3 * density, np.log(RADII))
    return {"density": density, "n_core": n_core, "n_electrons": n_electrons}


class Proatoms:
    """Spherical densities of the elements, by cubic spline in ln r."""

    def __init__(self, elements, densities):
        from scipy.interpolate import CubicSpline

        log_r = np.log(RADII)
        self.splines = {
            int(z): CubicSpline(log_r, np.log(rho))
            for z, rho in zip(elements, densities, strict=True)
        }
        self.extent = {
            int(z): RADII[min(np.searchsorted(-rho, -EXTENT_DENSITY), len(RADII) - 1)]
            for z, rho in zip(elements, densities, strict=True)
        }

    def __call__(self, z, distances):
        density = np.zeros_like(distances)
        near = distances < self.extent[z]
        density[near] = np.exp(self.splines[z](np.log(np.maximum(distances[near], RADII[0]))))
        return density


def molecule_job(job, data, status):
    """SCF of one molecule, and the Hirshfeld deformation density of each atom on the grid.

    The outputs ``points`` (float32, bohr from the nucleus) and ``values`` (float32, e) hold
    w_A (rho - rho_promolecule) times the quadrature weight, atom after atom; ``offsets``
    says where each atom starts.
    """
    from pyscf import lib
    from pyscf.dft import gen_grid, numint

    lib.num_threads(int(job["threads"]))
    numbers = data["numbers"].tolist()
    coordinates = data["coordinates"] / BOHR
    molecule = molecule_object(job, numbers, coordinates)
    status("running", "scf", n_ao=int(molecule.nao))
    method = mean_field(molecule, job)
    method = embed(method, data["charge_positions"] / BOHR, data["charges"])
    guess = data["guess"] if "guess" in data else None
    method = run_scf(method, job, guess, status)
    density_matrix = np.asarray(method.make_rdm1())
    orbitals, occupations = method.mo_coeff, method.mo_occ
    if molecule.spin == 0:
        orbitals, occupations = [orbitals], [occupations]

    status("running", "partition")
    proatoms = Proatoms(data["proatom_elements"], data["proatom_densities"])
    grids = gen_grid.Grids(molecule)
    grids.level = int(job["grid_level"])
    grids.prune = gen_grid.nwchem_prune
    grids.build(sort_grids=True)
    n_atoms = len(numbers)
    collected = [([], []) for _ in range(n_atoms)]
    charges = np.zeros(n_atoms)
    dipoles = np.zeros((n_atoms, 3))
    n_electrons, n_done = 0.0, 0
    integrator = numint.NumInt()
    blocks = integrator.block_loop(molecule, grids, molecule.nao, 0, blksize=BLOCK_POINTS)
    for ao, mask, weight, block in blocks:
        density = sum(
            numint.eval_rho2(molecule, ao, c, n, mask)
            for c, n in zip(orbitals, occupations, strict=True)
        )
        n_electrons += float(density @ weight)
        atomic = np.array(
            [
                proatoms(z, np.linalg.norm(block - centre, axis=1))
                for z, centre in zip(numbers, coordinates, strict=True)
            ]
        )
        promolecule = atomic.sum(axis=0)
        share = np.divide(
            weight * (density - promolecule),
            promolecule,
            out=np.zeros_like(weight),
            where=promolecule > DENSITY_FLOOR,
        )
        for i in range(n_atoms):
            part = atomic[i] * share
            keep = np.abs(part) > CONTRIBUTION_CUTOFF
            part, relative = part[keep], block[keep] - coordinates[i]
            charges[i] -= part.sum()
            dipoles[i] -= part @ relative
            collected[i][0].append(relative.astype(np.float32))
            collected[i][1].append(part.astype(np.float32))
        n_done += len(weight)
        status("running", "partition", fraction=n_done / len(grids.weights))
    counts = [sum(len(v) for v in values) for _, values in collected]
    return {
        "points": np.concatenate([p for parts, _ in collected for p in parts]),
        "values": np.concatenate([v for _, parts in collected for v in parts]),
        "offsets": np.concatenate([[0], np.cumsum(counts)]),
        "hirshfeld_charges": charges,
        "hirshfeld_dipoles": dipoles * BOHR,
        "density_matrix": density_matrix,
        "energy": method.e_tot,
        "n_electrons": n_electrons,
        "n_core": np.array([molecule.atom_nelec_core(i) for i in range(n_atoms)]),
        "n_ao": molecule.nao,
    }


def geometry_job(job, data, status):
    """Coordinates of least energy near those given (bohr), by BFGS on analytic gradients.

    Torsions that are near a minimum fall into it. A geometry that is not converged after
    `GEOMETRY_STEPS` is returned with ``converged`` 0.
    """
    from pyscf import lib
    from scipy.optimize import minimize

    lib.num_threads(int(job["threads"]))
    numbers = data["numbers"].tolist()
    guess = [None]

    def energy_and_gradient(x):
        molecule = molecule_object(job, numbers, x.reshape(-1, 3))
        method = mean_field(molecule, job).PCM()
        method.with_solvent.method = "C-PCM"
        method.with_solvent.eps = PERMITTIVITY
        method.with_solvent.lebedev_order = CAVITY_ORDER
        method = run_scf(method, job, guess[0], status)
        guess[0] = method.make_rdm1()
        return method.e_tot, method.nuc_grad_method().kernel().ravel()

    found = minimize(
        energy_and_gradient,
        (data["coordinates"] / BOHR).ravel(),
        jac=True,
        method="BFGS",
        options={"maxiter": GEOMETRY_STEPS, "gtol": GEOMETRY_GRADIENT},
    )
    return {
        "coordinates": found.x.reshape(-1, 3) * BOHR,
        "energy": found.fun,
        "converged": int(np.abs(found.jac).max() < 2 * GEOMETRY_GRADIENT),
        "n_steps": found.nit,
    }


def transform_job(job, data, status):
    """Deformation form factors on the whole box of Miller indices, by a non-uniform FFT.

    f(h) = sum_p c_p exp(2 pi i h.x_p), x in fractions of the cell from the nucleus, for
    |h_i| <= h_max_i; gathered at ``indices``.
    """
    import finufft

    h_max = data["h_max"].astype(int)
    modes = tuple(int(2 * m + 1) for m in h_max)
    fractional = data["fractionalization"] * BOHR
    indices = data["indices"] + h_max
    offsets = data["offsets"]
    result = np.empty((len(data["atoms"]), len(indices)), dtype=complex)
    for row, atom in enumerate(data["atoms"]):
        part = slice(offsets[atom], offsets[atom + 1])
        x = data["points"][part].astype(float) @ fractional.T
        x = 2 * np.pi * (x - np.round(x))
        box = finufft.nufft3d1(
            np.ascontiguousarray(x[:, 0]),
            np.ascontiguousarray(x[:, 1]),
            np.ascontiguousarray(x[:, 2]),
            data["values"][part].astype(complex),
            modes,
            isign=1,
            eps=1e-9,
            nthreads=int(job["threads"]),
        )
        result[row] = box[indices[:, 0], indices[:, 1], indices[:, 2]]
        status("running", "transform", fraction=(row + 1) / len(data["atoms"]))
    return {"form_factors": result}


JOBS = {
    "proatom": proatom_job,
    "molecule": molecule_job,
    "geometry": geometry_job,
    "transform": transform_job,
}


def main(folder):
    """Run the job in ``folder``; the exit code is 0 when ``output.npz`` is there."""
    folder = Path(folder)
    status = Status(folder)
    try:
        job = json.loads((folder / "job.json").read_text())
        with np.load(folder / "input.npz") as archive:
            data = {name: archive[name] for name in archive.files}
        output = JOBS[job["kind"]](job, data, status)
        temporary = folder / "output.new.npz"
        np.savez(temporary, **output)
        os.replace(temporary, folder / "output.npz")
        status("done")
        return 0
    except ImportError as error:
        status("failed", kind="missing", message=str(error))
    except MemoryError:
        status("failed", kind="memory", message="not enough memory")
    except JobError as error:
        status("failed", kind=error.kind, message=str(error))
    except Exception as error:
        status(
            "failed",
            kind="crash",
            message=f"{type(error).__name__}: {error}",
            traceback=traceback.format_exc(),
        )
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
