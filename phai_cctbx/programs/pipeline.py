"""Measured data to a refined structure and its files: the rooms of the package in their order.

read -> prepare -> phase -> complete -> write. Where the data end before single atoms show, the
phases themselves are the result.
"""

from __future__ import annotations

import io
import logging
import math
import os
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

# cctbx
import iotbx.phil
from libtbx.utils import Sorry

from phai_cctbx.aspherical.geometry import relaxed
from phai_cctbx.io.atomic_file import write_text
from phai_cctbx.io.crystal_data import CrystalData
from phai_cctbx.io.read import read
from phai_cctbx.io.report.write import write_report
from phai_cctbx.io.shelx_header import header_numbers
from phai_cctbx.io.write_cif import formula
from phai_cctbx.io.write_summary import plain, write_json
from phai_cctbx.phasing.auto import make_phaser
from phai_cctbx.phasing.extension import extend_phases
from phai_cctbx.phasing.normalisation import PreparedData
from phai_cctbx.phasing.result import PhasingResult
from phai_cctbx.phasing.scoring import R_SOLVED, score_r
from phai_cctbx.programs import report as listing
from phai_cctbx.programs.crystal_input import check_crystal_input, prepare_crystal
from phai_cctbx.programs.hirshfeld_stage import (
    ASPHERICAL_EXTENSIONS,
    HAR,
    HAR_PHIL,
    IAM,
    HirshfeldParameters,
    check_possible,
)
from phai_cctbx.programs.molecule import MoleculeResult, build_molecules
from phai_cctbx.programs.output_files import OutputFiles
from phai_cctbx.programs.proposal import (
    MoleculeProposals,
    propose_fragments,
    propose_molecules,
)
from phai_cctbx.programs.result_files import (
    PeakStructure,
    peak_structure,
    write_phases,
    write_structure,
)
from phai_cctbx.programs.solve_hirshfeld import (
    HirshfeldStage,
    attempt,
    refine_known_molecule,
    refine_solution,
)
from phai_cctbx.refinement.completion import Solution, complete_structure
from phai_cctbx.refinement.hand import change_hand
from phai_cctbx.version import __version__

logger = logging.getLogger(__name__)

#: Data that end before this (A) do not decide on single atoms: a free refinement fits anything.
BUILD_D_MIN = 1.6
#: Where the data end before this (A) and building fails, common molecules are tried as well.
PROPOSE_D_MIN = 1.3
#: Phases that end this much earlier than the data are extended.
EXTENSION_RATIO = 1.05
#: Candidates of one attempt that are built, at most; those after the first only where what their
#: strategy says of their chance to be right is at least this; it can say so to this resolution (A).
N_CANDIDATES_BUILT, MIN_PROBABILITY, PROBABLE_D_MIN = 4, 0.05, 1.3
#: Seconds of the processor after which no further candidate or attempt is begun: what the first
#: ones did not solve, later ones seldom do, and the user waits.
BUDGET = 120.0
#: TEMP of SHELXL where it is not given, degrees Celsius.
DEFAULT_TEMPERATURE = 20.0
#: What a run on NAME.ins is called by default.
PREFIX_SUFFIX = "_phai"
#: The files of a run; the report is the last of them.
EXTENSIONS = ("res", "cif", "fcf", "mtz", "ccp4", "log", "json", "eff", "html")
#: Where the geometry of a known molecule comes from: force field or quantum chemistry.
MMFF, QM = "mmff", "qm"
#: How `SolveResult.solved` was decided.
BY_R1, BY_CONFIDENCE, BY_MOLECULE, BY_PROPOSAL = "r1", "confidence", "molecule", "proposal"

HYDROGENS = ("H", "D")

