"""Whether the given molecule is the one in the crystal, by figures that know no answer.

Models are compared by their likelihoods: without each atom, with one more, placed elsewhere. The
reflections that the refinement did not see are held against coordinate errors simulated in the same
crystal, so that no threshold depends on resolution, space group or size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# cctbx
from cctbx import miller, sgtbx, xray
from cctbx.array_family import flex

from phai_cctbx.building.molecule import Molecule
from phai_cctbx.building.molecule_placement import PlacementResult
from phai_cctbx.building.molecule_pose import agreement
from phai_cctbx.building.peaks import find_peaks
from phai_cctbx.refinement.molecule_refinement import MoleculeRefinement

SPHERE = 1.0
"""Radius (A) about an atom in which densities are compared."""

N_POINTS = 60
"""Points in that sphere."""

MIN_ATOM_CORRELATION = 0.5
"""Omit-map correlation below which an atom is flagged; noise gives 0."""

MAX_OMITTED = 0.1
"""Share of the scattering up to which phases stand without an atom; a heavier one is judged by the
difference density on the phases of the whole model."""

MAX_DENSITY_SHARE = 1.6
"""Density left out at an atom, over its own, that is too much for its element."""

MAX_RESTRAINT_RMS = 4.0
"""Strain in estimated deviations: one restraint so far off has a chance of 6 in 100 000."""

MIN_LOG_LIKELIHOOD_GAP = 3.0
"""Odds of 20 to 1: a second placement, or a model without an atom, that is nearer is as likely."""


WRONG_ERROR = 0.20
"""Root mean square error (A) of coordinates from which on a molecule counts as not found."""

ALERT_R = 0.20
"""R from which on checkCIF raises an alert A (its tests of R1 and wR2), whatever the crystal."""

N_SIMULATIONS = 5
"""Models with such errors that are averaged."""

SHORTEST_BOND, N_DIFFERENCE_PEAKS = 1.1, 12
"""Another atom is at least so far (A) from all others; peaks where it is looked for."""


@dataclass(frozen=True)
class AtomFigure:
    """One atom or fragment.

    Attributes
    ----------
    label : str
    correlation : float
        Of the density that is there when it is left out with its own.
    share : float
        Density found over density expected.
    flagged : bool
    gain : float
        log-likelihood of the model minus that of the model without this atom and its hydrogens.
    """

    label: str
    correlation: float
    share: float
    flagged: bool
    gain: float = float("inf")


@dataclass(frozen=True)
class Missing:
    """A place where the data ask for an atom that the molecule does not have.

    Attributes
    ----------
    site : tuple of float
        Fractional.
    gain : float
        log-likelihood with a whole carbon atom there minus that without, less the logarithm of the
        number of places that were open to it.
    distance : float
        To the nearest non-hydrogen atom, A.
    """

    site: tuple[float, float, float]
    gain: float
    distance: float


@dataclass(frozen=True)
class Judgement:
    """The verdict on a molecule and its evidence.

    Attributes
    ----------
    right : bool
        No evidence against the molecule.
    reasons : tuple of str
        The evidence against it, or against the placement.
    held_out_r : float
    log_likelihood_gap : float
        To the second-best placement; inf where no other was found.
    restraint_rms : float
    atoms, fragments : tuple of AtomFigure
    error_r : float
        R that errors of `WRONG_ERROR` in all coordinates would cause in this crystal.
    missing : tuple of Missing
        Places where one more atom would be likelier than none, the likeliest first.
    """

    right: bool
    reasons: tuple[str, ...]
    held_out_r: float
    log_likelihood_gap: float
    restraint_rms: float
    atoms: tuple[AtomFigure, ...]
    fragments: tuple[AtomFigure, ...]
    error_r: float = float("nan")
    missing: tuple[Missing, ...] = ()


def judge(
    f_obs: miller.array,
    placed: PlacementResult,
    refined: MoleculeRefinement,
    gap: float,
) -> Judgement:
    """Weigh the evidence on a refined molecule.

    Parameters
    ----------
    f_obs : cctbx.miller.array
        Amplitudes.
    placed : PlacementResult
    refined : MoleculeRefinement
    gap : float
        log-likelihood above the second placement
        (`phai_cctbx.refinement.molecule_rivals.refined_gap`).

    Returns
    -------
    Judgement
    """
    structure = refined.refinement.xray_structure
    scatterers = structure.scatterers()
    heavy = [i for i, s in enumerate(scatterers) if s.element_symbol() not in ("H", "D")]
    parts = _contributions(f_obs, structure)
    observed = f_obs.data().as_numpy_array()
    calculated = parts.sum(axis=1)
    modulus = np.abs(calculated)
    observed = observed * (modulus @ modulus) / (observed @ modulus)
    hydrogens = {group.pivot: group.hydrogens for group in refined.groups}
    atoms = tuple(
        _figure(
            f_obs,
            observed,
            calculated,
            parts[:, i],
            parts[:, list(hydrogens.get(i, ()))].sum(axis=1),
            structure,
            i,
        )
        for i in heavy
    )
    by_number = dict(zip(heavy, atoms, strict=True))
    fragments = tuple(
        _mean([by_number[i] for i in members]) for members in _fragments(refined.placement, heavy)
    )
    missing = missing_atoms(f_obs, observed, calculated, structure)
    error_r = r_of_coordinate_errors(f_obs, calculated, structure, WRONG_ERROR)
    reasons = evidence_against(
        refined.level.held_out_r,
        error_r,
        atoms,
        missing,
        refined.restraint_rms,
        gap,
        placed.clashes,
    )
    return Judgement(
        right=not reasons,
        reasons=reasons,
        held_out_r=refined.level.held_out_r,
        log_likelihood_gap=gap,
        restraint_rms=refined.restraint_rms,
        atoms=atoms,
        fragments=fragments,
        error_r=error_r,
        missing=missing,
    )


def evidence_against(
    held_out_r: float,
    error_r: float,
    atoms: Sequence[AtomFigure],
    missing: Sequence[Missing],
    restraint_rms: float,
    gap: float,
    clashes: Sequence[str],
) -> tuple[str, ...]:
    """What speaks against a molecule or its placement, in words; empty where nothing does.

    Parameters
    ----------
    held_out_r, error_r, restraint_rms : float
        As in `Judgement`.
    atoms : sequence of AtomFigure
    missing : sequence of Missing
    gap : float
        log-likelihood of the best placement minus that of the second.
    clashes : sequence of str
    """
    reasons = []
    if held_out_r > ALERT_R:
        reasons.append(f"held-out R {held_out_r:.3f} is above {ALERT_R:.2f}")
    elif held_out_r > error_r:
        reasons.append(
            f"held-out R {held_out_r:.3f} is above {error_r:.3f}, what errors of"
            f" {WRONG_ERROR:.2f} A in all coordinates would cause"
        )
    flagged = [atom.label for atom in atoms if atom.flagged]
    if flagged:
        reasons.append(f"the density does not show {', '.join(flagged)}")
    if missing:
        x, y, z = missing[0].site
        reasons.append(
            f"the data ask for another atom at {x:.3f} {y:.3f} {z:.3f}, {missing[0].distance:.1f} A"
            f" from the molecule (log L higher by {missing[0].gain:.1f})"
        )
    if restraint_rms > MAX_RESTRAINT_RMS:
        reasons.append(f"the geometry is strained, {restraint_rms:.1f} estimated deviations")
    if gap < MIN_LOG_LIKELIHOOD_GAP:
        reasons.append(f"another placement is nearly as likely (log L lower by {gap:.1f})")
    if clashes:
        reasons.append(f"{len(clashes)} contacts are too short: {clashes[0]}")
    return tuple(reasons)


def is_doubtful(correlation: float, share: float, gain: float) -> bool:
    """Whether the data do not show an atom as what it is (see `AtomFigure`)."""
    return (
        correlation < MIN_ATOM_CORRELATION
        or share > MAX_DENSITY_SHARE
        or gain < MIN_LOG_LIKELIHOOD_GAP
    )


def _contributions(f_obs, structure) -> np.ndarray:
    """Structure factors of each scatterer with its images, shape (reflections, scatterers)."""
    columns = []
    for i in range(structure.scatterers().size()):
        alone = structure.select(flex.size_t([i]))
        alone.scattering_type_registry(table=structure.scattering_type_registry().last_table())
        columns.append(
            f_obs.structure_factors_from_scatterers(alone, algorithm="direct")
            .f_calc()
            .data()
            .as_numpy_array()
        )
    return np.array(columns).T


def _figure(f_obs, observed, calculated, own, hydrogens, structure, i) -> AtomFigure:
    """Density with an atom left out of model and phases, against its own."""
    rest = calculated - own
    if (np.abs(own) ** 2).sum() < MAX_OMITTED * (np.abs(calculated) ** 2).sum():
        left = (observed - np.abs(rest)) * np.exp(1j * np.angle(rest))
        restored = _restored(f_obs)
    else:
        difference = (observed - np.abs(calculated)) * np.exp(1j * np.angle(calculated))
        left, restored = own + _restored(f_obs) * difference, 1.0
    points = _sphere(structure, structure.scatterers()[i].site)
    indices = f_obs.indices().as_vec3_double().as_numpy_array()
    found, expected = _densities(f_obs, indices, np.stack([left, own], axis=1), points)
    spread = found.std() * expected.std()
    correlation = float(np.mean((found - found.mean()) * (expected - expected.mean())) / spread)
    share = float((found @ expected) / (expected @ expected))
    gain = log_likelihood_gain(observed, calculated, calculated - own - hydrogens)
    label = structure.scatterers()[i].label
    share *= restored
    return AtomFigure(label, correlation, share, is_doubtful(correlation, share, gain), gain)


def log_likelihood_gain(observed, calculated, other) -> float:
    """log-likelihood of `calculated` minus that of `other` structure factors.

    n/2 ln of the ratio of the residuals, each on its own scale: with errors of one unknown
    variance, the likelihood at its best is residual^(-n/2).
    """
    own, rival = (agreement(observed, np.abs(f_calc))["residual"] for f_calc in (calculated, other))
    return 0.5 * len(observed) * float(np.log(rival / max(own, 1e-9)))


def missing_atoms(f_obs, observed, calculated, structure) -> tuple[Missing, ...]:
    """Places where a whole carbon atom more is likelier than none.

    Two hypotheses are compared at each peak of the difference map that is at least a bond away
    from all atoms: nothing, and one carbon with the mean U of the model. Each of the M places of
    the asymmetric unit, a cube of d_min / 2 each, has a prior chance of 1 in M.

    Parameters
    ----------
    f_obs : cctbx.miller.array
    observed : numpy.ndarray, shape (n,)
        Amplitudes on the scale of `calculated`.
    calculated : numpy.ndarray of complex, shape (n,)
    structure : cctbx.xray.structure
    """
    difference = (observed - np.abs(calculated)) * np.exp(1j * np.angle(calculated))
    coefficients = f_obs.customized_copy(
        data=flex.complex_double(np.ascontiguousarray(difference)), sigmas=None
    )
    peaks = find_peaks(coefficients, N_DIFFERENCE_PEAKS, SHORTEST_BOND)
    heavy = structure.select(~structure.hd_selection())
    places = structure.unit_cell().volume() / structure.space_group().order_z()
    prior = np.log(max(places / (f_obs.d_min() / 2) ** 3, 1.0))
    u_iso = float(np.mean(heavy.extract_u_iso_or_u_equiv()))
    found = []
    for site in peaks.sites:
        equivalents = sgtbx.sym_equiv_sites(structure.space_group(), site, structure.unit_cell())
        distance = min(
            sgtbx.min_sym_equiv_distance_info(equivalents, other).dist()
            for other in heavy.sites_frac()
        )
        if distance < SHORTEST_BOND:
            continue
        carbon = xray.structure(crystal_symmetry=structure.crystal_symmetry())
        carbon.add_scatterer(xray.scatterer("C", site=site, u=u_iso, scattering_type="C"))
        carbon.scattering_type_registry(table=structure.scattering_type_registry().last_table())
        own = f_obs.structure_factors_from_scatterers(carbon, algorithm="direct").f_calc().data()
        gain = -log_likelihood_gain(observed, calculated, calculated + own.as_numpy_array())
        if gain > prior:
            found.append(Missing(tuple(site), gain - prior, distance))
    return tuple(sorted(found, key=lambda place: -place.gain))


def r_of_coordinate_errors(f_obs, calculated, structure, error: float, seed: int = 0) -> float:
    """R between a model and itself with errors in the sites of its non-hydrogen atoms.

    Luzzati's curve (Acta Cryst. 5, 802, 1952) for this very crystal, resolution and space group.

    Parameters
    ----------
    f_obs : cctbx.miller.array
        For the indices.
    calculated : numpy.ndarray of complex, shape (n,)
    structure : cctbx.xray.structure
    error : float
        Root mean square distance, A.
    seed : int
    """
    rng = np.random.default_rng(seed)
    figures = []
    for _ in range(N_SIMULATIONS):
        moved = structure.deep_copy_scatterers()
        shifts = rng.normal(scale=error / np.sqrt(3), size=(structure.scatterers().size(), 3))
        moved.set_sites_cart(structure.sites_cart() + flex.vec3_double(shifts))
        f_moved = f_obs.structure_factors_from_scatterers(moved, algorithm="direct").f_calc()
        modulus = np.abs(f_moved.data().as_numpy_array())
        figures.append(agreement(np.abs(calculated), modulus)["r1"])
    return float(np.mean(figures))


def _mean(atoms) -> AtomFigure:
    """A fragment by the means of its atoms."""
    correlation = float(np.mean([atom.correlation for atom in atoms]))
    share = float(np.mean([atom.share for atom in atoms]))
    flagged = correlation < MIN_ATOM_CORRELATION
    return AtomFigure(" ".join(atom.label for atom in atoms), correlation, share, flagged)


def _restored(f_obs) -> float:
    """Acentric maps without the atom show about half of it (Luzzati, Acta Cryst. 6, 142, 1953)."""
    return 1.0 if f_obs.space_group().is_centric() else 2.0


def _densities(f_obs, indices, coefficients, points):
    """Values of Fourier syntheses at points; symmetry by turning the points."""
    total = np.zeros((len(points), coefficients.shape[1]))
    group = f_obs.space_group()
    multiplicity = group.multiplicity(f_obs.indices(), False).as_numpy_array() / group.order_p()
    for operator in list(group)[: group.order_p()]:
        rotation = np.array(operator.r().as_double()).reshape(3, 3)
        image = points @ rotation.T + np.array(operator.t().as_double())
        waves = np.exp(-2j * np.pi * (image @ indices.T)) * multiplicity
        total += (waves @ coefficients).real
    return total.T


def _sphere(structure, site) -> np.ndarray:
    """Fractional points spread evenly in a sphere about a site."""
    i = np.arange(N_POINTS) + 0.5
    radius = SPHERE * (i / N_POINTS) ** (1 / 3)
    azimuth, height = np.pi * (1 + np.sqrt(5)) * i, 1 - 2 * ((i * 0.61803398875) % 1.0)
    flat = np.sqrt(1 - height**2)
    cart = radius[:, None] * np.stack(
        [flat * np.cos(azimuth), flat * np.sin(azimuth), height], axis=1
    )
    inverse = np.array(structure.unit_cell().fractionalization_matrix()).reshape(3, 3)
    return np.array(site) + cart @ inverse.T


def _fragments(placement, heavy):
    """Unique non-hydrogen scatterers of each rigid part, where no symmetry cuts the molecules."""
    if len(heavy) != sum(len(pose.molecule.heavy) for pose in placement.poses):
        return []
    parts, begin = [], 0
    for pose in placement.poses:
        own = heavy[begin : begin + len(pose.molecule.heavy)]
        number = dict(zip(pose.molecule.heavy.tolist(), own, strict=True))
        parts += [[number[i] for i in part] for part in rigid_parts(pose.molecule)]
        begin += len(own)
    return parts


def rigid_parts(molecule: Molecule) -> list[list[int]]:
    """Non-hydrogen atoms of each part between rotatable bonds."""
    cut = {frozenset(torsion.axis) for torsion in molecule.torsions}
    left, parts = {int(i) for i in molecule.heavy}, []
    while left:
        waiting = [left.pop()]
        part = [*waiting]
        while waiting:
            i = waiting.pop()
            for j in molecule.neighbours[i]:
                if j in left and frozenset((i, j)) not in cut:
                    left.remove(j)
                    part.append(j)
                    waiting.append(j)
        parts.append(sorted(part))
    return sorted(parts)
