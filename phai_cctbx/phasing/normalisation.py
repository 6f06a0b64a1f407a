"""From intensities as read to what phasing needs: merged data, amplitudes, Wilson plot, |E|.

Every step works on 20 reflections as on 20 000: means over resolution are smooth local means
that fall back on the Wilson curve where reflections are few, never bins that can be empty.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

# cctbx
from cctbx import french_wilson, miller, sgtbx
from cctbx.array_family import flex
from cctbx.eltbx import e_scattering, neutron, xray_scattering
from libtbx.utils import Sorry

logger = logging.getLogger(__name__)

#: Volume per non-hydrogen atom in molecular crystals, A^3 (Kempster & Lipson, 1972).
VOLUME_PER_ATOM = 18.0
#: Bounds of the overall displacement parameter B, A^2: U from 0 to 0.38 A^2.
WILSON_B_BOUNDS = (0.0, 30.0)
#: Expectation before any data, and its standard deviation, A^2: U = 0.05(4) A^2.
WILSON_B_PRIOR = (4.0, 3.0)
#: Observed above this many sigmas, as SHELXL counts.
SIGNIFICANT = 3.0
#: An absence condition is in doubt when more than this share of its reflections is significant.
DOUBTFUL_ABSENT_SHARE = 0.1
#: French & Wilson's tables begin at this (I / sigma - sigma / <I>).
_FRENCH_WILSON_LIMIT = -4.0
#: Width of the local mean over d*^2, as a share of its range, and the reflections it must hold.
_LOCAL_WIDTH = 0.03
_LOCAL_COUNT = 30.0
#: Weight of the Wilson curve in a local mean, in reflections.
_CURVE_WEIGHT = 5.0
_N_KNOTS = 80
_MAX_SHELLS = 10
_MIN_PER_SHELL = 25


@dataclass(frozen=True)
class ResolutionShell:
    """One shell of reciprocal space, d in A."""

    d_max: float
    d_min: float
    n_possible: int
    n_unique: int
    completeness: float
    redundancy: float
    mean_i_over_sigma: float | None
    r_int: float | None


@dataclass(frozen=True)
class MergingStatistics:
    """What became of the reflections as read.

    `r_int` and `r_sigma` are None where nothing was measured twice or sigmas are missing.
    `n_negative` counts merged intensities below zero, `n_far_negative` those beyond French and
    Wilson's tables. `rejected` lists (reason, count) of observations that could not be used, and
    `n_rejected` is their sum; `n_outside` were cut by the resolution limits.
    """

    n_observations: int
    n_unique: int
    r_int: float | None
    r_sigma: float | None
    redundancy: float
    completeness: float
    d_max: float
    d_min: float
    shells: tuple[ResolutionShell, ...]
    n_absences: int
    n_strong_absences: int
    n_negative: int
    n_far_negative: int
    n_outside: int
    rejected: tuple[tuple[str, int], ...]

    @property
    def n_rejected(self) -> int:
        """Observations left out because of their values."""
        return sum(count for _, count in self.rejected)


@dataclass(frozen=True)
class WilsonPlot:
    """<F_obs^2> = scale * epsilon * sum f^2 * exp(-2 B s^2), s = sin(theta) / lambda.

    `at_bound` says that B was held at the end of `WILSON_B_BOUNDS`.
    """

    scale: float
    b: float
    at_bound: bool


@dataclass(frozen=True)
class PreparedData:
    """Merged data of one crystal, see `prepare`."""

    f_sq: miller.array
    f_sq_anomalous: miller.array | None
    f_obs: miller.array
    statistics: MergingStatistics
    wilson_scale: float
    wilson_b: float
    warnings: tuple[str, ...] = ()


def prepare(
    observations: miller.array,
    d_min: float | None = None,
    d_max: float | None = None,
    composition: dict[str, float] | None = None,
    radiation: str = "xray",
) -> PreparedData:
    """Merge, clean and scale observations in the space group they are given in.

    Parameters
    ----------
    observations : cctbx.miller.array
        Intensities or amplitudes, merged or not.
    d_min, d_max : float, optional
        Resolution limits in A.
    composition : dict of str to float, optional
        Element -> atoms per unit cell, for the Wilson scale. Without it, one carbon atom per
        18 A^3 is assumed, which leaves the scale a guess and B hardly touched.
    radiation : {"xray", "electron", "neutron"}

    Returns
    -------
    PreparedData
        Intensities merged by SHELXL's weights, with systematic absences removed; the same with
        Friedel mates apart where they were measured apart; amplitudes by French & Wilson (Acta
        Cryst. A34, 517, 1978) with cctbx's tables. Intensities too negative for the tables get
        the amplitude at their end; cctbx would leave them out.

    Raises
    ------
    libtbx.utils.Sorry
        If nothing usable is left.
    """
    observations = _real_observations(observations)
    usable, rejected = _reject_unusable(observations)
    inside = usable.resolution_filter(d_min=d_min or 0, d_max=d_max or 0)
    absent = inside.sys_absent_flags().data()
    absences, present = inside.select(absent), inside.select(~absent)
    if present.size() == 0:
        raise Sorry(
            f"No reflection is left of {observations.size()}: {usable.size()} have usable values,"
            f" {inside.size()} lie within the resolution limits, and {absences.size()} of these"
            f" are absent in {observations.space_group_info()}. Check limits and space group."
        )
    warnings = list(_doubtful_absences(absences))
    merging = _merge(present, anomalous=False)
    f_sq, f_obs, n_far_negative = _intensities_and_amplitudes(merging.array())
    if n_far_negative:
        warnings.append(
            f"{n_far_negative} merged intensities are more than 3.7 sigma below zero: sigmas or"
            " background may be wrong. They were given the smallest amplitude of the tables."
        )
    f_sq_anomalous = None
    if not present.space_group().is_centric():
        apart = _merge(present, anomalous=True).array()
        if apart.n_bijvoet_pairs() > 0:
            f_sq_anomalous = _intensities_and_amplitudes(apart)[0]
    wilson = wilson_plot(f_sq, composition, radiation)
    if wilson.at_bound:
        warnings.append(
            f"The Wilson plot gives no sensible B: held at {wilson.b:.1f} A^2 (resolution"
            f" {f_obs.d_min():.2f} A)."
        )
    statistics = _statistics(
        observations,
        present,
        merging,
        f_sq,
        absences,
        n_far_negative,
        usable,
        inside,
        rejected,
        d_max,
    )
    for message in warnings:
        logger.warning(message)
    return PreparedData(
        f_sq=f_sq,
        f_sq_anomalous=f_sq_anomalous,
        f_obs=f_obs,
        statistics=statistics,
        wilson_scale=wilson.scale,
        wilson_b=wilson.b,
        warnings=tuple(warnings),
    )


def normalise(
    f_obs: miller.array, composition: dict[str, float] | None = None, radiation: str = "xray"
) -> miller.array:
    """Normalised amplitudes |E| = |F| / sqrt(epsilon <F^2 / epsilon>(d*)), with <E^2> = 1.

    The mean is a smooth local mean over d*^2 around the Wilson curve of the composition (carbon
    if none is given), and the curve itself where reflections are few, so that any list of
    reflections can be normalised. Unlike quasi-normalised amplitudes, epsilon is included.

    Parameters
    ----------
    f_obs : cctbx.miller.array
        Amplitudes or intensities (negative ones count as zero), any list of reflections.

    Returns
    -------
    cctbx.miller.array
        Real, same indices, sigmas scaled along.

    Raises
    ------
    libtbx.utils.Sorry
        If there are no reflections, or all amplitudes are zero.
    """
    amplitudes = f_obs
    if amplitudes.is_complex_array():
        amplitudes = amplitudes.as_amplitude_array()
    elif amplitudes.is_xray_intensity_array():
        amplitudes = _amplitudes_without_sigmas(amplitudes)
    data = amplitudes.data().as_numpy_array()
    if data.size == 0 or not np.any(data > 0):
        raise Sorry("No amplitude above zero: nothing to normalise.")
    f_sq = amplitudes.customized_copy(data=flex.double(data**2), sigmas=None)
    factors = np.sqrt(expected_intensity(f_sq, composition, radiation))
    factors = factors * np.sqrt(np.mean((data / factors) ** 2))
    sigmas = amplitudes.sigmas()
    return miller.array(
        miller_set=amplitudes,
        data=flex.double(data / factors),
        sigmas=None if sigmas is None else flex.double(sigmas.as_numpy_array() / factors),
    ).set_observation_type_xray_amplitude()


def unique_amplitudes(observations: miller.array) -> miller.array:
    """What a phaser works on: unique amplitudes in the standard asymmetric unit, no Friedel mates.

    Intensities and unmerged lists go through `prepare`; unique amplitudes stay as they are.

    Raises
    ------
    libtbx.utils.Sorry
        If no reflection can be used.
    """
    if _is_prepared(observations):
        return observations.map_to_asu()
    return prepare(observations).f_obs.map_to_asu()


def expected_intensity(
    f_sq: miller.array, composition: dict[str, float] | None = None, radiation: str = "xray"
) -> np.ndarray:
    """Local mean intensity of every reflection, epsilon included; always positive, shape (n,)."""
    epsilon = f_sq.epsilons().data().as_numpy_array().astype(float)
    reduced = f_sq.data().as_numpy_array() / epsilon
    curve = wilson_curve(f_sq, wilson_plot(f_sq, composition, radiation), composition, radiation)
    return epsilon * curve * _local_mean(f_sq.d_star_sq().data().as_numpy_array(), reduced / curve)


def wilson_plot(
    f_sq: miller.array, composition: dict[str, float] | None = None, radiation: str = "xray"
) -> WilsonPlot:
    """Scale and overall B of a list of intensities.

    Maximum likelihood of Wilson's distributions (centric reflections count half), with a weak
    expectation of B, which decides only where the resolution is too low to say.
    """
    d_star_sq = f_sq.d_star_sq().data().as_numpy_array()
    epsilon = f_sq.epsilons().data().as_numpy_array()
    weight = np.where(f_sq.centric_flags().data().as_numpy_array(), 0.5, 1.0)
    unit = WilsonPlot(scale=1.0, b=0.0, at_bound=False)
    observed = f_sq.data().as_numpy_array() / (
        epsilon * wilson_curve(f_sq, unit, composition, radiation)
    )
    if observed.size == 0 or not observed.sum() > 0:
        raise Sorry("The intensities have no positive mean: no Wilson plot can be made of them.")
    # 2 s^2 = d*^2 / 2, and s^2 = d*^2 / 4 with s = sin(theta) / lambda.
    design = np.stack([np.ones_like(d_star_sq), -d_star_sq / 2], axis=1)
    prior_b, prior_deviation = WILSON_B_PRIOR
    penalty = np.diag([0.0, prior_deviation**-2])
    mean_b = np.array([0.0, prior_b])
    level = np.sum(weight * observed) / np.sum(weight * np.exp(design[:, 1] * prior_b))
    estimate = np.array([np.log(level), prior_b])
    for _ in range(100):
        relative = observed / np.exp(design @ estimate)
        gradient = design.T @ (weight * (relative - 1)) - penalty @ (estimate - mean_b)
        information = (design.T * weight) @ design + penalty
        step = np.linalg.solve(information, gradient)
        step /= max(1.0, np.abs(step).max())
        estimate = estimate + step
        if np.abs(step).max() < 1e-8:
            break
    bounded = float(np.clip(estimate[1], *WILSON_B_BOUNDS))
    at_bound = bounded != estimate[1]
    if at_bound:
        curve = np.exp(design[:, 1] * bounded)
        scale = np.sum(weight * observed / curve) / np.sum(weight)
    else:
        scale = np.exp(estimate[0])
    return WilsonPlot(scale=float(scale), b=bounded, at_bound=at_bound)


def reference_operator(crystal_symmetry) -> sgtbx.change_of_basis_op:
    """Change of basis to the reference setting of the group, on a reduced cell.

    The cell is Niggli's in P 1 and P -1, else the best one of cctbx, so that all settings of one
    crystal end on the same axes.

    Parameters
    ----------
    crystal_symmetry : cctbx.crystal.symmetry
        Or anything that is one: a miller.array, an xray.structure.
    """
    if crystal_symmetry.space_group_info().type().number() <= 2:
        return crystal_symmetry.change_of_basis_op_to_niggli_cell()
    to_reference = crystal_symmetry.change_of_basis_op_to_reference_setting()
    reference = crystal_symmetry.change_basis(to_reference)
    to_best = reference.change_of_basis_op_to_best_cell()
    back = (
        reference.space_group_info().change_basis(to_best).change_of_basis_op_to_reference_setting()
    )
    return back * to_best * to_reference


def to_reference_setting(array: miller.array) -> tuple[miller.array, sgtbx.change_of_basis_op]:
    """The array in the reference setting of its space group, and the operator that led there.

    Phases follow the change of origin.
    """
    cb_op = reference_operator(array)
    return array.change_basis(cb_op).map_to_asu(), cb_op


def from_reference_setting(
    array: miller.array, cb_op: sgtbx.change_of_basis_op, like: miller.set
) -> miller.array:
    """Undo `to_reference_setting`: the symmetry and the reflections of `like`, in its order.

    The indices are those of `like.map_to_asu()`, the standard asymmetric unit.

    Raises
    ------
    ValueError
        If a reflection of `like` is missing.
    """
    back = array.change_basis(cb_op.inverse()).customized_copy(crystal_symmetry=like).map_to_asu()
    wanted = miller.set.map_to_asu(like)
    pairs = miller.match_indices(wanted.indices(), back.indices()).pairs()
    if pairs.size() != wanted.size():
        raise ValueError(f"{wanted.size() - pairs.size()} reflections are missing")
    order = np.empty(wanted.size(), dtype=int)
    order[pairs.column(0).as_numpy_array()] = pairs.column(1).as_numpy_array()
    return back.select(flex.size_t(order))


def _is_prepared(observations):
    return (
        observations.is_xray_amplitude_array()
        and not observations.anomalous_flag()
        and observations.is_unique_set_under_symmetry()
        and not _reject_unusable(observations)[1]
        and observations.sys_absent_flags().data().count(True) == 0
    )


def _real_observations(observations):
    if observations.is_complex_array():
        return observations.as_amplitude_array()
    if observations.is_xray_intensity_array() or observations.is_xray_amplitude_array():
        return observations
    logger.warning("The observations do not say what they are: taken as amplitudes.")
    return observations.customized_copy(
        data=observations.data().as_double()
    ).set_observation_type_xray_amplitude()


def _reject_unusable(observations):
    """Split off what has no meaning: (usable observations, ((reason, count), ...))."""
    data = observations.data().as_numpy_array()
    reasons = {"not a number": ~np.isfinite(data)}
    if observations.sigmas() is not None:
        sigmas = observations.sigmas().as_numpy_array()
        reasons["sigma not a number"] = ~np.isfinite(sigmas)
        reasons["sigma not above zero"] = sigmas <= 0
    if observations.is_xray_amplitude_array():
        reasons["negative amplitude"] = data < 0
    indices = observations.indices().as_vec3_double().as_numpy_array()
    reasons["reflection 0 0 0"] = ~indices.any(axis=1)
    keep = np.ones(data.size, dtype=bool)
    rejected = []
    for reason, wrong in reasons.items():
        count = int(np.count_nonzero(wrong & keep))
        keep &= ~wrong
        if count:
            rejected.append((reason, count))
    return observations.select(flex.bool(keep)), tuple(rejected)


def _doubtful_absences(absences):
    if absences.size() == 0 or absences.sigmas() is None:
        return
    merged = _merge(absences, anomalous=False).array()
    ratio = merged.data().as_numpy_array() / merged.sigmas().as_numpy_array()
    n_strong = int(np.count_nonzero(ratio > SIGNIFICANT))
    if n_strong > DOUBTFUL_ABSENT_SHARE * ratio.size:
        worst = int(np.argmax(ratio))
        h, k, l = merged.indices()[worst]  # noqa: E741
        yield (
            f"{n_strong} of {ratio.size} unique reflections that should be absent in"
            f" {absences.space_group_info()} are above {SIGNIFICANT:.0f} sigma (mean I/sigma"
            f" {ratio.mean():.1f}, strongest {h} {k} {l} at {ratio[worst]:.1f}): the space group"
            " may be wrong."
        )


def _merge(observations, anomalous):
    """Merge equivalents; Friedel mates are kept apart only if `anomalous`."""
    unmerged = observations.customized_copy(anomalous_flag=anomalous)
    algorithm = "gaussian" if unmerged.sigmas() is None else "shelx"
    return unmerged.merge_equivalents(algorithm=algorithm)


def _intensities_and_amplitudes(merged):
    """(intensities, amplitudes, number of intensities beyond French and Wilson's tables)."""
    if merged.is_xray_amplitude_array():
        amplitudes = merged
        data = merged.data().as_numpy_array()
        sigmas = None
        if merged.sigmas() is not None:
            deviation = merged.sigmas().as_numpy_array()
            sigmas = flex.double(2 * data * deviation + deviation**2)
        f_sq = merged.customized_copy(data=flex.double(data**2), sigmas=sigmas)
        return f_sq.set_observation_type_xray_intensity(), amplitudes, 0
    if merged.sigmas() is None:
        return merged, _amplitudes_without_sigmas(merged), 0
    amplitudes, n_far_negative = _french_wilson(merged)
    return merged, amplitudes, n_far_negative


def _amplitudes_without_sigmas(f_sq):
    data = f_sq.data().as_numpy_array()
    n_negative = int(np.count_nonzero(data < 0))
    if n_negative:
        logger.warning(
            "%d negative intensities became zero amplitudes (no sigmas to judge them by).",
            n_negative,
        )
    amplitudes = f_sq.customized_copy(data=flex.double(np.sqrt(np.maximum(data, 0))), sigmas=None)
    return amplitudes.set_observation_type_xray_amplitude()


def _french_wilson(f_sq):
    """Posterior mean amplitudes with cctbx's tables, around a smooth mean intensity."""
    mean = expected_intensity(f_sq)
    intensity = f_sq.data().as_numpy_array()
    sigma = f_sq.sigmas().as_numpy_array()
    centric = f_sq.centric_flags().data().as_numpy_array()
    # The tables are entered at I/sigma - sigma/<I> (half of the last term for centric ones).
    shift = sigma / np.where(centric, 2 * mean, mean)
    lowest = sigma * np.maximum(_FRENCH_WILSON_LIMIT + 0.3 + 1e-9, _FRENCH_WILSON_LIMIT + shift)
    clipped = np.maximum(intensity, lowest)
    amplitude = np.empty_like(intensity)
    deviation = np.empty_like(intensity)
    for i in range(intensity.size):
        posterior = french_wilson.fw_centric if centric[i] else french_wilson.fw_acentric
        _, _, amplitude[i], deviation[i] = posterior(
            float(clipped[i]), float(sigma[i]), float(mean[i]), _FRENCH_WILSON_LIMIT
        )
    f_obs = f_sq.customized_copy(data=flex.double(amplitude), sigmas=flex.double(deviation))
    far_negative = int(np.count_nonzero(intensity < (_FRENCH_WILSON_LIMIT + 0.3) * sigma))
    return f_obs.set_observation_type_xray_amplitude(), far_negative


def _scattering_sum_sq(crystal_symmetry, d_star_sq, composition, radiation):
    """Sum of f^2 over the atoms of one cell at every d*^2, and over the lattice translations."""
    if not composition:
        composition = {"C": crystal_symmetry.unit_cell().volume() / VOLUME_PER_ATOM}
    total = np.zeros(d_star_sq.size)
    for element, count in composition.items():
        total += count * form_factor(element, d_star_sq, radiation) ** 2
    return total * crystal_symmetry.space_group().n_ltr()


def form_factor(element: str, d_star_sq: np.ndarray, radiation: str = "xray") -> np.ndarray:
    """Scattering factor of an atom at rest, shape (n,); of neutrons the absolute scattering length.

    Parameters
    ----------
    element : str
    d_star_sq : numpy.ndarray, shape (n,)
        A^-2.
    radiation : {"xray", "electron", "neutron"}
    """
    if radiation == "neutron":
        length = neutron.neutron_news_1992_table(element).bound_coh_scatt_length()
        return np.full(d_star_sq.size, abs(length))
    if radiation == "electron":
        gaussian = e_scattering.ito_vol_c_2011_table_4_3_2_2_entry_as_gaussian(element)
    elif radiation == "xray":
        gaussian = xray_scattering.wk1995(element).fetch()
    else:
        raise ValueError(f"radiation must be xray, electron or neutron, not {radiation!r}")
    return gaussian.at_d_star_sq(flex.double(d_star_sq)).as_numpy_array()


def wilson_curve(f_sq, wilson, composition, radiation):
    """Mean intensity over epsilon that the Wilson plot expects, shape (n,)."""
    d_star_sq = f_sq.d_star_sq().data().as_numpy_array()
    scattering = _scattering_sum_sq(f_sq, d_star_sq, composition, radiation)
    return wilson.scale * scattering * np.exp(-wilson.b * d_star_sq / 2)


def _local_mean(d_star_sq, ratio):
    """Smooth positive mean of `ratio`, pulled to its overall mean where reflections are few."""
    overall = max(ratio.mean(), np.finfo(float).tiny)
    low, high = d_star_sq.min(), d_star_sq.max()
    if high <= low:
        return np.full(ratio.size, overall)
    width = (high - low) * max(_LOCAL_WIDTH, _LOCAL_COUNT / ratio.size)
    knots = np.linspace(low, high, _N_KNOTS)
    kernel = np.exp(-0.5 * ((knots[:, None] - d_star_sq[None, :]) / width) ** 2)
    mean = (kernel @ ratio + _CURVE_WEIGHT * overall) / (kernel.sum(axis=1) + _CURVE_WEIGHT)
    # Negative intensities can bring a local mean near zero at the edge of the data.
    return np.interp(d_star_sq, knots, np.maximum(mean, 0.02 * overall))


def _statistics(
    observations, present, merging, f_sq, absences, n_far_negative, usable, inside, rejected, d_max
):
    redundancies = merging.redundancies().data().as_numpy_array()
    repeated = bool(np.any(redundancies > 1))
    has_sigmas = f_sq.sigmas() is not None
    possible = f_sq.complete_set(d_min=f_sq.d_min(), d_max=d_max)
    n_strong = 0
    if absences.size() and has_sigmas:
        merged = _merge(absences, anomalous=False).array()
        n_strong = int(flex.sum((merged.data() > SIGNIFICANT * merged.sigmas()).as_int()))
    return MergingStatistics(
        n_observations=observations.size(),
        n_unique=f_sq.size(),
        r_int=float(merging.r_int()) if repeated else None,
        r_sigma=float(flex.sum(f_sq.sigmas()) / flex.sum(f_sq.data())) if has_sigmas else None,
        redundancy=float(redundancies.mean()),
        completeness=f_sq.size() / max(1, possible.size()),
        d_max=f_sq.d_max_min()[0],
        d_min=f_sq.d_min(),
        shells=tuple(_shells(present, f_sq, possible)),
        n_absences=absences.size(),
        n_strong_absences=n_strong,
        n_negative=int(flex.sum((f_sq.data() < 0).as_int())),
        n_far_negative=n_far_negative,
        n_outside=usable.size() - inside.size(),
        rejected=rejected,
    )


def _shells(present, f_sq, possible):
    """Shells of equal volume of reciprocal space, from low to high resolution."""
    n_shells = int(np.clip(f_sq.size() // _MIN_PER_SHELL, 1, _MAX_SHELLS))
    low = possible.d_max_min()[0] ** -3
    high = possible.d_max_min()[1] ** -3
    limits = np.linspace(low, high, n_shells + 1) ** (-1 / 3)
    # Limits just outside the extreme reflections, so that rounding loses none.
    limits[0] *= 1.001
    limits[-1] *= 0.999
    for d_max, d_min in zip(limits[:-1], limits[1:]):

        def within(array, d_max=d_max, d_min=d_min):
            d = array.d_spacings().data().as_numpy_array()
            return array.select(flex.bool((d <= d_max) & (d > d_min)))

        measured, merged, expected = within(present), within(f_sq), within(possible)
        i_over_sigma = r_int = None
        if merged.size():
            if merged.sigmas() is not None:
                i_over_sigma = float(flex.mean(merged.data() / merged.sigmas()))
            if measured.size() > merged.size():
                r_int = float(_merge(measured, anomalous=False).r_int())
        yield ResolutionShell(
            d_max=float(d_max),
            d_min=float(d_min),
            n_possible=expected.size(),
            n_unique=merged.size(),
            completeness=merged.size() / max(1, expected.size()),
            redundancy=measured.size() / max(1, merged.size()),
            mean_i_over_sigma=i_over_sigma,
            r_int=r_int,
        )