MASTER_PHIL = (
    """
input {
  path = None
    .type = str
    .help = .ins, .res, .hkl, .cif, .fcf or .mtz, or a base name without extension
  hkl = None
    .type = str
    .help = Reflections, where they are not those that belong to path
}
data {
  d_min = None
    .type = float(value_min=0.1)
    .help = Resolution limit in A, all data by default
}
phasing {
  strategy = *auto neural atoms charge_flipping phai
    .type = choice
    .help = auto: charge flipping, the network or, for few atoms at low resolution, a search for \
            the atoms themselves, whichever does better. phai: PhAI's own network, needs \
            model=FILE (phai_cctbx.import_phai)
  model = None
    .type = str
    .help = TorchScript file of the network, the bundled one by default
  n_starts = None
    .type = int(value_min=1)
    .help = Random starts, by default as many as the strategy takes
  seed = 0
    .type = int(value_min=0)
    .help = Seed of the random starts: the same seed gives the same result
  n_attempts = 2
    .type = int(value_min=1)
    .help = Phasing begins anew, with the next seed, while nothing completes to a structure
}
structure {
  anisotropic = True
    .type = bool
    .help = Refine anisotropic displacements
  hydrogens = True
    .type = bool
    .help = Place hydrogens
  molecule = None
    .type = str
    .multiple = True
    .help = A known molecule (SMILES, InChI, .mol, .sdf, .xyz or .cif), once for each kind
  copies = None
    .type = ints(value_min=1)
    .help = Copies of each molecule in the asymmetric unit, by default what the contents say
  geometry = *mmff qm
    .type = choice
    .help = Of a known molecule: force field, or PySCF with har.method and har.basis (slow)
  propose = True
    .type = bool
    .help = Where the data are too coarse for single atoms and no molecule is given: try common \
            molecules and fragments that the cell contents allow
  scattering = *iam har
    .type = choice
    .help = Spherical atoms, or a last refinement with Hirshfeld atoms (docs/aspherical.md)
}
output {
  directory = "."
    .type = str
    .help = Folder of the result files
  prefix = None
    .type = str
    .help = Base name of the result files, NAME_phai by default
  report = True
    .type = bool
    .help = Write NAME_phai.html, the report to look at in a browser
}
"""
    + HAR_PHIL
)

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class SolveResult:
    """What `solve` found and wrote.

    Attributes
    ----------
    solved : bool
    solved_by : str
        ``"r1"``: by the refined structure. ``"confidence"``: by the phases alone, where the data
        are too coarse to build freely. ``"molecule"``: nothing speaks against the molecule given.
        ``"proposal"``: nothing speaks against a common molecule that the cell contents suggest.
    data : CrystalData
    prepared : PreparedData
    phasing : PhasingResult
        The candidate that was taken.
    solution : Solution or None
        None where no structure was built.
    warnings : tuple of str
    files : dict of str to pathlib.Path
        Extension -> result file.
    seconds : float
    known : MoleculeResult or None
        Where a molecule was given, or one was proposed and found.
    hirshfeld : HirshfeldStage or None
        Where the structure was refined with Hirshfeld atoms.
    not_done : tuple of str
        Stages that were asked for and could not be done, and why.
    peaks : PeakStructure or None
        The peaks of the phased map, where no structure was built.
    proposals : MoleculeProposals or None
        Where common molecules were tried because none was given.
    """

    solved: bool
    solved_by: str
    data: CrystalData
    prepared: PreparedData
    phasing: PhasingResult
    solution: Solution | None
    warnings: tuple[str, ...]
    files: dict[str, Path]
    seconds: float
    known: MoleculeResult | None = None
    hirshfeld: HirshfeldStage | None = None
    not_done: tuple[str, ...] = ()
    peaks: PeakStructure | None = None
    proposals: MoleculeProposals | None = None

    @property
    def exit_status(self) -> int:
        """0 if solved and all done that was asked for, 3 if not (docs/usage.md)."""
        return 0 if self.solved and not self.not_done else 3

    @property
    def r1(self) -> float | None:
        """R1 for I > 2 sigma(I)."""
        return None if self.solution is None else self.solution.r1

    @property
    def wr2(self) -> float | None:
        """wR2 on F^2, all reflections."""
        return None if self.solution is None else self.solution.wr2

    @property
    def goof(self) -> float | None:
        """Goodness of fit."""
        return None if self.solution is None else self.solution.goof

    @property
    def confidence(self) -> float:
        """The correlation with the true map that the phases promise, 0 to 1."""
        return self.phasing.expected_r

    @property
    def space_group(self) -> str:
        """Hermann-Mauguin symbol in the setting of the data, of the hand that was found."""
        crystal = self.data.crystal_symmetry if self.solution is None else self.structure
        return str(crystal.space_group_info())

    @property
    def structure(self):
        """The refined `xray.structure`, None where none was built."""
        return None if self.solution is None else self.solution.xray_structure

    @property
    def d_min(self) -> float:
        """Resolution of the data used, A."""
        return self.prepared.f_obs.d_min()

    @property
    def formula(self) -> str:
        """Formula of the solved structure, or else of the cell contents as given."""
        contents = self.data.composition.unit_cell_contents
        if self.solution is not None and self.solution.solved:
            contents = self.solution.composition
        units = self.data.z or self.data.crystal_symmetry.space_group().order_z()
        return formula({element: n / units for element, n in contents.items()})

    @property
    def n_atoms(self) -> int | None:
        """Non-hydrogen atoms in the asymmetric unit, disordered ones once."""
        if self.solution is None:
            return None
        return sum(element not in HYDROGENS for element in self._elements)

    @property
    def n_hydrogens(self) -> int | None:
        """Hydrogens in the asymmetric unit, disordered ones once."""
        if self.solution is None:
            return None
        return len(self._elements) - self.n_atoms

    @property
    def _elements(self) -> list[str]:
        """Elements of the scatterers without second parts of disorder."""
        second = {i for group in self.solution.disorder for i in group.second}
        scatterers = self.solution.xray_structure.scatterers()
        return [s.element_symbol() for i, s in enumerate(scatterers) if i not in second]

    def summary(self) -> dict:
        """The figures of the .json file (docs/usage.md), None where one does not apply."""
        solution = self.solution
        statistics = self.prepared.statistics
        absolute, twin = solution and solution.absolute_structure, solution and solution.twin
        return plain(
            {
                "solved": self.solved,
                "solved_by": self.solved_by,
                "r1": self.r1,
                "wr2": self.wr2,
                "goof": self.goof,
                "space_group": self.space_group,
                "formula": self.formula,
                "n_atoms": self.n_atoms,
                "n_hydrogens": self.n_hydrogens,
                "confidence": self.confidence,
                "d_min": self.d_min,
                "seconds": self.seconds,
                "warnings": list(self.warnings),
                "title": self.data.title,
                "unit_cell": list(self.data.crystal_symmetry.unit_cell().parameters()),
                "volume": self.data.crystal_symmetry.unit_cell().volume(),
                "z": self.data.z,
                "radiation": self.data.radiation,
                "wavelength": self.data.wavelength,
                "n_unique": statistics.n_unique,
                "completeness": statistics.completeness,
                "r_int": statistics.r_int,
                "strategy": self.phasing.strategy,
                "figures_of_merit": dict(self.phasing.figures_of_merit),
                "seed": self.phasing.seed,
                "n_reflections": solution and solution.n_reflections,
                "n_parameters": solution and solution.n_parameters,
                "difference_peak": solution and solution.difference_peak,
                "difference_hole": solution and solution.difference_hole,
                "flack": absolute and absolute.x[0],
                "flack_esd": absolute and absolute.x[1],
                "absolute_structure": absolute and asdict(absolute),
                "twin": twin and {"law": twin.as_hkl, "fraction": twin.fraction, "esd": twin.esd},
                "disorder": listing.disorder_summary(solution),
                "molecule": self.known and self.known.summary(),
                "proposals": self.proposals and [t.summary() for t in self.proposals.tried],
                "scattering": HAR if self.hirshfeld else IAM,
                "hirshfeld": self.hirshfeld and self.hirshfeld.summary(),
                "not_done": list(self.not_done),
                "n_atoms_expected": self.peaks and self.peaks.n_expected,
                "peaks": self.peaks and self.peaks.summary(),
                "fragments": self.peaks and self.peaks.fragment_summary(),
                "files": {name: path.name for name, path in self.files.items()},
                "version": __version__,
            }
        )


