"""How well free atoms explain amplitudes, and how much they look like molecules, with gradients.

The target of a search in direct space (`phai_cctbx.phasing.atoms`), for many sets of atoms at once:

    L = sum (|F_obs| - k |F_calc|)^2 / sum |F_obs|^2 + weight * geometry / n_atoms

The scale k is the best one. The geometry says what every organic or metal-organic crystal obeys at
any resolution: no two atoms nearer than a bond, no light atoms between a bond and a next-nearest
neighbour, a neighbour within a bond of each light atom, and a second one of most carbon atoms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# cctbx
from cctbx import miller
from cctbx.eltbx import tiny_pse

from phai_cctbx.phasing.normalisation import form_factor

HYDROGENS = ("H", "D")
#: Displacement of all atoms while they are searched for, A^2. Less than they have: hydrogens as
#: spheres are too blunt, and sharper atoms make up for that.
U_ISO = -0.01
#: Hydrogens, whose places are not searched for, are spread over a sphere of this radius (A) around
#: the atoms of the element that carries them.
HYDROGEN_DISTANCE = 1.0
#: An element's last atom on a special position is looked for where at least this share of a
#: general one is left; on those positions whose share differs from it by at most this.
SMALLEST_SHARE, SHARE_TOLERANCE = 0.05, 0.02
#: Atoms nearer than this (A) repel each other.
NEAREST = 1.3
#: Light atoms have no distances around this (A), within about this width, at this height.
GAP, GAP_WIDTH, GAP_HEIGHT = 1.9, 0.18, 0.1
#: The nearest neighbour of a light atom, and the second one of carbon, are at most at this
#: distance (A); what an atom without the first, and without the second, costs at most.
LONGEST_BOND, LONELY, END_OF_CHAIN = 1.5, 0.2, 0.1
#: Elements of the second period and lighter: C, N, O, F.
HEAVIEST_LIGHT = 9
#: Weight of the geometry.
GEOMETRY_WEIGHT = 0.3
#: Distance (A) and widths of the gap from which on atoms do not matter to each other; numbers so
#: small that they slow the processor down are not reached.
_FAR, _OFF_GAP = 6.0, 7.0
_TINY = 1e-9


@dataclass(frozen=True)
class Calculated:
    """Structure factors of s sets of atoms.

    Attributes
    ----------
    f_calc : Tensor of complex, shape (s, n_reflections)
        On the scale of the amplitudes.
    residual : Tensor, shape (s,)
        sum (|F_obs| - |F_calc|)^2 / sum |F_obs|^2.
    r1 : Tensor, shape (s,)
        sum ||F_obs| - |F_calc|| / sum |F_obs|.
    """

    f_calc: Tensor
    residual: Tensor
    r1: Tensor


class AtomTarget:
    """Target of free atoms in one crystal.

    Parameters
    ----------
    f_obs : cctbx.miller.array
        Unique amplitudes, in the reference setting of the space group.
    composition : dict of str to float
        Element -> atoms per unit cell. One that is not a multiple of the number of general
        positions has an atom with the share that is left, on the special positions with that share;
        where there are none, anywhere, even on its own images.
    radiation : {"xray", "electron"}
    atoms : (list of str, list of float), optional
        Elements and shares of a general position, by default those of `sought_atoms`.

    Attributes
    ----------
    elements, shares : list of str, list of float
        Of the atoms that are sought, heaviest first; `n_atoms` of them.
    factors : Tensor, shape (n_reflections, n_atoms)
        Scattering of each atom in the search.
    n_reflections, n_coordinates : int
    """

    def __init__(
        self,
        f_obs: miller.array,
        composition: dict[str, float],
        radiation: str = "xray",
        atoms: tuple[list[str], list[float]] | None = None,
    ):
        self.f_obs = f_obs
        self._rooms: dict[str, Tensor] = {}
        self.n_reflections = f_obs.size()
        self.amplitude = _tensor(f_obs.data().as_numpy_array())
        self._sum_sq = self.amplitude.square().sum()
        self._set_symmetry(f_obs)
        n_general = f_obs.space_group().order_z()
        self.elements, self.shares = atoms or sought_atoms(composition, n_general)
        self.n_atoms = len(self.elements)
        self._set_scattering(f_obs, composition, self.shares, radiation)
        self._set_pairs(self.shares)
        self._set_special_positions(f_obs.space_group_info(), self.shares)

    def _set_symmetry(self, f_obs):
        group = f_obs.space_group()
        self.centrosymmetric = group.is_origin_centric()
        # a centre at the origin makes all structure factors real: half of the operations do
        inversions = range(1 if self.centrosymmetric else group.f_inv())
        half = [group(0, i, j) for i in inversions for j in range(group.n_smx())]
        rotations, translations = _matrices(half)
        hkl = np.array(f_obs.indices(), dtype=float)
        self.n_operations = len(half)
        waves = np.einsum("ni,mij->mnj", hkl, rotations)
        origins = translations @ hkl.T % 1.0
        # times fractional coordinates and 1: the angles, operation by operation
        waves = np.concatenate([waves, origins[..., None]], axis=2).reshape(-1, 4)
        self._waves = _tensor(2.0 * np.pi * waves)
        operations = [operation.mod_positive() for operation in group.all_ops()]
        rotations, translations = _matrices(operations)
        self._rotations, self._translations = _tensor(rotations), _tensor(translations)
        self._inverse = [operations.index(o.inverse().mod_positive()) for o in operations]
        self._identity = torch.tensor([operation.is_unit_mx() for operation in operations])
        cell = f_obs.unit_cell()
        self.orthogonalisation = _tensor(_square(cell.orthogonalization_matrix()))
        self.fractionalisation = _tensor(_square(cell.fractionalization_matrix()))

    def _set_scattering(self, f_obs, composition, shares, radiation):
        d_star_sq = f_obs.d_star_sq().data().as_numpy_array()
        factors = {e: form_factor(e, d_star_sq, radiation) for e in set(self.elements)}
        hydrogens = sum(composition.get(element, 0.0) for element in HYDROGENS)
        host = "C" if "C" in factors else max(factors, key=lambda e: composition[e])
        sphere = np.sinc(2.0 * np.sqrt(d_star_sq) * HYDROGEN_DISTANCE)
        attached = hydrogens / composition[host] * form_factor("H", d_star_sq, radiation)
        factors[host] = factors[host] + attached * sphere
        of_atoms = np.array([s * factors[e] for e, s in zip(self.elements, shares, strict=True)])
        # reflection, atom, set
        self._factors = _tensor(of_atoms.T)[..., None]
        self._stol_sq = _tensor(d_star_sq / 4.0)[:, None]
        self._at_rest = self._factors * self._damping(U_ISO)[:, None]
        self.factors = self._at_rest[..., 0]

    def _damping(self, u_iso):
        """By a displacement, or one for each of s sets (A^2), shape (n_reflections, 1 or s)."""
        return torch.exp(-8.0 * math.pi**2 * u_iso * self._stol_sq)

    def _set_pairs(self, shares):
        atomic_numbers = [tiny_pse.table(element).atomic_number() for element in self.elements]
        light = _tensor([float(z <= HEAVIEST_LIGHT) for z in atomic_numbers])
        carbon = _tensor([float(element == "C") for element in self.elements])
        self._lonely = torch.stack([LONELY * light, END_OF_CHAIN * carbon], 1)
        # atom, operation, other atom, set
        self._gap_heights = GAP_HEIGHT * (light[:, None] * light[None])[:, None, :, None]
        same = torch.eye(self.n_atoms, dtype=torch.bool)[:, None]
        special = torch.tensor(shares) < 1.0
        not_a_pair = same & (self._identity[None, :, None] | special[:, None, None])
        # what is no pair is that far apart, where nothing has a slope
        self._off_pairs = _FAR * not_a_pair[..., None].float()

    def _set_special_positions(self, space_group_info, shares):
        """Of each atom with a share of a general position: the maps onto the positions with that
        share (Cartesian, linear part and shift), and how many coordinates these leave."""
        self._special = {}
        self.n_coordinates = 0
        for atom, share in enumerate(shares):
            maps = special_positions(space_group_info, share)
            self.n_coordinates += free_coordinates(maps)
            if not maps:
                continue
            linear, shift = _matrices(maps)
            linear, shift = _tensor(linear), _tensor(shift)
            self._special[atom] = (
                self.orthogonalisation @ linear @ self.fractionalisation,
                shift @ self.orthogonalisation.T,
            )

    def random_sites(self, n_sets: int, generator: torch.Generator) -> Tensor:
        """Atoms anywhere in the cell, or on their special positions, A, (n_sets, n_atoms, 3)."""
        fractions = torch.rand(n_sets, self.n_atoms, 3, generator=generator)
        sites = fractions @ self.orthogonalisation.T
        for atom, (linear, shift) in self._special.items():
            choice = torch.randint(len(shift), (n_sets,), generator=generator)
            at_random = sites[:, atom]
            sites[:, atom] = (linear[choice] @ at_random[..., None])[..., 0] + shift[choice]
        return sites

    def on_positions(self, sites: Tensor) -> Tensor:
        """The sites with special atoms moved onto the nearest of their positions."""
        if not self._special:
            return sites
        sites = sites.clone()
        for atom in self._special:
            sites[:, atom] = self.on_position(atom, sites[:, atom])
        return sites

    def on_position(self, atom: int, points: Tensor) -> Tensor:
        """Points (n, 3), Cartesian, A, moved onto the nearest of the positions of one atom."""
        if atom not in self._special:
            return points
        linear, shift = self._special[atom]
        moved = torch.einsum("pij,nj->npi", linear, points) + shift
        nearest = (moved - points[:, None]).square().sum(2).argmin(1)
        return moved[torch.arange(len(points)), nearest]

    def distance_to_images(self, points: Tensor, site: Tensor) -> Tensor:
        """From points (n, 3) to the nearest image of a site (3,), all Cartesian, A; shape (n,)."""
        images = self._rotations @ (self.fractionalisation @ site) + self._translations
        apart = (points @ self.fractionalisation.T)[:, None] - images
        apart -= torch.round(apart)
        return (apart @ self.orthogonalisation.T).norm(dim=2).amin(1)

    def waves(self, sites: Tensor) -> Tensor:
        """Structure factors of unit scatterers, on the scale on which this class adds them.

        Parameters
        ----------
        sites : Tensor, shape (s, 3)
            Cartesian, A.

        Returns
        -------
        Tensor of complex, shape (n_reflections, s)
        """
        angles = self._angles(self._fractions(sites[:, None]))[:, :, 0]
        re, im = torch.cos(angles).sum(0), torch.sin(angles).sum(0)
        return torch.complex(re, torch.zeros_like(re) if self.centrosymmetric else im)

    def __call__(self, sites: Tensor) -> tuple[Tensor, Tensor]:
        """L of some sets of atoms and its gradient.

        Parameters
        ----------
        sites : Tensor, shape (s, n_atoms, 3)
            Cartesian, A.

        Returns
        -------
        Tensor, shape (s,)
        Tensor, shape (s, n_atoms, 3)
        """
        fractions = self._fractions(sites)
        residual, by_fraction = self._residual(fractions)
        geometry, geometry_by_fraction = self._geometry(fractions)
        return (
            residual + GEOMETRY_WEIGHT * geometry,
            self._gradient(by_fraction + GEOMETRY_WEIGHT * geometry_by_fraction),
        )

    def _fractions(self, sites):
        """Fractional coordinates of sites (s, a, 3), shape (3, a, s).

        Here and in all that follows the sets are the last dimension: every operation then runs
        along memory, and those over atoms, operations or reflections add whole rows.
        """
        return (self.fractionalisation @ sites.permute(2, 1, 0).flatten(1)).view(
            3, sites.shape[1], len(sites)
        )

    def _gradient(self, by_fraction):
        """By Cartesian coordinates, shape (s, n_atoms, 3), of one by fractional ones."""
        by_site = self.fractionalisation.T @ by_fraction.flatten(1)
        return by_site.view(by_fraction.shape).permute(2, 1, 0)

    def _residual(self, fractions):
        """The residual and its derivatives by the fractions."""
        n_sets = fractions.shape[2]
        cos = self._angles(fractions, self._room("cos", len(self._waves), self.n_atoms * n_sets))
        sin = torch.sin(cos, out=self._room("sin", *cos.shape))
        cos.cos_()
        re = (cos.sum(0) * self._at_rest).sum(1)
        if self.centrosymmetric:
            f_calc = re.abs() + _TINY
        else:
            im = (sin.sum(0) * self._at_rest).sum(1)
            f_calc = torch.sqrt(re * re + im * im) + _TINY
        amplitude = self.amplitude[:, None]
        scale = _scale(amplitude, f_calc)
        difference = amplitude - scale * f_calc
        residual = (difference * difference).sum(0) / self._sum_sq
        slope = (-2.0 / self._sum_sq * scale) * difference / f_calc
        by_angle = sin.mul_(self._at_rest * (-slope * re)[:, None])
        if not self.centrosymmetric:
            by_angle.addcmul_(cos, self._at_rest * (slope * im)[:, None])
        by_fraction = self._waves[:, :3].T @ by_angle.flatten(0, 1).flatten(1)
        return residual, by_fraction.view(fractions.shape)

    def _angles(self, fractions, out=None):
        """Of every wave at every atom, shape (n_operations, n_reflections, n_atoms, s)."""
        with_ones = torch.cat([fractions, torch.ones_like(fractions[:1])]).flatten(1)
        angles = torch.mm(self._waves, with_ones, out=out)
        return angles.view(self.n_operations, self.n_reflections, *fractions.shape[1:])

    def _room(self, name, *shape):
        """Memory that is used again in every step: fresh memory costs as much as the cosines."""
        dtype = self.amplitude.dtype
        kept = self._rooms.get(name)
        if kept is None or kept.shape != shape or kept.dtype != dtype:
            kept = self._rooms[name] = torch.empty(shape, dtype=dtype)
        return kept

    def calculated(self, sites: Tensor, log_weight: Tensor, u_iso: Tensor) -> Calculated:
        """Structure factors with refined weights and displacements; keeps torch's gradients.

        Parameters
        ----------
        sites : Tensor, shape (s, n_atoms, 3)
            Cartesian, A.
        log_weight : Tensor, shape (s, n_atoms)
            Logarithm of the factor on the scattering of each atom.
        u_iso : Tensor, shape (s,)
            One for all atoms, A^2.
        """
        angles = self._angles(self._fractions(sites))
        factors = self._factors * torch.exp(log_weight.T)
        damping = self._damping(u_iso)
        re = (torch.cos(angles).sum(0) * factors).sum(1) * damping
        if self.centrosymmetric:
            im = torch.zeros_like(re)
        else:
            im = (torch.sin(angles).sum(0) * factors).sum(1) * damping
        modulus = torch.sqrt(re.square() + im.square() + _TINY)
        amplitude = self.amplitude[:, None]
        scale = _scale(amplitude, modulus)
        difference = amplitude - scale.detach() * modulus
        return Calculated(
            f_calc=(scale * torch.complex(re, im)).T,
            residual=difference.square().sum(0) / self._sum_sq,
            r1=difference.abs().sum(0) / self.amplitude.sum(),
        )

    def geometry(self, sites: Tensor, ends: bool = True) -> tuple[Tensor, Tensor]:
        """The geometry's part of L, without its weight, and its gradient; as for a call.

        Parameters
        ----------
        sites : Tensor, shape (s, n_atoms, 3)
            Cartesian, A.
        ends : bool
            Whether carbon atoms at the end of a chain cost something: that guides a search to
            chains and rings, but methyl groups are right.
        """
        total, by_fraction = self._geometry(self._fractions(sites), ends)
        return total, self._gradient(by_fraction)

    def _geometry(self, fractions, ends=True):
        """The geometry's part of L and its derivatives by the fractions."""
        n_sets, n_atoms, n_operations = fractions.shape[2], self.n_atoms, len(self._rotations)
        # atom, operation, other atom, set
        shape = (n_atoms, n_operations, n_atoms, n_sets)
        images = (self._rotations.flatten(0, 1) @ fractions.flatten(1)).view(
            n_operations, 3, 1, n_atoms, n_sets
        ) + self._translations[:, :, None, None, None]
        apart = self._room("apart", 3, *shape)
        torch.sub(fractions[:, :, None, None], images.permute(1, 2, 0, 3, 4), out=apart)
        vector = torch.round(apart, out=self._room("vector", 3, *shape))
        apart.sub_(vector)
        torch.mm(self.orthogonalisation, apart.flatten(1), out=vector.flatten(1))
        distance = torch.mul(vector[0], vector[0], out=self._room("distance", *shape))
        distance.addcmul_(vector[1], vector[1]).addcmul_(vector[2], vector[2]).add_(_TINY).sqrt_()
        torch.maximum(distance.clamp_(max=_FAR), self._off_pairs, out=distance)
        overlap = torch.mul(distance, -1.0, out=self._room("overlap", *shape))
        overlap.add_(NEAREST).clamp_(min=0.0)
        off_gap = torch.mul(distance, 1.0 / GAP_WIDTH, out=self._room("off_gap", *shape))
        off_gap.sub_(GAP / GAP_WIDTH).clamp_(max=_OFF_GAP)
        in_gap = torch.mul(off_gap, off_gap, out=self._room("in_gap", *shape))
        in_gap.neg_().exp_().mul_(self._gap_heights)
        total = (overlap * overlap).add_(in_gap).sum((0, 1, 2))
        # every pair comes twice: from the first atom, and by the inverse operation from the second
        slope = overlap.mul_(-4.0).addcmul_(in_gap, off_gap, value=-4.0 / GAP_WIDTH)
        lonely, pull = self._lonely_atoms(distance, ends)
        slope.add_(pull)
        from_others = pull.permute(2, 1, 0, 3)
        for operation, inverse in enumerate(self._inverse):
            slope[:, operation].add_(from_others[:, inverse])
        slope.div_(distance)
        by_fraction = self.orthogonalisation.T @ vector.mul_(slope).sum((2, 3)).flatten(1)
        return (total + lonely) / n_atoms, by_fraction.view(fractions.shape) / n_atoms

    def _lonely_atoms(self, distance, ends):
        """What atoms without neighbours cost, and the derivatives by all distances."""
        others = distance.flatten(1, 2)
        nearest, first = others.min(1)
        without = self._room("without", *others.shape).copy_(others)
        without.scatter_(1, first[:, None], _FAR)
        second_nearest, second = without.min(1)
        # atom, first or second neighbour, set
        stretch = (torch.stack([nearest, second_nearest], 1) - LONGEST_BOND).clamp_(min=0.0)
        cost = self._lonely[..., None]
        if not ends:
            cost = cost * torch.tensor([[1.0], [0.0]])
        lonely = (cost * stretch.clamp(max=1.0).square()).sum((0, 1))
        pull = without.zero_()
        which = torch.stack([first, second], 1)
        pull.scatter_(1, which, 2.0 * cost * stretch * (stretch < 1.0))
        return lonely, pull.view(distance.shape)


