"""Packs rigid molecules into unit cells without clashes, many crystals at once.

The energy of a packing is the sum of squared overlaps of atoms closer than their contact distance,
``E = 1/2 sum (d0 - d)^2``. Molecules start small, at random and without hydrogens, and grow to
their size while each moves by damped Newton steps along force and torque, and the cell gives
within its symmetry. A molecule on a special position moves along the symmetry element and turns
about it, so that its symmetry stays exact: shift and turn are projected by the averages of R and
det(R) R over the site group.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

#: Steps of the packing, and the share of them in which the molecules grow.
N_STEPS, GROWTH = 120, 0.5
#: Size of the molecules at the start.
FIRST_SCALE = 0.5
#: Damping of the Newton steps, and memory of the previous step.
DAMPING, MOMENTUM = 0.45, 0.7
#: Shaking at the start (A, and radians), which dies away, and the share of steps that have it.
SHAKE_SHIFT, SHAKE_TURN, SHAKING = 0.22, 0.15, 0.75
#: Largest shift (A) and turn (radians) of a molecule in a step.
LARGEST_SHIFT, LARGEST_TURN = 0.4, 0.3
#: Largest relative change of a cell edge in a step and in all, and of the volume, which grows in
#: the last steps and only where molecules still overlap; the same limits hold for shears,
#: relative to the edge.
STRAIN_STEP, LARGEST_STRAIN, LARGEST_EXPANSION = 0.01, 0.25, 0.07
EXPANSION_STEPS = 40
#: Steps between two searches for neighbours, and how far beyond contact they are sought, A.
SEARCH_INTERVAL, SKIN = 6, 0.8
#: Pairs of atoms that a search holds in memory at once.
PAIRS_AT_ONCE = 150_000


@dataclass(frozen=True)
class Site:
    """An operation of order two that leaves a point, an axis or a plane in place.

    Attributes
    ----------
    operation : int
        Its place in `SpaceGroup.all_operators`.
    lattice : (3,) float
        Lattice vector with ``R x + t + lattice = x`` on the element.
    rotation : (3, 3) float
    point : (3,) float
        A point of the element, fractions.
    """

    operation: int
    lattice: np.ndarray
    rotation: np.ndarray
    point: np.ndarray

    @property
    def projection(self) -> np.ndarray:
        """Projection of fractional vectors onto the element, (3, 3)."""
        return (np.eye(3) + self.rotation) / 2.0


@dataclass(frozen=True, eq=False)
class Problem:
    """What is to be packed in one crystal: k bodies of a atoms in all, m operators.

    Attributes
    ----------
    cell : (3, 3) float
        Orthogonalisation matrix, upper triangular, A.
    equal_edges : (3,) int
        For each edge the first edge of equal length.
    shears : (3, 3) float
        1 for the elements of `cell` above the diagonal that symmetry leaves free.
    rotations, translations : (m, 3, 3), (m, 3) float
        All operators of the group, centring included, in fractions.
    coordinates : (a, 3) float
        Atoms in the frames of their bodies, A.
    hydrogen : (a,) bool
    body : (a,) int
    contact : (a, a) float
        Contact distances, A.
    sites : list of Site or None, one per body
    centres : (k, 3) float
        Start, fractions.
    orientations : (k, 3, 3) float
        Start.
    """

    cell: np.ndarray
    equal_edges: np.ndarray
    shears: np.ndarray
    rotations: np.ndarray
    translations: np.ndarray
    coordinates: np.ndarray
    hydrogen: np.ndarray
    body: np.ndarray
    contact: np.ndarray
    sites: list[Site | None]
    centres: np.ndarray
    orientations: np.ndarray


@dataclass(frozen=True, eq=False)
class Packing:
    """A packed crystal.

    Attributes
    ----------
    cell : (3, 3) float
        A.
    centres : (k, 3) float
    orientations : (k, 3, 3) float
    closest : float
        Smallest ratio of a distance to the contact distance of its atoms.
    """

    cell: np.ndarray
    centres: np.ndarray
    orientations: np.ndarray
    closest: float


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of atoms (an atom, and an image of another) that may touch; flat indices, (p,)."""

    atom: Tensor
    other: Tensor
    operator: Tensor
    lattice: Tensor  # (p, 3)
    contact: Tensor


