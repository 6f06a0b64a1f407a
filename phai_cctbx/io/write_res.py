"""Structure to a SHELXL .res file.

Format: G. M. Sheldrick, Acta Cryst. C71 (2015) 3-8 and the SHELX-97 manual.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import smtbx.utils
from cctbx import adptbx, xray
from cctbx.array_family import flex
from cctbx.eltbx import sasaki, tiny_pse
from libtbx.utils import Sorry

from phai_cctbx.building.disorder import parts
from phai_cctbx.building.hydrogens import AFIX
from phai_cctbx.io.atomic_file import write_text
from phai_cctbx.io.shelx_header import build_header
from phai_cctbx.refinement.parts import same_distances
from phai_cctbx.refinement.riding import N_NEIGHBOURS, NEUTRON_BOND_LENGTHS, free_distances

# SHELXL holds a parameter at x when it reads 10 + x.
FIXED = 10.0
# AFIX of hydrogens that keep their place beside the parent, whatever its bonds.
RIDES_AS_IT_IS = 3
# A hydrogen U this close to its multiple of U(eq) of the pivot is written as that multiple.
_U_TOLERANCE = 0.02
_MAX_LABEL = 4
_PEAK_U = 0.05


def res_text(
    data,
    solution,
    peaks: Sequence[tuple[Sequence[float], float]] = (),
    remarks: Sequence[str] = (),
    hklf_line: str | None = None,
) -> str:
    """Return the text of a .res file.

    Parameters
    ----------
    data : CrystalData
    solution : Solution
        Read: ``xray_structure``, ``r1``, ``weighting``, and where they exist
        ``r1_all``, ``wr2``, ``goof``, ``n_reflections``, ``n_observed``,
        ``n_parameters``, ``n_restraints``, ``scale_factor`` (on Fc^2),
        ``extinction``, ``twin``, ``difference_peak``, ``difference_hole``, ``riding``
        (sequence of ``building.hydrogens.HydrogenGroup``), ``disorder`` (of
        ``building.disorder.DisorderedGroup``).
    peaks : sequence of (site, height)
        Difference peaks, fractional and in e/A^3; written as Q1, Q2, ...
    remarks : sequence of str
        Lines written after REM at the end of the header.
    hklf_line : str, optional
        The HKLF instruction; that of the .ins, or HKLF 4, where it is not given.

    Raises
    ------
    Sorry
        If labels are not unique in four characters.
    """
    structure = _origin_on_centre(solution.xray_structure)
    labels = _labels(structure)
    same_symmetry = (
        structure.space_group() == data.crystal_symmetry.space_group()
        and structure.unit_cell().is_similar_to(data.crystal_symmetry.unit_cell(), 1e-4, 1e-2)
    )
    lines, elements = build_header(
        title=data.title,
        unit_cell=structure.unit_cell(),
        space_group=structure.space_group(),
        wavelength=data.wavelength,
        z=data.z,
        contents=data.composition.unit_cell_contents,
        elements=list(dict.fromkeys(_element(s) for s in structure.scatterers())),
        dispersion=_dispersion(structure, data.wavelength),
        radiation=data.radiation,
        shelx_header=data.shelx_header,
        keep_symmetry=same_symmetry,
    )
    lines += [f"REM {remark}"[:80] for remark in remarks]
    extinction = getattr(solution, "extinction", None)
    twin = getattr(solution, "twin", None)
    lines = _without(lines, *(("EXTI",) if extinction else ()), *(("TWIN", "BASF") if twin else ()))
    if twin:
        lines += twin_lines(twin)
    if extinction:
        lines.append(f"EXTI {extinction:.6f}")
    a, b = solution.weighting
    lines.append(f"WGHT {a:.4f} {b:.4f}")
    scale = getattr(solution, "scale_factor", None) or 1.0
    disorder = getattr(solution, "disorder", ())
    variables = [f"{scale**0.5:.6f}", *(f"{group.occupancy:.5f}" for group in disorder)]
    lines.append(f"FVAR {' '.join(variables)}")
    groups = getattr(solution, "riding", ())
    lines += _distance_lines(structure, labels, groups, data.radiation != "xray")
    lines += [
        f"SADI {sigma:.2f} {labels[i]} {labels[j]} {labels[k]} {labels[m]}"
        for i, j, k, m, sigma in same_distances(structure, disorder)
    ]
    lines += _atom_lines(structure, labels, elements, groups, disorder, data.radiation != "xray")
    lines += [hklf_line or _hklf(data), "", *_quality(solution), "END", ""]
    for i, (site, height) in enumerate(peaks, start=1):
        x, y, z = site
        lines.append(
            f"{f'Q{i}':<4} {1:2d} {x:11.6f} {y:11.6f} {z:11.6f} {FIXED + 1:11.5f}"
            f" {_PEAK_U:10.5f} {height:8.2f}"
        )
    return "\n".join(lines) + "\n"


def write_res(path, data, solution, peaks=(), remarks=()) -> Path:
    """Write the .res file in one step; for the parameters see `res_text`."""
    return write_text(path, res_text(data, solution, peaks, remarks))


def twin_lines(twin) -> list[str]:
    """Return TWIN and BASF of a second domain.

    Parameters
    ----------
    twin : Twin
        SHELX transforms indices as a column, so that its matrix is the transpose of the law.
    """
    law, denominator = twin.law.transpose().num(), twin.law.den()
    return [
        "TWIN " + " ".join(f"{element / denominator:g}" for element in law),
        f"BASF {twin.fraction:.5f}",
    ]


def _without(lines, *instructions) -> list[str]:
    """Return the lines but for such instructions."""
    return [line for line in lines if line[:4].upper() not in instructions]


def _hklf(data) -> str:
    """Return the HKLF instruction that reads the reflection file of the .ins."""
    for line in data.shelx_header or ():
        if line.upper().startswith("HKLF"):
            return line
    return f"HKLF {3 if data.observations.is_xray_amplitude_array() else 4}"


def _origin_on_centre(structure: xray.structure) -> xray.structure:
    """Return the structure with a centre of symmetry at the origin, as SHELX needs it.

    A shift of the origin leaves the indices of the reflections as they are.
    """
    group = structure.space_group()
    if not group.is_centric() or group.is_origin_centric():
        return structure
    return structure.change_basis(group.change_of_origin_realising_origin_centricity())


def _dispersion(structure, wavelength) -> dict[str, tuple[float, float]]:
    """Return f' and f'' of the elements: of the scatterers, or else of Sasaki's tables."""
    result = {}
    for scatterer in structure.scatterers():
        element = _element(scatterer)
        if scatterer.fp or scatterer.fdp:
            result[element] = (scatterer.fp, scatterer.fdp)
        elif wavelength and element not in result and tiny_pse.table(element).atomic_number() > 3:
            table = sasaki.table(element).at_angstrom(wavelength)
            if table.is_valid():
                result[element] = (table.fp(), table.fdp())
    return result


def _element(scatterer) -> str:
    symbol = scatterer.element_symbol() or scatterer.scattering_type
    return "H" if symbol == "D" else symbol


def _labels(structure) -> list[str]:
    """Return the labels as SHELX takes them, or raise ``Sorry``."""
    labels = [scatterer.label.strip() for scatterer in structure.scatterers()]
    seen: set[str] = set()
    for label in labels:
        if not label or len(label) > _MAX_LABEL or not label[0].isalpha():
            raise Sorry(
                f"The atom label {label!r} is not one that SHELX reads. Use a letter and at most"
                f" {_MAX_LABEL - 1} more characters."
            )
        if label.upper() in seen:
            raise Sorry(f"The atom label {label} occurs twice. Give each atom a label of its own.")
        seen.add(label.upper())
    return labels


def _distance_lines(structure, labels, groups, internuclear) -> list[str]:
    """Return the restraints on hydrogens that are refined freely."""
    return [
        f"DFIX {ideal:.3f} {sigma:.3f} {labels[i]} {labels[j]}"
        for i, j, ideal, sigma in free_distances(structure, groups, internuclear)
    ]


def _afix(structure, groups, part) -> dict[int, int]:
    """Return AFIX of each group by its parent.

    Bonds to metals count for other programs. Where they make one too many for a geometry, the
    group rides as it is (AFIX 3); on planar atoms the two nearest count.
    """
    table = smtbx.utils.connectivity_table(structure, conformer_indices=flex.size_t(part))
    bonded = table.pair_asu_table.extract_pair_sym_table(
        skip_j_seq_less_than_i_seq=False, all_interactions_from_inside_asu=True
    )
    result = {}
    for group in groups:
        result[group.pivot] = AFIX[group.kind]
        n_bonds = sum(
            len(operators)
            for j, operators in bonded[group.pivot].items()
            if j not in group.hydrogens and part[j] in (0, part[group.hydrogens[0]])
        )
        needed = N_NEIGHBOURS.get(group.kind, n_bonds)
        if n_bonds > needed and group.kind != "planar":
            result[group.pivot] = RIDES_AS_IT_IS
    return result


def _occupancies(structure, disorder) -> dict[int, float]:
    """Return the occupancies as SHELXL takes them: free variable n is 10 n + 1, 1 minus it - that.

    Only atoms on general positions are disordered.
    """
    result = {}
    for number, group in enumerate(disorder, start=2):
        result.update(dict.fromkeys(group.first, FIXED * number + 1))
        result.update(dict.fromkeys(group.second, -FIXED * number - 1))
    return result


def _atom_lines(structure, labels, elements, groups, disorder, internuclear):
    """Return the atoms, each hydrogen after the atom it rides on.

    The distance is written with AFIX where it is not the one that X-rays see. An atom of a second
    part follows the one that it stands for, the U(eq) of which it has.
    """
    part = parts(len(labels), disorder)
    coded = _occupancies(structure, disorder)
    afix_of = _afix(structure, groups, part)
    on_pivot: dict[int, list] = {}
    for group in groups:
        on_pivot.setdefault(group.pivot, []).append(group)
    riders = {i for group in groups for i in group.hydrogens}
    bound_to = {j: i for group in disorder for i, j in group.pairs}
    u_equivalent = structure.scatterers().extract_u_iso_or_u_equiv(structure.unit_cell())
    lines: list[str] = []
    now = 0

    def to_part(number):
        nonlocal now
        if number != now:
            lines.append(f"PART {number}")
        now = number

    for i in range(len(labels)):
        if i in riders:
            continue
        to_part(part[i])
        factor = 1.0 if i in bound_to else None
        lines += _atom(structure, i, labels[i], elements, coded.get(i), factor)
        for group in on_pivot.get(i, ()):
            to_part(part[group.hydrogens[0]])
            afix = afix_of[group.pivot]
            if afix:
                length = NEUTRON_BOND_LENGTHS.get(_element(structure.scatterers()[i]))
                far = internuclear and length and afix != RIDES_AS_IT_IS
                lines.append(f"AFIX {afix} {length:.3f}" if far else f"AFIX {afix}")
            for j in group.hydrogens:
                u_bound = group.u_factor * u_equivalent[i]
                bound = abs(u_equivalent[j] - u_bound) < _U_TOLERANCE * u_bound
                factor = group.u_factor if bound else None
                lines += _atom(structure, j, labels[j], elements, coded.get(j), factor)
            if afix:
                lines.append("AFIX 0")
    to_part(0)
    return lines


def _atom(structure, i, label, elements, coded_occupancy=None, u_factor=None):
    scatterer = structure.scatterers()[i]
    unit_cell = structure.unit_cell()
    site = _site(structure, i)
    occupancy = scatterer.occupancy * scatterer.multiplicity() / structure.space_group().order_z()
    if coded_occupancy is not None:
        occupancy = coded_occupancy
    elif not scatterer.flags.grad_occupancy():
        occupancy += FIXED
    number = elements.index(_element(scatterer)) + 1
    start = f"{label:<4} {number:2d}" + "".join(f" {x:11.6f}" for x in site) + f" {occupancy:11.5f}"
    if u_factor is not None:
        return [f"{start} {-u_factor:10.5f}"]
    if not scatterer.flags.use_u_aniso():
        return [f"{start} {scatterer.u_iso:10.6f}"]
    u11, u22, u33, u12, u13, u23 = adptbx.u_star_as_u_cif(unit_cell, scatterer.u_star)
    return [
        f"{start} {u11:10.6f} =",
        "     " + "".join(f" {u:10.6f}" for u in (u22, u33, u23, u13, u12)),
    ]


def _site(structure, i):
    """Return the coordinates, those that the site symmetry holds as 10 + x."""
    site = list(structure.scatterers()[i].site)
    operators = structure.site_symmetry_table().get(i)
    # SHELXL takes a value beyond 5 for a free variable.
    shift = [-round(x) if abs(x) > 4 else 0 for x in site]
    site = [x + s for x, s in zip(site, shift)]
    if operators.is_point_group_1():
        return site
    movable = [False] * 3
    projection = operators.special_op().r()
    for row in range(3):
        movable[row] = any(projection.num()[3 * row + column] for column in range(3))
    return [x if movable[k] else FIXED + x for k, x in enumerate(site)]


def _quality(solution):
    """Return the REM lines with which SHELXL reports the agreement, none without a refinement."""
    lines = []
    if solution.r1 is None:
        return lines
    n_observed = getattr(solution, "n_observed", None)
    n_all = getattr(solution, "n_reflections", None)
    observed = f" for {n_observed:7d} Fo > 4sig(Fo)" if n_observed else " for Fo > 4sig(Fo)"
    r1_all = getattr(solution, "r1_all", None)
    every = f"  and {r1_all:7.4f} for all {n_all:7d} data" if r1_all and n_all else ""
    lines.append(f"REM R1 = {solution.r1:7.4f}{observed}{every}")
    wr2, goof = getattr(solution, "wr2", None), getattr(solution, "goof", None)
    if wr2 is not None and goof is not None:
        lines.append(f"REM wR2 = {wr2:7.4f}, GooF = S = {goof:7.3f}")
    n_parameters = getattr(solution, "n_parameters", None)
    if n_parameters:
        n_restraints = getattr(solution, "n_restraints", 0)
        lines.append(f"REM {n_parameters:6d} parameters refined using {n_restraints:6d} restraints")
    peak, hole = (getattr(solution, name, None) for name in ("difference_peak", "difference_hole"))
    if peak is not None and hole is not None:
        lines.append(f"REM Highest difference peak {peak:7.3f},  deepest hole {hole:7.3f}")
    return lines
