"""Whether observations can be used, and whether they fit cell and space group."""

from __future__ import annotations

import numpy as np

from cctbx import crystal, miller, sgtbx
from cctbx.array_family import flex
from libtbx.utils import Sorry

from phai_cctbx.io.reflections import Reflections

MIN_UNIQUE_REFLECTIONS = 20
# No diffraction experiment on crystals reaches further, A.
MIN_D_SPACING = 0.1
# Share of reflections beyond d = wavelength / 2 that may be slips; more means a wrong cell.
MAX_SHARE_BEYOND_LIMIT = 0.01
# Systematic absences: number that must be there before they count, and what they may show.
# Half-wavelength contamination gives a few weak ones; a wrong setting, intensities like the rest.
MIN_ABSENCES = 10
ABSENT_SIGNIFICANT = 3.0
MAX_ABSENT_SHARE = 0.5
MAX_ABSENT_RATIO = 0.25
# Equivalents that agree well have R_int below 0.1, poor crystals up to 0.2, and two unrelated
# intensities 0.5 (A. J. C. Wilson, Acta Cryst. 2 (1949) 318). Only strong ones count (mean
# above 10 sigma), and only where they agree clearly better as mere Friedel mates.
STRONG = 10.0
MIN_STRONG_GROUPS = 50
MAX_STRONG_R_INT = 0.30
MIN_R_INT_RATIO = 2.0


def usable(
    reflections: Reflections,
    crystal_symmetry: crystal.symmetry,
    wavelength: float | None,
    radiation: str,
) -> tuple[miller.array, Reflections]:
    """Return the observations that can be used, and the list with its count of rejections.

    Raises
    ------
    Sorry
        If the list as a whole cannot be used with this cell and space group.
    """
    reflections = _with_usable_indices(reflections, crystal_symmetry, wavelength, radiation)
    reflections = _with_usable_sigmas(reflections)
    if reflections.amplitudes:
        reflections = reflections.select(reflections.values >= 0, "negative amplitude")
    if len(reflections.values) and not np.any(reflections.values > 0):
        raise Sorry(
            f"{reflections.source}: no observation is greater than zero. Check that the columns"
            " hold h k l, intensity, sigma."
        )
    observations = _array(reflections, crystal_symmetry)
    _check_number(reflections, observations)
    _check_absences(reflections, observations)
    if radiation != "electron":
        _check_equivalents(reflections, observations)
    return observations, reflections


def _array(reflections, crystal_symmetry):
    if not len(reflections.values):
        raise Sorry(
            f"{reflections.source}: no usable reflection is left"
            f" ({_summary(reflections)}). Export the reflections again."
        )
    return reflections.as_miller_array(crystal_symmetry)


def _summary(reflections):
    return ", ".join(f"{reason}: {n}" for reason, n in reflections.rejected.items()) or "none read"


def _with_usable_indices(reflections, crystal_symmetry, wavelength, radiation):
    """Leave out F000 and slips beyond the limiting sphere; refuse where there are many."""
    reflections = reflections.select(np.any(reflections.indices != 0, axis=1), "indices 0 0 0")
    g11, g22, g33, g12, g13, g23 = crystal_symmetry.unit_cell().reciprocal().metrical_matrix()
    metric = np.array([[g11, g12, g13], [g12, g22, g23], [g13, g23, g33]])
    indices = reflections.indices.astype(float)
    d_star_sq = np.einsum("ni,ij,nj->n", indices, metric, indices)
    limit = MIN_D_SPACING
    if wavelength and radiation != "neutron":
        # Time-of-flight and Laue neutron data have no single wavelength.
        limit = max(limit, wavelength / 2)
    # Cell constants and wavelength are rounded: 1 % of tolerance.
    inside = d_star_sq <= (1.01 / limit) ** 2
    n_outside = int(np.count_nonzero(~inside))
    if n_outside > MAX_SHARE_BEYOND_LIMIT * len(inside):
        i = int(np.argmax(d_star_sq))
        raise Sorry(
            f"{reflections.place(i)}: d = {d_star_sq[i] ** -0.5:.3f} A with this cell, and"
            f" {n_outside} of {len(inside)} reflections lie beyond the limit of {limit:.3f} A"
            " (half the wavelength). Check that cell, wavelength and indices belong together."
        )
    return reflections.select(inside, f"d below {limit:.3f} A")