def pack(
    problems: list[Problem], seed: int, device: str | torch.device = "cpu"
) -> list[Packing]:
    """Pack every problem; the caller judges by `Packing.closest`."""
    packer = _Packer(problems, seed, torch.device(device))
    packer.grow()
    closest = packer.closest().cpu().numpy()
    cells, centres, orientations = (
        x.double().cpu().numpy() for x in (packer.cell, packer.centres, packer.orientations)
    )
    ends = np.cumsum([len(p.sites) for p in problems])[:-1]
    return [
        Packing(*packed, float(ratio))
        for *packed, ratio in zip(
            cells, np.split(centres, ends), np.split(orientations, ends), closest, strict=True
        )
    ]


def _padded(arrays: list[np.ndarray], fill: float = 0.0) -> np.ndarray:
    shape = np.max([a.shape for a in arrays], axis=0)
    out = np.full((len(arrays), *shape), fill, dtype=arrays[0].dtype)
    for i, a in enumerate(arrays):
        out[(i, *(slice(n) for n in a.shape))] = a
    return out


class _Block:
    """Crystals with equally many operators, padded to one number of atoms: searches neighbours."""

    def __init__(self, chosen: list[int], packer: _Packer, members: list[np.ndarray]):
        problems = [packer.problems[i] for i in chosen]
        members = [members[i] for i in chosen]
        tensor = packer.tensor
        self.crystals = tensor(chosen, torch.int64)
        self.atoms = tensor(
            _padded(
                [first + m for first, m in zip(packer.first_atom[chosen], members, strict=True)]
            ),
            torch.int64,
        )
        self.operators = tensor(
            [
                first + np.arange(len(p.rotations))
                for first, p in zip(packer.first_operator[chosen], problems, strict=True)
            ],
            torch.int64,
        )
        self.contact = tensor(
            _padded([p.contact[np.ix_(m, m)] for p, m in zip(problems, members, strict=True)])
        )
        self.real = self.contact > 0
        body = packer.body[self.atoms]
        same = body[:, :, None] == body[:, None, :]
        operator = torch.arange(self.operators.shape[1], device=packer.device)[None, :, None, None]
        on_site = packer.site_operator[body][:, None, :, None]
        self.own_image = (operator == 0) & same[:, None]
        self.own_lattice = torch.zeros((*self.own_image.shape[:3], 3), device=packer.device)
        if (on_site >= 0).any():
            by_site = (operator == on_site) & same[:, None]
            self.own_image = self.own_image | by_site
            self.own_lattice = torch.where(
                operator == 0, self.own_lattice, packer.site_lattice[body][:, None]
            )
        self.has_own = self.own_image.any(dim=3).any(dim=2).any(dim=0).tolist()

    def images(self, packer: _Packer, sites: Tensor) -> tuple[Tensor, Tensor]:
        """Differences (fractions) to nearest images and lattice vectors, each (3, b, m, a, a)."""
        sites = sites[self.atoms]
        images = torch.einsum("bmij,baj->bmai", packer.rotations[self.operators], sites)
        images = images + packer.translations[self.operators][:, :, None]
        difference = (
            sites.permute(2, 0, 1)[:, :, None, :, None] - images.permute(3, 0, 1, 2)[:, :, :, None]
        )
        lattice = torch.round(difference)
        return difference.sub_(lattice), lattice

    def distances(self, packer: _Packer, difference: Tensor, lattice: Tensor) -> Tensor:
        """Distances (A); infinite from an atom to its own molecule; (b, m, a, a)."""
        m = packer.cell[self.crystals][:, :, :, None, None, None]
        square = (m[:, 2, 2] * difference[2]).square_()
        square += (m[:, 1, 1] * difference[1] + m[:, 1, 2] * difference[2]).square_()
        square += (
            m[:, 0, 0] * difference[0] + m[:, 0, 1] * difference[1] + m[:, 0, 2] * difference[2]
        ).square_()
        for operator, some in enumerate(self.has_own):
            if some:
                own = self.own_image[:, operator]
                for c in range(3):
                    own = own & (
                        lattice[c, :, operator] == self.own_lattice[:, operator, :, c][..., None]
                    )
                square[:, operator].masked_fill_(own, torch.inf)
        return square.sqrt_()

    def pairs(self, packer: _Packer, sites: Tensor, scale: float) -> list[Pairs]:
        """Pairs near contact: with nearest images, and with second ones along the shortest edge."""
        difference, lattice = self.images(packer, sites)
        limit = torch.where(self.real, self.contact * scale + SKIN, 0.0)[:, None]
        lengths = torch.linalg.vector_norm(packer.cell[self.crystals], dim=1)
        short = torch.nn.functional.one_hot(lengths.argmin(1), 3).T[..., None, None, None]
        found = []
        for second in (False, True):
            if second:
                step = torch.copysign(short.to(difference.dtype), difference)
                difference, lattice = difference - step, lattice + step
            near = self.distances(packer, difference, lattice) < limit
            b, m, i, j = near.nonzero(as_tuple=True)
            found.append(
                Pairs(
                    self.atoms[b, i],
                    self.atoms[b, j],
                    self.operators[b, m],
                    lattice[:, b, m, i, j].T,
                    self.contact[b, i, j],
                )
            )
        return found

    def closest(self, packer: _Packer, sites: Tensor) -> Tensor:
        """Smallest ratio of distance to contact distance over all images, shape (b,)."""
        nearest, lattice = self.images(packer, sites)
        widths = 1.0 / torch.linalg.vector_norm(torch.linalg.inv(packer.cell[self.crystals]), dim=2)
        reach = 2.0 * self.contact.amax()
        ranges = [(0, -1, 1) if (widths[:, c] < reach).any() else (0,) for c in range(3)]
        contact = self.contact[:, None]
        closest = torch.full((len(nearest[0]),), torch.inf, device=packer.device)
        for shift in np.array(np.meshgrid(*ranges, indexing="ij")).reshape(3, -1).T:
            shift = packer.tensor(shift)[:, None, None, None, None]
            distance = self.distances(packer, nearest - shift, lattice + shift)
            ratio = torch.where(contact > 0, distance / contact, torch.inf)
            closest = torch.minimum(closest, ratio.amin((1, 2, 3)))
        return closest