def sought_atoms(composition: dict[str, float], n_general: int) -> tuple[list[str], list[float]]:
    """Elements of the asymmetric unit's atoms without hydrogens, heaviest first, and the share of
    a general position that each has.

    Parameters
    ----------
    composition : dict of str to float
        Element -> atoms per unit cell.
    n_general : int
        General positions per unit cell.
    """
    elements, shares = [], []
    by_weight = sorted(
        (element for element in composition if element not in HYDROGENS),
        key=lambda element: -tiny_pse.table(element).atomic_number(),
    )
    for element in by_weight:
        n = composition[element] / n_general
        whole = math.floor(n + 1e-3)
        rest = n - whole
        of_element = [1.0] * int(whole) + [rest] * (rest > SMALLEST_SHARE)
        elements += [element] * len(of_element)
        shares += of_element
    return elements, shares


def special_positions(space_group_info, share: float) -> list:
    """Maps (`cctbx.sgtbx.rt_mx`) onto the special positions with a share of a general one; none
    where it is a whole one."""
    if share >= 1.0:
        return []
    table = space_group_info.wyckoff_table()
    n_general = space_group_info.group().order_z()
    positions = [table.position(i) for i in range(table.size())]
    return [
        position.special_op()
        for position in positions
        if abs(position.multiplicity() / n_general - share) <= SHARE_TOLERANCE
    ]


def free_coordinates(special_ops: list) -> int:
    """Coordinates that are free on the freest of some special positions; 3 where there are none."""
    ranks = (np.linalg.matrix_rank(_square(map_.r().as_double())) for map_ in special_ops)
    return int(max(ranks, default=3))


def _scale(amplitude: Tensor, f_calc: Tensor) -> Tensor:
    """Of |F_calc| on |F_obs|, shape (s,)."""
    return (amplitude * f_calc).sum(0) / (f_calc * f_calc).sum(0)


def _matrices(operations) -> tuple[np.ndarray, np.ndarray]:
    rotations = np.array([_square(operation.r().as_double()) for operation in operations])
    return rotations, np.array([operation.t().as_double() for operation in operations])


def _square(values) -> np.ndarray:
    return np.array(values, dtype=float).reshape(3, 3)


def _tensor(values) -> Tensor:
    return torch.tensor(np.asarray(values), dtype=torch.float32)
