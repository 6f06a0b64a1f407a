"""A known molecule built into measured data: read, place, refine, judge, and say so in the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

# cctbx
from libtbx.utils import Sorry

from phai_cctbx.building.molecule import Molecule, describe, read_molecules
from phai_cctbx.building.molecule_placement import PlacementResult, place
from phai_cctbx.building.peaks import fourier_map
from phai_cctbx.io.crystal_data import CrystalData
from phai_cctbx.phasing.normalisation import PreparedData
from phai_cctbx.refinement.completion import (
    Solution,
    Step,
    cell_contents,
    refinement_figures,
)
from phai_cctbx.refinement.maps import difference_coefficients
from phai_cctbx.refinement.molecule_judgement import WRONG_ERROR, Judgement, judge
from phai_cctbx.refinement.molecule_refinement import MoleculeRefinement, refine_molecule
from phai_cctbx.refinement.molecule_rivals import refined_gap

logger = logging.getLogger(__name__)

MIN_VOLUME_PER_ATOM = 10.0
"""A^3 for a non-hydrogen atom; the densest organic crystals (HMX: 13) stay above."""

DISPLACED = 0.6
"""Copies per asymmetric unit below this are one molecule on a special position."""


@dataclass(frozen=True)
class MoleculeResult:
    """A known molecule in a crystal.

    Attributes
    ----------
    molecules : tuple of Molecule
        Every copy in the asymmetric unit.
    placed : PlacementResult
    refined : MoleculeRefinement
    judgement : Judgement
    seconds : float
    doubt : str or None
        In what the molecules differ from the cell contents of the input.
    """

    molecules: tuple[Molecule, ...]
    placed: PlacementResult
    refined: MoleculeRefinement
    judgement: Judgement
    seconds: float
    doubt: str | None = None

    def summary(self) -> dict:
        """The figures for the .json file."""
        judgement, refined = self.judgement, self.refined
        return {
            "molecules": [molecule.name for molecule in self.molecules],
            "right": judgement.right,
            "reasons": list(judgement.reasons),
            "held_out_r": judgement.held_out_r,
            "r_of_0.2_A_errors": judgement.error_r,
            "log_likelihood_gap": judgement.log_likelihood_gap,
            "restraint_rms": judgement.restraint_rms,
            "r1_placed": self.placed.best.r1,
            "found_by": self.placed.best.origin,
            "level": refined.level.name,
            "levels": [
                {
                    "name": level.name,
                    "n_parameters": level.n_parameters,
                    "n_restraints": level.n_restraints,
                    "held_out_r": level.held_out_r,
                }
                for level in refined.levels
            ],
            "atoms": [
                {
                    "label": atom.label,
                    "correlation": atom.correlation,
                    "share": atom.share,
                    "log_likelihood_gain": atom.gain,
                    "flagged": atom.flagged,
                }
                for atom in judgement.atoms
            ],
            "missing_atoms": [
                {"site": list(p.site), "log_likelihood_gain": p.gain, "distance": p.distance}
                for p in judgement.missing
            ],
            "fragments": [
                {"atoms": part.label, "correlation": part.correlation, "flagged": part.flagged}
                for part in judgement.fragments
            ],
            "seconds": self.seconds,
        }

    def solution(self, prepared: PreparedData) -> Solution:
        """The refined molecules as every finished structure is handed on."""
        result = self.refined.refinement
        statistics = fourier_map(difference_coefficients(result, prepared.f_sq)).statistics()
        n_atoms = sum(s.element_symbol() != "H" for s in result.xray_structure.scatterers())
        return Solution(
            xray_structure=result.xray_structure,
            solved=self.judgement.right,
            difference_peak=statistics.max(),
            difference_hole=statistics.min(),
            difference_rms=statistics.sigma(),
            max_shift_over_esd=result.max_shift_over_esd,
            composition=cell_contents(result.xray_structure),
            history=(
                Step("known molecules placed", self.placed.best.r1, n_atoms),
                Step(self.refined.level.name, result.r1, n_atoms),
            ),
            warnings=(
                *([self.doubt] if self.doubt else []),
                *(f"Against this molecule: {text}." for text in self.judgement.reasons),
            ),
            **refinement_figures(result),
            riding=self.refined.groups,
        )


def build_molecules(
    data: CrystalData,
    prepared: PreparedData,
    sources: Sequence[str],
    copies: Sequence[int] = (),
    phase_sets: Sequence | Callable = (),
    seed: int = 0,
    progress=None,
    relax: Callable[[Molecule], Molecule] | None = None,
) -> MoleculeResult:
    """Place, refine and judge known molecules.

    Parameters
    ----------
    data : CrystalData
    prepared : PreparedData
    sources : sequence of str
        SMILES, InChI or files (see `phai_cctbx.building.molecule.read_molecules`).
    copies : sequence of int, optional
        Copies of each source in the asymmetric unit. By default what the cell contents say for a
        single source (1/2 and less is one molecule on a special position), otherwise 1.
    phase_sets : sequence of phai_cctbx.phasing.result.PhasingResult, or callable
        May be empty. A function that returns them is called where |F| alone does not convince.
    seed : int
    progress : callable, optional
        Called with (steps done, steps in all).
    relax : callable, optional
        Gives each molecule a better geometry (`phai_cctbx.aspherical.geometry.relaxed`).

    Returns
    -------
    MoleculeResult

    Raises
    ------
    libtbx.utils.Sorry
        If a source is no molecule, `copies` does not fit or the data are too few.
    """
    began = time.monotonic()
    copies = list(copies)
    if copies and len(copies) != len(sources):
        raise Sorry(
            f"copies={' '.join(map(str, copies))}: {len(copies)} numbers for {len(sources)}"
            " molecules, one for each is expected."
        )
    if any(n < 1 for n in copies):
        raise Sorry("copies= counts whole molecules: 1 for one on a special position, too.")
    sets = [read_molecules(source, seed) for source in sources]
    if relax is not None:
        sets = [[relax(molecule) for molecule in molecules] for molecules in sets]
    for molecule in sum(sets, []):
        describe(molecule)
    per_unit = [_per_asymmetric_unit(data, molecules) for molecules in sets]
    placed_molecules, weights = [], []
    for k, molecules in enumerate(sets):
        share = per_unit[k]
        number = copies[k] if copies else max(1, round(share)) if len(sets) == 1 else 1
        weight = share if share < DISPLACED else 1.0
        placed_molecules += molecules * number
        weights += [weight] * (len(molecules) * number)
    largest_first = sorted(
        range(len(placed_molecules)), key=lambda i: -len(placed_molecules[i].heavy)
    )
    placed_molecules = [placed_molecules[i] for i in largest_first]
    weights = [weights[i] for i in largest_first]
    _check_room(data, placed_molecules, weights)
    doubt = contents_doubt(data, placed_molecules, weights)
    if doubt:
        logger.info("%s", doubt)
    for molecule, weight in zip(placed_molecules, weights, strict=True):
        on = "" if weight == 1 else f", {weight:.3g} of it unique: on a special position"
        logger.info("To place: %s%s", molecule.name, on)
    tried: list[tuple[PlacementResult, MoleculeRefinement, Judgement]] = []

    def nothing_speaks_against(found: PlacementResult) -> bool:
        """Refine and judge the best placement of a search."""
        tried[:] = [(found, *_refined_and_judged(data, prepared, found, seed))]
        return tried[0][2].right

    placed = place(
        prepared.f_obs,
        placed_molecules,
        weights,
        phase_sets,
        radiation=data.radiation,
        seed=seed,
        progress=progress,
        accepted=nothing_speaks_against,
    )
    if not tried or tried[0][0] is not placed:
        nothing_speaks_against(placed)
    _, refined, judgement = tried[0]
    for line in judgement_lines(judgement):
        logger.info("%s", line)
    return MoleculeResult(
        tuple(placed_molecules), placed, refined, judgement, time.monotonic() - began, doubt
    )


def _refined_and_judged(data, prepared, placed, seed) -> tuple[MoleculeRefinement, Judgement]:
    refined = refine_molecule(
        prepared.f_sq,
        prepared.f_obs,
        placed.best,
        radiation=data.radiation,
        wavelength=data.wavelength,
        seed=seed,
    )
    gap = refined_gap(
        prepared.f_sq, prepared.f_obs, placed, refined, data.radiation, data.wavelength
    )
    return refined, judge(prepared.f_obs, placed, refined, gap)


def _per_asymmetric_unit(data, molecules) -> float:
    """Copies of the molecules of one source in the asymmetric unit that the cell contents allow.

    It is the mean over elements other than hydrogen, and Z where the contents are an estimate.
    """
    order = data.crystal_symmetry.space_group().order_z()
    contents = data.composition.unit_cell_contents
    if data.composition.source.startswith("estimated"):
        return 1.0 if data.z is None else data.z / order
    needed: dict[str, int] = {}
    for molecule in molecules:
        for element, n in molecule.composition.items():
            if element != "H":
                needed[element] = needed.get(element, 0) + n
    have = sum(contents.get(element, 0) for element in needed)
    share = have / sum(needed.values()) / order
    if share <= 0:
        return 1.0
    return share if share < DISPLACED and _divides(share, order) else float(max(1, round(share)))


def _check_room(data, molecules, weights):
    """Refuse more atoms than the cell has room for."""
    volume = data.crystal_symmetry.unit_cell().volume()
    n_atoms = sum(len(m.heavy) * weight for m, weight in zip(molecules, weights, strict=True))
    n_atoms *= data.crystal_symmetry.space_group().order_z()
    if volume / n_atoms < MIN_VOLUME_PER_ATOM:
        raise Sorry(
            f"{n_atoms:.0f} non-hydrogen atoms of molecule= in a cell of {volume:.0f} A^3:"
            f" {volume / n_atoms:.1f} A^3 for each, molecular crystals have 14 to 25."
            " Check molecule=, copies=, the space group and the cell contents (UNIT and Z)."
        )


def contents_doubt(data: CrystalData, molecules, weights) -> str | None:
    """What to say where the molecules are not what the input says is in the cell.

    Parameters
    ----------
    data : CrystalData
    molecules : sequence of Molecule
    weights : sequence of float
    """
    if data.composition.source.startswith("estimated"):
        return None
    order = data.crystal_symmetry.space_group().order_z()
    given: dict[str, float] = {}
    for molecule, weight in zip(molecules, weights, strict=True):
        for element, n in molecule.composition.items():
            given[element] = given.get(element, 0) + n * weight
    listed = {e: n / order for e, n in data.composition.unit_cell_contents.items()}
    elements = sorted((set(given) | set(listed)) - {"H", "D"})
    if all(abs(given.get(e, 0) - listed.get(e, 0)) < 0.5 * min(weights) for e in elements):
        return None
    told = (
        " ".join(f"{e} {part[e]:.4g}" for e in elements if part.get(e, 0) > 0)
        for part in (given, listed)
    )
    return "The asymmetric unit holds {} by molecule=, {} by the cell contents.".format(*told)


def _divides(share, order) -> bool:
    """True where a fraction of a molecule, within a tenth, can lie on a special position."""
    return any(abs(share * k - 1) < 0.1 for k in range(2, order + 1))


def judgement_lines(judgement: Judgement) -> list[str]:
    """The verdict in the log."""
    lines = [
        f"Held-out R {judgement.held_out_r:.3f} (errors of {WRONG_ERROR:.2f} A in all coordinates"
        f" would give {judgement.error_r:.3f}), log-likelihood gap to the second placement"
        f" {judgement.log_likelihood_gap:.1f}, strain {judgement.restraint_rms:.2f} estimated"
        " deviations",
    ]
    lines += [
        f"  {atom.label:<6s} map correlation {atom.correlation:5.2f}, density"
        f" {100 * atom.share:4.0f} % of its own, log-likelihood gain {atom.gain:6.1f}"
        f"{'  <- not shown by the data' * atom.flagged}"
        for atom in judgement.atoms
    ]
    lines += [
        f"  fragment {part.label}: map correlation {part.correlation:.2f}"
        for part in judgement.fragments
    ]
    if judgement.right:
        return [*lines, "Nothing speaks against this molecule."]
    return [*lines, *(f"Against this molecule: {reason}." for reason in judgement.reasons)]
