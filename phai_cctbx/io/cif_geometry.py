"""Bond lengths and angles with standard uncertainties, as loops of a CIF."""

from __future__ import annotations

from cctbx import crystal, sgtbx, xray
from cctbx.array_family import flex
from iotbx.cif import model

from phai_cctbx.building.connectivity import bonds
from phai_cctbx.io.cif_items import with_uncertainty


def geometry_loops(structure: xray.structure, covariances, cell_esds, parts=None) -> list:
    """Return the loops of the bonds and of the angles of a structure; none without bonds.

    Uncertainties take in those of the cell, its constants being independent.

    Parameters
    ----------
    structure : xray.structure
    covariances : object
        With ``matrix`` (packed upper triangle, or None) and ``parameter_map``.
    cell_esds : sequence of 6 float
        In A and degrees.
    parts : sequence of int, optional
        SHELX PART of each scatterer: nothing is bonded, nor makes an angle, across parts.
    """
    neighbours = bonds(structure, parts)
    reach = max((n.distance for near in neighbours for n in near), default=0.0)
    if not reach:
        return []
    pair_table = crystal.pair_asu_table(structure.asu_mappings(buffer_thickness=reach + 0.1))
    for i, near in enumerate(neighbours):
        for neighbour in near:
            pair_table.add_pair(i, neighbour.index, neighbour.operator)
    keywords = {}
    if covariances.matrix is not None:
        keywords = {
            "covariance_matrix": covariances.matrix,
            "cell_covariance_matrix": cell_covariance(cell_esds),
            "parameter_map": covariances.parameter_map,
        }
    labels = structure.scatterers().extract_labels()
    group = structure.space_group_info()
    distances = crystal.calculate_distances(pair_table, structure.sites_frac(), **keywords)
    angles = crystal.calculate_angles(pair_table, structure.sites_frac(), **keywords)
    return [
        loop
        for loop in (_bonds(distances, labels, group), _angles(angles, labels, group, parts))
        if loop.n_rows()
    ]


def cell_covariance(esds) -> flex.double:
    """Return the packed upper triangle of the covariance of the cell, in A and degrees."""
    packed = flex.double(21, 0.0)
    start = 0
    for i, esd in enumerate(esds):
        packed[start] = esd**2
        start += 6 - i
    return packed


def _code(group: sgtbx.space_group_info, operator) -> str:
    code = group.cif_symmetry_code(operator)
    return "." if code == "1" else code


def _bonds(distances, labels, group):
    loop = model.loop(
        header=(
            "_geom_bond_atom_site_label_1",
            "_geom_bond_atom_site_label_2",
            "_geom_bond_distance",
            "_geom_bond_site_symmetry_2",
        )
    )
    for bond in distances:
        loop.add_row(
            (
                labels[bond.i_seq],
                labels[bond.j_seq],
                with_uncertainty(bond.distance, bond.variance or 0.0, 4),
                _code(group, bond.rt_mx_ji),
            )
        )
    return loop


def _angles(angles, labels, group, parts):
    loop = model.loop(
        header=(
            "_geom_angle_atom_site_label_1",
            "_geom_angle_atom_site_label_2",
            "_geom_angle_atom_site_label_3",
            "_geom_angle",
            "_geom_angle_site_symmetry_1",
            "_geom_angle_site_symmetry_3",
        )
    )
    for angle in angles:
        i, j, k = angle.i_seqs
        if parts and {1, 2} <= {parts[index] for index in angle.i_seqs}:
            continue
        loop.add_row(
            (
                labels[i],
                labels[j],
                labels[k],
                with_uncertainty(angle.angle, angle.variance or 0.0, 1),
                _code(group, angle.rt_mx_ji),
                _code(group, angle.rt_mx_ki),
            )
        )
    return loop
