"""What may be in a crystal whose molecule is not given: common molecules, or else fragments.

Molecules of the same formula are placed, refined and judged like one that was given; one is taken
where nothing speaks against it and no other is nearly as likely. Fragments that the cell contents
have room for are searched in the phased map.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

# cctbx
from libtbx.utils import Sorry

from phai_cctbx.building.fragment_library import Proposal, fragments_for, molecules_for
from phai_cctbx.building.fragment_placement import PlacedFragment, place_fragments
from phai_cctbx.io.crystal_data import CrystalData
from phai_cctbx.phasing.normalisation import PreparedData
from phai_cctbx.phasing.result import PhasingResult
from phai_cctbx.programs.molecule import MoleculeResult, build_molecules
from phai_cctbx.refinement.molecule_judgement import (
    MIN_LOG_LIKELIHOOD_GAP,
    log_likelihood_gain,
)
from phai_cctbx.refinement.molecule_refinement import calculated_amplitudes

logger = logging.getLogger(__name__)

N_TRIED_MAX = 6
"""Molecules that are tried, those of one kind first: each takes seconds to a minute."""


@dataclass(frozen=True)
class TriedMolecule:
    """One proposal and what came of it.

    Attributes
    ----------
    proposal : Proposal
    result : MoleculeResult or None
        None where it could not be tried.
    reasons : tuple of str
        What speaks against it.
    """

    proposal: Proposal
    result: MoleculeResult | None
    reasons: tuple[str, ...]

    @property
    def right(self) -> bool:
        """Nothing speaks against it."""
        return not self.reasons

    def summary(self) -> dict:
        """For the .json file."""
        return {
            "name": self.proposal.name,
            "molecules": list(self.proposal.smiles),
            "right": self.right,
            "held_out_r": self.result and self.result.judgement.held_out_r,
            "reasons": list(self.reasons),
        }


@dataclass(frozen=True)
class MoleculeProposals:
    """All molecules that the cell contents suggest.

    Attributes
    ----------
    tried : tuple of TriedMolecule
        Best first.
    n_left_out : int
        Proposals beyond `N_TRIED_MAX`.
    """

    tried: tuple[TriedMolecule, ...]
    n_left_out: int = 0

    @property
    def taken(self) -> TriedMolecule | None:
        """The molecule that counts as found, None without one."""
        return self.tried[0] if self.tried and self.tried[0].right else None

    @property
    def statement(self) -> str:
        """What was proposed and what came of it, in a sentence."""
        if self.taken:
            return (
                f"No molecule was given; {self.taken.proposal.name} has the formula of the cell"
                " contents, and nothing speaks against it."
            )
        if not self.tried:
            return "No molecule was given, and no common one has the formula of the cell contents."
        names = ", ".join(f"{each.proposal.name} ({each.reasons[0]})" for each in self.tried)
        more = f" {self.n_left_out} more were not tried." if self.n_left_out else ""
        return (
            "No molecule was given; those with the formula of the cell contents were tried in vain:"
            f" {names}.{more}"
        )


def propose_molecules(
    data: CrystalData,
    prepared: PreparedData,
    phase_sets: Sequence = (),
    seed: int = 0,
    progress: Callable | None = None,
) -> MoleculeProposals:
    """Try the common molecules that are the whole asymmetric unit.

    None is proposed where the cell contents are an estimate.

    Parameters
    ----------
    data : CrystalData
    prepared : PreparedData
    phase_sets : sequence of phai_cctbx.phasing.result.PhasingResult
    seed : int
    progress : callable, optional
        Called with (molecules done, molecules in all).
    """
    proposals = molecules_for(contents_per_asymmetric_unit(data), _order(data))
    tried = []
    for number, proposal in enumerate(proposals[:N_TRIED_MAX]):
        if progress:
            progress(number, len(proposals))
        logger.info("Proposed by the cell contents: %s", proposal.name)
        try:
            result = build_molecules(
                data, prepared, proposal.smiles, proposal.copies, phase_sets, seed
            )
        except Sorry as error:
            tried.append(TriedMolecule(proposal, None, (str(error),)))
            continue
        tried.append(TriedMolecule(proposal, result, result.judgement.reasons))
    ranked = sorted(tried, key=lambda each: (not each.right, _held_out_r(each)))
    return MoleculeProposals(
        tuple(_with_rivals(ranked, prepared)), max(0, len(proposals) - N_TRIED_MAX)
    )


def propose_fragments(
    data: CrystalData,
    prepared: PreparedData,
    phasing: PhasingResult,
    seed: int = 0,
    progress: Callable | None = None,
) -> list[PlacedFragment]:
    """Fragments that the cell contents have room for and the phased map shows.

    None is placed where the cell contents are an estimate.

    Parameters
    ----------
    data : CrystalData
    prepared : PreparedData
    phasing : PhasingResult
    seed : int
        Of the random phases that they are held against.
    progress : callable, optional
        Called with (fragments done, fragments in all).
    """
    contents = contents_per_asymmetric_unit(data)
    fragments = fragments_for(contents)
    if not fragments:
        return []
    placed = place_fragments(
        phasing.f_phased,
        phasing.confidence,
        fragments,
        contents,
        radiation=data.radiation,
        seed=seed,
        progress=progress,
    )
    logger.info(
        "%d fragments were searched in the phased map, %d stand out.", len(fragments), len(placed)
    )
    return placed


def contents_per_asymmetric_unit(data: CrystalData) -> dict[str, float]:
    """Element -> atoms in the asymmetric unit; empty where the contents are an estimate."""
    if data.composition.source.startswith("estimated"):
        return {}
    return {e: n / _order(data) for e, n in data.composition.unit_cell_contents.items()}


def _order(data):
    return data.crystal_symmetry.space_group().order_z()


def _held_out_r(tried):
    return tried.result.judgement.held_out_r if tried.result else float("inf")


def _with_rivals(ranked, prepared):
    """The proposals, the first one doubted where another right one is nearly as likely."""
    right = [each for each in ranked if each.right]
    if len(right) < 2:
        return ranked
    amplitudes = [
        calculated_amplitudes(each.result.refined.refinement.xray_structure, prepared.f_obs)
        for each in right
    ]
    best = max(range(len(right)), key=lambda i: _gain(prepared, amplitudes, i, 0))
    first = right[best]
    doubts = tuple(
        f"{other.proposal.name} is nearly as likely (log L lower by {gain:.1f})"
        for i, other in enumerate(right)
        if i != best
        for gain in [_gain(prepared, amplitudes, best, i)]
        if gain < MIN_LOG_LIKELIHOOD_GAP
    )
    others = [each for each in ranked if each is not first]
    beaten = [
        replace(each, reasons=(f"{first.proposal.name} is likelier",)) if each in right else each
        for each in others
    ]
    return [replace(first, reasons=doubts), *beaten]


def _gain(prepared, amplitudes, i, j):
    observed = prepared.f_obs.data().as_numpy_array()
    return log_likelihood_gain(observed, amplitudes[i], amplitudes[j])