class _Packer:
    """All crystals of a batch, their bodies and atoms in flat arrays."""

    def __init__(self, problems: list[Problem], seed: int, device: torch.device):
        self.problems, self.device = problems, device
        self.first_atom = np.cumsum([0] + [len(p.body) for p in problems])
        self.first_operator = np.cumsum([0] + [len(p.rotations) for p in problems])
        first_body = np.cumsum([0] + [len(p.sites) for p in problems])
        tensor = self.tensor
        self.cell = tensor([p.cell for p in problems])
        self.first_cell = self.cell.clone()
        self.expansion = 0.0
        self.stretch, self.shear = torch.zeros(2, len(problems), 3, device=device)
        edges = np.array([p.equal_edges for p in problems])
        equal = (edges[:, :, None] == edges[:, None, :]).astype(float)
        self.average_edges = tensor(equal / equal.sum(axis=2, keepdims=True))
        self.shears = tensor([p.shears for p in problems])
        self.rotations = tensor(np.concatenate([p.rotations for p in problems]))
        self.translations = tensor(np.concatenate([p.translations for p in problems]))
        self.coordinates = tensor(np.concatenate([p.coordinates for p in problems]))
        self.body = tensor(
            np.concatenate([p.body + k for p, k in zip(problems, first_body, strict=False)]),
            torch.int64,
        )
        self.crystal_of_body = tensor(
            np.repeat(np.arange(len(problems)), np.diff(first_body)), torch.int64
        )
        self.centres = tensor(np.concatenate([p.centres for p in problems]))
        self.orientations = tensor(np.concatenate([p.orientations for p in problems]))
        self._place_sites()
        self.generator = torch.Generator(device).manual_seed(seed)
        everything = [np.arange(len(p.body)) for p in problems]
        heavy = [np.flatnonzero(~p.hydrogen) for p in problems]
        self.blocks = self._blocks(everything)
        self.heavy_blocks = self._blocks(heavy)

    def tensor(self, array, dtype: torch.dtype = torch.float32) -> Tensor:
        """A tensor on the device of the packer."""
        return torch.as_tensor(np.asarray(array), dtype=dtype, device=self.device)

    def _blocks(self, members: list[np.ndarray]) -> list[_Block]:
        """Crystals in blocks of equally many operators and about as many atoms."""
        n_operators = np.array([len(p.rotations) for p in self.problems])
        n_atoms = np.array([len(m) for m in members])
        groups: list[list[int]] = []
        for i in np.lexsort((n_atoms, n_operators)):
            current = groups[-1] if groups else None
            cost = n_operators[i] * n_atoms[i] ** 2
            if (
                current
                and n_operators[current[0]] == n_operators[i]
                and (len(current) + 1) * cost <= PAIRS_AT_ONCE
            ):
                current.append(int(i))
            else:
                groups.append([int(i)])
        return [_Block(chosen, self, members) for chosen in groups]

    def _place_sites(self) -> None:
        """Projections of shifts and turns, and which image of a body is itself."""
        n_bodies = len(self.centres)
        shift, turn = np.tile(np.eye(3), (2, n_bodies, 1, 1))
        operator, lattice = np.full(n_bodies, -1), np.zeros((n_bodies, 3))
        k = 0
        for problem in self.problems:
            for site in problem.sites:
                if site is not None:
                    inverse = np.linalg.inv(problem.cell)
                    cartesian = problem.cell @ site.rotation @ inverse
                    shift[k] = (np.eye(3) + cartesian) / 2.0
                    turn[k] = (np.eye(3) + np.linalg.det(cartesian) * cartesian) / 2.0
                    operator[k], lattice[k] = site.operation, site.lattice
                k += 1
        self.shift_projection, self.turn_projection = self.tensor(shift), self.tensor(turn)
        self.site_operator = self.tensor(operator, torch.int64)
        self.site_lattice = self.tensor(lattice)

    def sites(self, scale: float) -> tuple[Tensor, Tensor]:
        """Fractional coordinates, and Cartesian arms (A) from the centres, of all atoms."""
        arms = (self.orientations[self.body] @ self.coordinates[..., None])[..., 0] * scale
        inverse = torch.linalg.inv(self.cell)[self.crystal_of_body][self.body]
        return self.centres[self.body] + (inverse @ arms[..., None])[..., 0], arms

    def grow(self) -> None:
        """Grow the molecules to their size while pushing them apart."""
        previous = (torch.zeros_like(self.centres), torch.zeros_like(self.centres))
        for step in range(N_STEPS):
            scale = FIRST_SCALE + (1.0 - FIRST_SCALE) * min(1.0, step / (GROWTH * N_STEPS))
            sites, arms = self.sites(scale)
            if step % SEARCH_INTERVAL == 0:
                blocks = self.heavy_blocks if scale < 1.0 else self.blocks
                found = [p for block in blocks for p in block.pairs(self, sites, scale)]
                pairs = Pairs(*(torch.cat([getattr(p, f.name) for p in found])
                                for f in fields(Pairs)))
            self.expansion = LARGEST_EXPANSION * max(0.0, 1.0 - (N_STEPS - step) / EXPANSION_STEPS)
            previous = self._step(pairs, sites, arms, scale, previous)
            left = 1.0 - step / (SHAKING * N_STEPS)
            if left > 0.0:
                self._move(SHAKE_SHIFT * left * self._noise(), SHAKE_TURN * left * self._noise())

    def _step(
        self,
        pairs: Pairs,
        sites: Tensor,
        arms: Tensor,
        scale: float,
        previous: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, Tensor]:
        image = (self.rotations[pairs.operator] @ sites[pairs.other][..., None])[..., 0]
        difference = (
            sites[pairs.atom] - image - self.translations[pairs.operator] - pairs.lattice
        )
        crystal = self.crystal_of_body[self.body[pairs.atom]]
        cell = self.cell[crystal]
        vector = (cell @ difference[..., None])[..., 0]
        distance = torch.linalg.vector_norm(vector, dim=1).clamp(min=1e-3)
        overlap = (pairs.contact * scale - distance).clamp(min=0.0)
        touches = (overlap > 0).to(overlap.dtype)
        unit = vector / distance[:, None]
        push = overlap[:, None] * unit
        arm = arms[pairs.atom]
        body = self.body[pairs.atom]
        columns = torch.cat(
            [
                push,
                torch.linalg.cross(arm, push),
                touches[:, None],
                (touches * arm.square().sum(1))[:, None],
            ],
            dim=1,
        )
        total = torch.zeros(len(self.centres), 8, device=self.device).index_add_(0, body, columns)
        stiffness = (total[:, 6:7] / 3.0).clamp(min=0.3)
        inertia = (total[:, 7:8] / 3.0).clamp(min=0.3)
        shift = DAMPING * total[:, 0:3] / stiffness + MOMENTUM * previous[0]
        turn = DAMPING * total[:, 3:6] / inertia + MOMENTUM * previous[1]
        shift, turn = self._move(shift, turn)
        self._strain(pairs, crystal, overlap, unit * touches[:, None])
        return shift, turn

    def _noise(self) -> Tensor:
        """A normal random vector for each body."""
        return torch.randn(self.centres.shape, generator=self.generator, device=self.device)

    def _move(self, shift: Tensor, turn: Tensor) -> tuple[Tensor, Tensor]:
        """Shift (A) and turn (radians) all bodies as far as their sites allow."""
        shift = (self.shift_projection @ _capped(shift, LARGEST_SHIFT)[..., None])[..., 0]
        turn = (self.turn_projection @ _capped(turn, LARGEST_TURN)[..., None])[..., 0]
        inverse = torch.linalg.inv(self.cell)[self.crystal_of_body]
        self.centres = self.centres + (inverse @ shift[..., None])[..., 0]
        self.orientations = rotation_matrices(turn) @ self.orientations
        return shift, turn

    def _strain(self, pairs: Pairs, crystal: Tensor, overlap: Tensor, unit: Tensor) -> None:
        """Let the cell give within its symmetry, while its volume stays nearly the same.

        A pair feels the cell M through the distance of the centres of its molecules, M dx:
        stretches of the edges and shears (elements of M above the diagonal) are damped Newton
        steps like those of the molecules.
        """
        centres = self.centres[self.body]
        image = (self.rotations[pairs.operator] @ centres[pairs.other][..., None])[..., 0]
        apart = centres[pairs.atom] - image - self.translations[pairs.operator] - pairs.lattice
        stretch = (unit[:, None, :] @ self.cell[crystal])[:, 0] * apart
        edges = torch.linalg.vector_norm(self.cell, dim=1)
        length = edges[crystal]
        shear = torch.stack(
            [
                unit[:, 0] * apart[:, 1] * length[:, 1],
                unit[:, 0] * apart[:, 2] * length[:, 2],
                unit[:, 1] * apart[:, 2] * length[:, 2],
            ],
            dim=1,
        )
        response = torch.cat([stretch, shear], dim=1)
        total = torch.zeros(len(self.cell), 12, device=self.device).index_add_(
            0, crystal, torch.cat([overlap[:, None] * response, response.square()], dim=1)
        )
        step = (DAMPING * total[:, :6] / total[:, 6:].clamp(min=1.0)).clamp(
            -STRAIN_STEP, STRAIN_STEP
        )
        self.stretch = self.stretch + torch.einsum("bij,bj->bi", self.average_edges, step[:, :3])
        excess = self.stretch.sum(1, keepdim=True)
        excess = excess - excess.clamp(0.0, self.expansion)
        self.stretch = (self.stretch - excess / 3.0).clamp(-LARGEST_STRAIN, LARGEST_STRAIN)
        self.shear = (self.shear + step[:, 3:]).clamp(-LARGEST_STRAIN, LARGEST_STRAIN)
        sheared = torch.zeros_like(self.cell)
        for k, (row, column) in enumerate(((0, 1), (0, 2), (1, 2))):
            sheared[:, row, column] = self.shear[:, k] * edges[:, column]
        self.cell = self.first_cell * torch.exp(self.stretch)[:, None, :] + sheared * self.shears

    def closest(self) -> Tensor:
        """Smallest ratio of distance to contact distance in each crystal, shape (b,)."""
        sites, _ = self.sites(1.0)
        closest = torch.zeros(len(self.problems), device=self.device)
        for block in self.blocks:
            closest[block.crystals] = block.closest(self, sites)
        return closest


def _capped(vector: Tensor, largest: float) -> Tensor:
    length = torch.linalg.vector_norm(vector, dim=-1, keepdim=True)
    return vector * (largest / length.clamp(min=largest))


def rotation_matrices(turn: Tensor) -> Tensor:
    """Rotations by axis-angle vectors (radians), shape (..., 3) to (..., 3, 3), after Rodrigues."""
    angle = torch.linalg.vector_norm(turn, dim=-1)[..., None, None]
    x, y, z = turn.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))
    first = torch.sinc(angle / torch.pi)
    second = 0.5 * torch.sinc(angle / (2.0 * torch.pi)) ** 2
    identity = torch.eye(3, device=turn.device, dtype=turn.dtype)
    return identity + first * cross + second * (cross @ cross)