def solve(
    path,
    hkl=None,
    d_min: float | None = None,
    strategy: str = "auto",
    model=None,
    n_starts: int | None = None,
    seed: int = 0,
    n_attempts: int = 2,
    anisotropic: bool = True,
    hydrogens: bool = True,
    molecule=None,
    copies=None,
    geometry: str = MMFF,
    propose: bool = True,
    scattering: str = IAM,
    har: HirshfeldParameters | None = None,
    directory=".",
    prefix: str | None = None,
    report: bool = True,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> SolveResult:
    """Solve a structure and write its files.

    Parameters
    ----------
    path : path-like
        ``.ins``, ``.res``, ``.hkl``, ``.cif``, ``.fcf`` or ``.mtz``, or a base name.
    hkl : path-like, optional
        Reflections, where they are not those that belong to `path`.
    d_min : float, optional
        Resolution limit in A.
    strategy : {"auto", "neural", "atoms", "charge_flipping", "phai"}
    model : path-like, optional
        TorchScript file of the network, the bundled one by default.
    n_starts : int, optional
        Random starts of the strategy.
    seed : int
        Of the random starts.
    n_attempts : int
        Phasing begins anew, with the next seed, while nothing completes to a structure.
    anisotropic, hydrogens : bool
        Whether to refine anisotropic displacements and to place hydrogens.
    molecule : str, path-like or sequence of them, optional
        Known molecules (docs/molecule.md): they are placed and refined as they are.
    copies : int or sequence of int, optional
        Copies of each in the asymmetric unit.
    geometry : {"mmff", "qm"}
        Of known molecules: by force field, or by PySCF with the method and basis of `har`.
    propose : bool
        Try common molecules and fragments that the cell contents allow, where the data are too
        coarse for single atoms and no molecule is given.
    scattering : {"iam", "har"}
        ``"har"`` refines a solved structure with Hirshfeld atoms at the end.
    har : HirshfeldParameters, optional
        How (docs/aspherical.md).
    directory : path-like
        Folder of the result files.
    prefix : str, optional
        Their base name, NAME_phai by default.
    report : bool
        Whether to write the report for the browser.
    overwrite : bool
        Whether existing files of these names may be replaced.
    progress : callable, optional
        Called with (what is done, steps done, steps in all).

    Returns
    -------
    SolveResult

    Raises
    ------
    libtbx.utils.Sorry
        If the input cannot be used or a file cannot be written. No result file is left then.
    """
    began = time.monotonic()
    molecules = [str(m) for m in _listed(molecule)]
    copies = [int(n) for n in _listed(copies)]
    har = har or HirshfeldParameters()
    parameters = {
        "input.path": path,
        "input.hkl": hkl,
        "data.d_min": d_min,
        "phasing.strategy": strategy,
        "phasing.model": model,
        "phasing.n_starts": n_starts,
        "phasing.seed": seed,
        "phasing.n_attempts": n_attempts,
        "structure.anisotropic": anisotropic,
        "structure.hydrogens": hydrogens,
        "structure.molecule": molecules,
        "structure.copies": copies or None,
        "structure.geometry": geometry,
        "structure.propose": propose,
        "structure.scattering": scattering,
        **har.as_phil(),
        "output.directory": directory,
        "output.prefix": prefix,
        "output.report": report,
    }
    _check(parameters)
    eff = parameters_as_phil(parameters)
    progress = progress or (lambda stage, done, total: None)
    extensions = EXTENSIONS if report else EXTENSIONS[:-1]
    base_name = prefix or Path(path).stem + PREFIX_SUFFIX
    more = ASPHERICAL_EXTENSIONS if scattering == HAR else ()
    files = OutputFiles(base_name, extensions + more, directory, overwrite)
    with _captured_log() as log:
        _log(f"phai_cctbx {__version__}: {path}, strategy {strategy}, seed {seed}")
        _log(*listing.heading("Data"))
        progress("reading", 0, 1)
        data = read(path, hkl)
        if scattering == HAR:
            check_possible(har, data.radiation)
        prepared = prepare_crystal(data, d_min)
        _log("", *listing.data_lines(data, prepared))
        known = proposals = None
        if molecules:
            candidates = _phase(data, prepared, parameters, seed, progress)
            _log(*listing.heading("Known molecule"))
            known = build_molecules(
                data,
                prepared,
                molecules,
                copies,
                candidates,
                seed,
                lambda done, total: progress("placing", done, total),
                partial(relaxed, quantum=har.quantum()) if geometry == QM else None,
            )
            solution = known.solution(prepared)
            outcome = _Outcome(candidates[0], solution, ())
            solved_by, solved = BY_MOLECULE, outcome.solved
            _log(*listing.heading("Refined structure"), *listing.solution_lines(solution))
        elif prepared.f_obs.d_min() > BUILD_D_MIN:
            candidates = _phase(data, prepared, parameters, seed, progress)
            _log("", f"The data {_end_early(prepared)}.")
            outcome = _Outcome(candidates[0], None, ())
            solved_by, solved = BY_CONFIDENCE, candidates[0].expected_r > R_SOLVED
            if propose:
                proposals = _propose(data, prepared, candidates, seed, progress)
        else:
            outcome = _attempt(data, prepared, parameters, progress)
            solved_by, solved = BY_R1, outcome.solved
            if propose and not solved and prepared.f_obs.d_min() > PROPOSE_D_MIN:
                proposals = _propose(data, prepared, [outcome.phasing], seed, progress)
        if proposals is not None and proposals.taken:
            known = proposals.taken.result
            outcome = _Outcome(outcome.phasing, known.solution(prepared), ())
            solved_by, solved = BY_PROPOSAL, True
            _log(*listing.heading("Refined structure"), *listing.solution_lines(outcome.solution))
        prepared, phasing = _in_hand_of(outcome.solution, prepared, outcome.phasing)
        peaks, not_built = None, ()
        if outcome.solution is None:
            fragments = []
            if propose and solved_by == BY_CONFIDENCE:
                fragments = propose_fragments(
                    data,
                    prepared,
                    phasing,
                    seed,
                    lambda done, total: progress("fragments", done, total),
                )
            contents = data.composition.unit_cell_contents
            peaks = peak_structure(prepared, phasing, contents, fragments)
            _log(*peaks.fragment_lines())
            reason = "no candidate could be completed"
            if solved_by == BY_CONFIDENCE:
                told = proposals.statement if proposals else "No molecule was given."
                reason = f"the data {_end_early(prepared)}. {told.rstrip('.')}"
            not_built = (peaks.not_determined(reason),)
        hirshfeld, not_done = None, ()
        if scattering == HAR:
            hirshfeld, not_done = _hirshfeld(data, prepared, outcome, known, har, seed, progress)
            if hirshfeld is None:
                files = OutputFiles(base_name, extensions, directory, overwrite)
            else:
                outcome = replace(outcome, solution=hirshfeld.solution)
        result = SolveResult(
            solved=solved,
            solved_by=solved_by,
            data=data,
            prepared=prepared,
            phasing=phasing,
            solution=outcome.solution,
            warnings=not_done + not_built + _warnings(data, prepared, outcome, solved_by),
            files=files.paths,
            seconds=time.monotonic() - began,
            known=known,
            hirshfeld=hirshfeld,
            not_done=not_done,
            peaks=peaks,
            proposals=proposals,
        )
        _log(*listing.heading("Summary"), *listing.summary_lines(result))
        progress("writing", 0, 1)
        _write(result, files, eff, log)
    return result


def _propose(data, prepared, phase_sets, seed, progress) -> MoleculeProposals:
    """Common molecules in the place of one that was not given."""
    _log(*listing.heading("Molecules that the cell contents suggest"))
    proposals = propose_molecules(
        data,
        prepared,
        phase_sets,
        seed,
        lambda done, total: progress("proposing", done, total),
    )
    _log(proposals.statement)
    return proposals


def _end_early(prepared) -> str:
    return (
        f"end at {prepared.f_obs.d_min():.2f} A, before the {BUILD_D_MIN:.1f} A that single atoms"
        " need"
    )


def _listed(value) -> list:
    """What was given once, several times or not at all, as a list."""
    if value is None or isinstance(value, str | os.PathLike | int):
        value = [value]
    return [each for each in value if each is not None]


def parameters_as_phil(parameters: dict) -> str:
    """The text of the .eff file: every parameter with its value.

    Parameters
    ----------
    parameters : dict
        Full name, such as ``"data.d_min"`` -> value.

    Raises
    ------
    libtbx.utils.Sorry
        For a value that the parameter cannot have.
    """
    master = iotbx.phil.parse(MASTER_PHIL)
    extract = master.extract()
    for name, value in parameters.items():
        *scopes, last = name.split(".")
        scope = extract
        for each in scopes:
            scope = getattr(scope, each)
        setattr(scope, last, os.fspath(value) if isinstance(value, os.PathLike) else value)
    try:
        text = master.format(python_object=extract).as_str()
        master.fetch(iotbx.phil.parse(text)).extract()
    except RuntimeError as error:
        raise Sorry(" ".join(str(error).split())) from error
    return text


def _check(parameters):
    """Refuse parameters that no run can mean."""
    check_crystal_input(
        parameters["input.path"],
        parameters["data.d_min"],
        "a .ins, .res, .hkl, .cif, .fcf or .mtz file",
    )
    model = parameters["phasing.model"]
    if model is not None and not Path(model).is_file():
        raise Sorry(f"model={model}: no such file.")


@dataclass(frozen=True)
class _Outcome:
    """The phases taken, the structure they led to (or None), and what went wrong on the way."""

    phasing: PhasingResult
    solution: Solution | None
    failures: tuple[str, ...]

    @property
    def solved(self):
        return self.solution is not None and self.solution.solved

    @property
    def rank(self):
        """Solved before unsolved, then by R1."""
        r1 = math.inf if self.solution is None else self.solution.r1
        return (self.solved, -r1)


def _attempt(data, prepared, parameters, progress) -> _Outcome:
    """Phase and build, with the next seeds where need be; the best outcome."""
    best = None
    built = []
    ends = time.process_time() + BUDGET
    seed, n_attempts = parameters["phasing.seed"], parameters["phasing.n_attempts"]
    for number in range(n_attempts):
        if number:
            if time.process_time() > ends:
                _log("", f"{BUDGET:.0f} s of the processor are used: no further attempt.")
                break
            _log("", f"No solution yet: attempt {number + 1} of {n_attempts}.")
        candidates = _phase(data, prepared, parameters, seed + number, progress)
        outcome = _build(data, prepared, candidates, built, parameters, progress, ends)
        if best is None or outcome.rank > best.rank:
            best = outcome
        if best.solved:
            break
    if best.solution is not None:
        _log(*listing.heading("Refined structure"), *listing.solution_lines(best.solution))
    return best


def _phase(data, prepared, parameters, seed, progress) -> list[PhasingResult]:
    """Phasing candidates, best first, to the resolution of the data where atoms can be built."""
    _log(*listing.heading("Phasing"))
    strategy = parameters["phasing.strategy"]
    contents = data.composition.unit_cell_contents
    options = {
        "model": parameters["phasing.model"],
        "n_starts": parameters["phasing.n_starts"],
        "composition": None if strategy in ("neural", "phai") else contents,
        "radiation": data.radiation if strategy in ("auto", "atoms") else None,
    }
    phaser = make_phaser(
        strategy,
        seed=seed,
        progress=lambda done, total: progress("phasing", done, total),
        **{name: value for name, value in options.items() if value is not None},
    )
    result = phaser(prepared.f_obs)
    d_min = prepared.f_obs.d_min()
    grows = (
        result.f_phased.d_min() > EXTENSION_RATIO * d_min
        or result.f_phased.size() * EXTENSION_RATIO**3 < prepared.f_obs.size()
    )
    if d_min <= BUILD_D_MIN and grows:
        _log(
            f"Phases of {result.f_phased.size()} reflections to {result.f_phased.d_min():.2f} A"
            f" grow to all {prepared.f_obs.size()}, to {d_min:.2f} A."
        )
        result = extend_phases(prepared.f_obs, result, contents, seed)
    candidates = [result, *result.alternatives]
    _log("", *listing.phasing_lines(candidates))
    return candidates


def _is_among(phasing, others) -> bool:
    """True where one of the others gives the same map."""
    return any(score_r(phasing.f_phased, other.f_phased).r > R_SOLVED for other in others)


def _build(data, prepared, candidates, built, parameters, progress, ends) -> _Outcome:
    """The first candidate that completes to a solution, or the one that comes closest.

    Candidates with the phases of one in `built` are passed over; those tried are added to it. No
    further one is begun when the clock of the processor stands at `ends`, s.
    """
    best = _Outcome(candidates[0], None, ())
    failures = []
    for number, phasing in enumerate(candidates[:N_CANDIDATES_BUILT], start=1):
        right = phasing.figures_of_merit.get("probability_right", 1)
        if number > 1 and time.process_time() > ends:
            _log("", f"{BUDGET:.0f} s of the processor are used: no more candidates.")
            break
        if number > 1 and right < MIN_PROBABILITY and prepared.f_obs.d_min() < PROBABLE_D_MIN:
            continue
        progress("building", number - 1, len(candidates))
        if _is_among(phasing, built):
            _log("", f"Candidate {number} has the phases of one that was tried.")
            continue
        built.append(phasing)
        _log(*listing.heading(f"Structure from candidate {number} of {len(candidates)}"))
        try:
            solution = complete_structure(
                prepared.f_sq,
                phasing,
                composition=data.composition.unit_cell_contents,
                radiation=data.radiation,
                wavelength=data.wavelength,
                hydrogens=parameters["structure.hydrogens"],
                anisotropic=parameters["structure.anisotropic"],
                temperature=_temperature(data),
                f_sq_anomalous=prepared.f_sq_anomalous,
            )
        except Sorry as error:
            failures.append(f"Candidate {number} could not be completed: {error}")
            _log(failures[-1])
            continue
        outcome = _Outcome(phasing, solution, ())
        best = max(best, outcome, key=lambda each: each.rank)
        if best.solved:
            break
    return best if best.solution is not None else replace(best, failures=tuple(failures))


def _in_hand_of(solution, prepared, phasing) -> tuple[PreparedData, PhasingResult]:
    """Data and phases in the space group of the solution, which may be the enantiomorph."""
    if solution is None or (
        solution.xray_structure.space_group() == prepared.f_sq.space_group()
    ):
        return prepared, phasing

    def turned(array):
        return change_hand(array, solution.xray_structure.space_group())

    def turned_phases(result):
        return replace(
            result,
            f_phased=turned(result.f_phased),
            confidence=turned(result.confidence),
            alternatives=tuple(turned_phases(each) for each in result.alternatives),
        )

    prepared = replace(prepared, f_sq=turned(prepared.f_sq), f_obs=turned(prepared.f_obs))
    return prepared, turned_phases(phasing)


def _hirshfeld(data, prepared, outcome, known, har, seed, progress):
    """The stage with Hirshfeld atoms, or None and why it was not done."""
    _log(*listing.heading("Hirshfeld atoms"))
    if not outcome.solved:
        reason = "Hirshfeld atoms were asked for and not refined: there is no solved structure."
        _log(reason)
        return None, (reason,)
    progress("Hirshfeld", 0, 1)
    if known is not None:
        stage, reason = attempt(refine_known_molecule, data, prepared, known, har, seed)
    else:
        stage, reason = attempt(
            refine_solution, data, prepared, outcome.solution, _temperature(data), har
        )
    if stage is None:
        _log(reason)
        return None, (reason,)
    if not stage.result.converged:
        return stage, ("The refinement with Hirshfeld atoms did not converge.",)
    return stage, ()


def _temperature(data) -> float:
    """Of the measurement in degrees Celsius: TEMP of the .ins, or SHELXL's default."""
    return (header_numbers(data.shelx_header or (), "TEMP") or [DEFAULT_TEMPERATURE])[0]


def _warnings(data, prepared, outcome, solved_by) -> tuple[str, ...]:
    """What the user should know first, each once."""
    warnings = list(outcome.failures)
    expected_r = outcome.phasing.expected_r
    if solved_by == BY_CONFIDENCE and expected_r <= R_SOLVED:
        warnings.append(
            f"Not a solution: the phases promise a map correlation of {expected_r:.2f}, and"
            f" {R_SOLVED} counts. More starts (n_starts=), another seed, or the molecule where it"
            " is known (molecule=) may bring one."
        )
    warnings += [f"{count} reflections left out: {reason}" for reason, count in data.rejected]
    warnings += prepared.warnings
    if outcome.solution is not None:
        warnings += outcome.solution.warnings
        warnings += _other_formula(data, outcome.solution)
    return tuple(dict.fromkeys(warnings))


def _other_formula(data, solution) -> list[str]:
    """A warning where the structure is not what the input says the cell contains.

    Hydrogens count where the structure has any.
    """
    given = data.composition.unit_cell_contents
    if not any(element in HYDROGENS for element in solution.composition):
        given = {element: n for element, n in given.items() if element not in HYDROGENS}
    if data.composition.source.startswith("estimated") or not solution.solved:
        return []
    order = data.crystal_symmetry.space_group().order_z()
    different = [
        element
        for element in {*given, *solution.composition}
        if abs(given.get(element, 0) - solution.composition.get(element, 0)) > 0.5 * order
    ]
    if not different:
        return []
    units = data.z or order
    found, named = (
        formula({element: n / units for element, n in contents.items()})
        for contents in (solution.composition, given)
    )
    return [f"The structure has {found}, the input names {named} ({data.composition.source})."]


def _write(result, files, eff, log):
    """Write all files, or none."""
    with files.staged() as paths:
        if result.solution is None:
            write_phases(paths, result.data, result.prepared, result.phasing, result.peaks)
        else:
            stage = result.hirshfeld
            write_structure(
                paths,
                result.data,
                result.prepared,
                result.phasing,
                result.solution,
                stage and stage.cif_items(),
                stage.remarks() if stage else (),
            )
            if stage:
                stage.write(paths, result.prepared.f_sq)
        write_text(paths["eff"], eff)
        write_json(paths["json"], result.summary())
        write_text(paths["log"], log.getvalue())
        if "html" in paths:
            write_report(paths["html"], result)


def _log(*lines):
    for line in lines:
        logger.info("%s", line)


@contextmanager
def _captured_log():
    """What the package logs meanwhile, as text for the .log file."""
    package = logging.getLogger(__name__.partition(".")[0])
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(logging.Formatter("%(message)s"))
    level = package.level
    package.addHandler(handler)
    if not package.isEnabledFor(logging.INFO):
        package.setLevel(logging.INFO)
    try:
        yield text
    finally:
        package.removeHandler(handler)
        package.setLevel(level)