def _with_usable_sigmas(reflections):
    sigmas = reflections.sigmas
    if sigmas is None or not len(sigmas):
        return reflections
    if not np.any(sigmas > 0):
        raise Sorry(
            f"{reflections.place(0)}: this sigma and all others are zero or negative."
            " Export the reflections with their standard uncertainties."
        )
    return reflections.select(sigmas > 0, "sigma not positive")


def _check_number(reflections, observations):
    n_unique = observations.customized_copy(anomalous_flag=False).unique_under_symmetry().size()
    if n_unique < MIN_UNIQUE_REFLECTIONS:
        raise Sorry(
            f"{reflections.source}: {n_unique} unique reflections ({_summary(reflections)}"
            f" left out), and at least {MIN_UNIQUE_REFLECTIONS} are needed."
            " Check the file and the space group, or measure more."
        )


def _check_absences(reflections, observations):
    """Refuse a space group whose absent reflections are as strong as the rest."""
    absent = observations.sys_absent_flags().data()
    if absent.count(True) < MIN_ABSENCES or observations.sigmas() is None:
        return
    absences = observations.select(absent)
    ratio = absences.data() / absences.sigmas()
    share = (ratio > ABSENT_SIGNIFICANT).count(True) / ratio.size()
    mean_present = flex.mean(observations.select(~absent).data()) if absent.count(False) else 0.0
    strength = flex.mean(absences.data())
    if share > MAX_ABSENT_SHARE and strength > MAX_ABSENT_RATIO * mean_present:
        i = int(np.argmax(np.where(absent.as_numpy_array(), reflections.values, -np.inf)))
        raise Sorry(
            f"{reflections.place(i)}: systematically absent in"
            f" {observations.space_group_info()}, but {share:.0%} of {ratio.size()} such"
            f" reflections exceed {ABSENT_SIGNIFICANT:g} sigma."
            " Correct the space group or the cell."
        )


def _check_equivalents(reflections, observations):
    """Refuse a Laue group whose strong equivalents disagree."""
    if observations.sigmas() is None:
        return
    r_int, n_strong = _strong_r_int(observations, reflections.amplitudes)
    if n_strong < MIN_STRONG_GROUPS or r_int < MAX_STRONG_R_INT:
        return
    triclinic = observations.customized_copy(space_group_info=sgtbx.space_group_info("P -1"))
    friedel_r_int, n_pairs = _strong_r_int(triclinic, reflections.amplitudes)
    if n_pairs < MIN_STRONG_GROUPS or r_int > MIN_R_INT_RATIO * friedel_r_int:
        raise Sorry(
            f"{reflections.source}: R_int = {r_int:.2f} of {n_strong} strong reflections"
            f" in {observations.space_group_info()}, so they are not equivalent. Correct the"
            " space group, the cell or the orientation of the indices."
        )


def _strong_r_int(observations: miller.array, amplitudes: bool) -> tuple[float, int]:
    """Return the unweighted R_int of strong intensities measured more than once, and their number.

    Friedel mates count as equivalent.
    """
    in_asu = observations.customized_copy(anomalous_flag=False).map_to_asu()
    _, group = np.unique(
        in_asu.indices().as_vec3_double().as_numpy_array(), axis=0, return_inverse=True
    )
    group = group.ravel()
    values = in_asu.data().as_numpy_array()
    sigmas = in_asu.sigmas().as_numpy_array()
    if amplitudes:
        values, sigmas = values**2, 2 * values * sigmas
    n = np.bincount(group)
    mean = np.bincount(group, values) / n
    strong = (n > 1) & (mean > STRONG * np.bincount(group, sigmas) / n)
    if not np.any(strong):
        return 0.0, 0
    counted = strong[group]
    deviation = np.abs(values - mean[group])[counted].sum()
    return float(deviation / values[counted].sum()), int(np.count_nonzero(strong))
