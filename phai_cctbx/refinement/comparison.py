"""A structure against a reference model, over every allowed origin, hand and symmetry.

The superposition is found by Euclidean model matching (Emma of cctbx) on the
non-hydrogen atoms. It is for tests and benchmarks: it knows the answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# cctbx
from cctbx import euclidean_model_matching as emma
from cctbx import xray
from scitbx import matrix

from phai_cctbx.building.connectivity import HYDROGENS, bonds, element_of

MATCH_TOLERANCE = 0.5
"""Distance (A) within which an atom of the structure is taken for one of the reference."""

FULL_OCCUPANCY = 0.99
"""Occupancy above which an atom counts as not disordered."""

CERTAIN_RMS = 0.1
"""Root mean square distance (A) of a full match that ends the search for a better one."""

MAJOR_OCCUPANCY = 0.5
"""Atoms below this occupancy are minor parts of disorder: they need not be found, and those of the
structure are not compared."""


@dataclass(frozen=True)
class Comparison:
    """How far a structure is from its reference.

    Attributes
    ----------
    rmsd, max_distance : float
        Over the matched atoms, A; nan without a match.
    n_matched, n_missing : int
        Major non-hydrogen atoms of the reference that are, and are not, in the structure.
    n_extra : int
        Non-hydrogen atoms of the structure, without its minor parts, that are no atom of the
        reference, minor parts included.
    wrong_elements : int
        Matched atoms of another element than in the reference.
    missing_ch, extra_ch : int
        Hydrogens on matched carbon atoms that the reference has and the structure lacks, and
        the other way round; fully occupied carbon atoms only.
    details : tuple of (reference label, structure label, reference element, element, distance)
        The matched pairs.
    """

    rmsd: float
    max_distance: float
    n_matched: int
    n_missing: int
    n_extra: int
    wrong_elements: int
    missing_ch: int = 0
    extra_ch: int = 0
    details: tuple[tuple[str, str, str, str, float], ...] = ()


def _heavy_positions(structure: xray.structure):
    """Non-hydrogen scatterers of a structure, in one list."""
    return [s for s in structure.scatterers() if element_of(s) not in HYDROGENS]


def _model(structure: xray.structure, scatterers) -> emma.model:
    positions = [emma.position(str(i), s.site) for i, s in enumerate(scatterers)]
    return emma.model(structure.as_emma_model().special_position_settings(), positions)


def compare(
    structure: xray.structure, reference: xray.structure, tolerance: float = MATCH_TOLERANCE
) -> Comparison:
    """Compare the non-hydrogen atoms of a structure with those of a reference.

    Parameters
    ----------
    structure, reference : xray.structure
        In the same setting of the same space group.
    tolerance : float
        Largest distance (A) of two atoms that are taken for one another.

    Returns
    -------
    Comparison
    """
    structure = structure.select(structure.scatterers().extract_occupancies() >= MAJOR_OCCUPANCY)
    found = _heavy_positions(structure)
    expected = [s for s in _heavy_positions(reference) if s.occupancy >= MAJOR_OCCUPANCY]
    minor = [s for s in _heavy_positions(reference) if s.occupancy < MAJOR_OCCUPANCY]
    nothing = Comparison(float("nan"), float("nan"), 0, len(expected), len(found), 0)
    if not found or not expected:
        return nothing
    matches = emma.delegating_model_matches(
        _model(reference, expected),
        _model(structure, found),
        tolerance=tolerance,
        models_are_diffraction_index_equivalent=True,
        shall_break=lambda match: len(match.pairs) == len(expected) and match.rms < CERTAIN_RMS,
    ).refined_matches
    if not matches:
        return nothing
    best = max(matches, key=lambda match: (len(match.pairs), -match.rms))
    distances = [best.calculate_shortest_dist(pair) for pair in best.pairs]
    details = []
    wrong = 0
    for (i, j), distance in zip(best.pairs, distances, strict=True):
        element_expected, element_found = element_of(expected[i]), element_of(found[j])
        wrong += element_expected != element_found
        details.append(
            (expected[i].label, found[j].label, element_expected, element_found, distance)
        )
    carbon_pairs = [
        (expected[i].label, found[j].label)
        for i, j in best.pairs
        if element_of(expected[i]) == "C" and expected[i].occupancy > FULL_OCCUPANCY
    ]
    ours, theirs = _hydrogen_counts(structure), _hydrogen_counts(reference)
    surplus = [ours[label] - theirs[expected_label] for expected_label, label in carbon_pairs]
    n_extra = len(found) - len(best.pairs)
    if minor and n_extra:
        paired = {j for _, j in best.pairs}
        rest = [s for j, s in enumerate(found) if j not in paired]
        n_extra -= _n_on_minor(rest, minor, best, reference, tolerance)
    return Comparison(
        rmsd=float(np.sqrt(np.mean(np.square(distances)))),
        max_distance=float(np.max(distances)),
        n_matched=len(best.pairs),
        n_missing=len(expected) - len(best.pairs),
        n_extra=n_extra,
        wrong_elements=wrong,
        missing_ch=round(sum(-n for n in surplus if n < 0)),
        extra_ch=round(sum(n for n in surplus if n > 0)),
        details=tuple(details),
    )


def _hydrogen_counts(structure: xray.structure) -> dict[str, float]:
    """Hydrogens bonded to each non-hydrogen atom, by label; partial ones by their occupancy."""
    scatterers = structure.scatterers()
    counts = {}
    for scatterer, neighbours in zip(scatterers, bonds(structure), strict=True):
        if element_of(scatterer) not in HYDROGENS:
            counts[scatterer.label] = sum(
                scatterers[n.index].occupancy
                for n in neighbours
                if element_of(scatterers[n.index]) in HYDROGENS
            )
    return counts


def _n_on_minor(rest, minor, match, reference, tolerance: float) -> int:
    """Number of unmatched atoms that lie on minor atoms of the reference."""
    unit_cell = reference.unit_cell()
    images = np.array(
        [operator * scatterer.site for scatterer in minor for operator in reference.space_group()]
    )
    n_on = 0
    for scatterer in rest:
        site = np.array((match.rt.r * matrix.col(scatterer.site) + match.rt.t).elems)
        difference = images - site
        difference -= np.round(difference)
        n_on += min(unit_cell.length(tuple(row)) for row in difference) < tolerance
    return n_on
