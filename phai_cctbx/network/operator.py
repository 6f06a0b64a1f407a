r"""The phasing network: a symmetry-exact Fourier operator.

A token per unique reflection carries C channels x_h (complex; real where the
group is centrosymmetric) and S scalars s_h that no shift of origin changes. One
layer, with T the orthonormal basis of `fourier.py` and f, g, q small functions:

.. math::
    r(x) &= \sum_h T_h(x) f(s_h) x_h / |x_h|           && \text{maps} \\
    z_h &= \langle T_h, q(r) \rangle                   && \text{back; q the same at every x} \\
    x_h &\leftarrow x_h + f'(s_h) z_h                  && \\
    s_h &\leftarrow s_h + g(s_h, |x_h|, Re(u_h v_h^*)) && u, v \text{ linear in x} \\
    x_h &\leftarrow x_h + B(g'(s_h) A x_h)             && A, B \text{ linear and real}

Every step commutes with the symmetry of the group, with its allowed origin
shifts (x_h -> x_h exp(2 pi i h.s)) and with the change of hand, since q sees
maps at points and everything else is linear in x with invariant factors.
A pointwise function of maps is a convolution of structure factors: triplets,
quartets, positivity and atomicity live in q.

The output is a complex number per reflection: its argument the phase, its
modulus kappa the concentration of a von Mises distribution about it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor, nn

#: Radial basis of d*, from 0 to this (A^-1): 1/d_min of 1 A, the finest cut trained on.
D_STAR_MAX = 1.0
N_RADIAL = 24
N_SCALAR_FEATURES = N_RADIAL + 8


@dataclass(frozen=True)
class OperatorConfig:
    """Size of a `FourierOperator`, and the grid it was trained on.

    Attributes
    ----------
    channels, scalars, relations, layers, hidden : int
        C, S, number of Re(u v*), layers, width of the MLP at grid points.
    grid_points_per_d_min : float
        Grid step is d_min over this.
    acentric_layers : int, optional
        Layers of a network of its own for groups without a centre of symmetry; by default one
        network is for all.
    """

    channels: int = 48
    scalars: int = 48
    relations: int = 16
    layers: int = 6
    hidden: int = 96
    grid_points_per_d_min: float = 2.5
    acentric_layers: int | None = None

    def as_dict(self) -> dict:
        return asdict(self)


class FourierLayer(nn.Module):
    """One alternation between reciprocal and direct space."""

    def __init__(self, config: OperatorConfig):
        super().__init__()
        c, s, r = config.channels, config.scalars, config.relations
        self.channels = c
        self.scalars = s
        self.radial_filter = nn.Linear(s, 2 * c)
        self.map_mlp = nn.Sequential(
            nn.Linear(c, config.hidden), nn.GELU(), nn.Linear(config.hidden, c)
        )
        self.relate_left = nn.Linear(c, r, bias=False)
        self.relate_right = nn.Linear(c, r, bias=False)
        self.scalar_norm = nn.LayerNorm(s + c)
        self.token_mlp = nn.Sequential(
            nn.Linear(2 * s + c + r, 2 * c), nn.GELU(), nn.Linear(2 * c, s + 2 * c)
        )
        self.mix_in = nn.Linear(c, c, bias=False)
        self.mix_out = nn.Linear(c, c, bias=False)

    def forward(
        self,
        x: Tensor,
        scalars: Tensor,
        mask: Tensor,
        blocks: Tensor,
        signs: Tensor,
        weights: Tensor,
        row_of_slot: Tensor,
        slot_of_row: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """One layer: x (c, k, n, m, C) and scalars (c, n, m, S) of c crystals, m starts of each.

        Of the transform, see `FourierOperator.forward`: `signs` (s, s) of the classes at the copies
        of the points, and for c * k * n rows of coefficients their places in the blocks.
        """
        n_crystals, n_shifts = blocks.shape[0], blocks.shape[1]
        token_mask = mask[:, None, :, None, None]
        n_present = mask.sum(1)[:, None, None, None].clamp(min=1.0)
        scale = torch.rsqrt(n_present)

        unit = x * torch.rsqrt(x.square().sum(1, keepdim=True).mean(-1, keepdim=True) + 1e-4)
        filters = self.radial_filter(scalars)[:, None]
        coefficients = unit * filters[..., : self.channels] * (token_mask * scale[:, None])
        # the classes at the points listed, then their sums and differences at the copies
        rows = coefficients.reshape(slot_of_row.shape[0], -1).index_select(0, row_of_slot)
        maps = torch.matmul(
            blocks.transpose(2, 3), rows.reshape(n_crystals, n_shifts, blocks.shape[2], -1)
        )
        maps = torch.matmul(signs, maps.flatten(2)).reshape(n_crystals, n_shifts, -1, self.channels)
        maps = self.map_mlp(maps).reshape(n_crystals, n_shifts, blocks.shape[3], -1)
        maps = maps * (weights[:, None, :, None] / (scale * float(n_shifts)))
        maps = torch.matmul(signs, maps.flatten(2)).reshape(maps.shape)
        rows = torch.matmul(blocks, maps).reshape(row_of_slot.shape[0], -1)
        back = rows.index_select(0, slot_of_row).reshape(x.shape)
        x = x + back * filters[..., self.channels :] * (0.3 * token_mask)

        modulus = torch.sqrt(x.square().sum(1) + 1e-4)
        unit = x * torch.rsqrt(x.square().sum(1, keepdim=True).mean(-1, keepdim=True) + 1e-4)
        relations = (self.relate_left(unit) * self.relate_right(unit)).sum(1)
        context = (scalars * token_mask[:, 0]).sum(1, keepdim=True) / n_present
        normed = self.scalar_norm(torch.cat([scalars, modulus], -1))
        update = self.token_mlp(
            torch.cat([normed, context.expand_as(scalars), relations], -1)
        )
        gates = torch.tanh(update[..., self.scalars :])[:, None]
        scalars = scalars + update[..., : self.scalars]
        mixed = self.mix_out(gates[..., : self.channels] * self.mix_in(unit))
        x = (x + mixed + 0.3 * gates[..., self.channels :] * x) * token_mask
        return x, scalars


class FourierOperator(nn.Module):
    """Phases from normalised amplitudes and a start.

    Parameters
    ----------
    config : OperatorConfig
    """

    def __init__(self, config: OperatorConfig):
        super().__init__()
        self.grid_points_per_d_min = config.grid_points_per_d_min
        self.radial_width = 1.5 * D_STAR_MAX / N_RADIAL
        self.register_buffer("centres", torch.linspace(0.0, D_STAR_MAX, N_RADIAL))
        self.embedding = nn.Sequential(
            nn.Linear(N_SCALAR_FEATURES, 2 * config.scalars),
            nn.GELU(),
            nn.Linear(2 * config.scalars, config.scalars),
        )
        self.start_filter = nn.Linear(config.scalars, config.channels)
        self.layers = nn.ModuleList([FourierLayer(config) for _ in range(config.layers)])
        self.phase_out = nn.Linear(config.channels, 1, bias=False)
        self.kappa_out = nn.Sequential(nn.LayerNorm(config.scalars), nn.Linear(config.scalars, 1))

    def features(
        self, e_value: Tensor, d_star: Tensor, epsilon: Tensor, centric: Tensor, mask: Tensor
    ) -> Tensor:
        """Scalars of each token that no shift of origin changes, shape (b, n, features)."""
        radial = torch.exp(-((d_star[..., None] - self.centres) / self.radial_width).square())
        d_star_max = (d_star * mask).amax(1, keepdim=True)
        n_present = mask.sum(1, keepdim=True)
        return torch.cat(
            [
                radial,
                torch.stack(
                    [
                        e_value,
                        e_value.square() - 1.0,
                        (e_value > 1.0).to(e_value.dtype),
                        torch.log2(epsilon.clamp(min=1.0)),
                        centric.to(e_value.dtype),
                        d_star / d_star_max,
                        2.0 * d_star_max.expand_as(d_star),
                        0.25 * torch.log(n_present).expand_as(d_star),
                    ],
                    -1,
                ),
            ],
            -1,
        )

    def forward(
        self,
        e_value: Tensor,
        d_star: Tensor,
        epsilon: Tensor,
        centric: Tensor,
        mask: Tensor,
        start: Tensor,
        blocks: Tensor,
        weights: Tensor,
        places: Tensor,
    ) -> Tensor:
        """One pass over c crystals, from m starts of each.

        Parameters
        ----------
        e_value, d_star, epsilon : Tensor, shape (c, n)
            |E| (`NOT_MEASURED` where there is none), 1/d in A^-1, multiplicity factor.
        centric : Tensor of bool, shape (c, n)
        mask : Tensor, shape (c, n)
            1 for a reflection, 0 for padding.
        start : Tensor, shape (c * m, k, n)
            Expected value of exp(i phase): real (and imaginary) part, modulus
            at most 1. k = 1 in centrosymmetric groups, else 2. The starts of
            one crystal stand together.
        blocks, weights, places : Tensor
            Of the `Transform` of the c crystals.

        Returns
        -------
        Tensor, shape (c * m, k, n)
            kappa exp(i phase).
        """
        n_crystals, n_parts, n_tokens = blocks.shape[0], start.shape[1], start.shape[2]
        n_starts = start.shape[0] // n_crystals
        start = start.reshape(n_crystals, n_starts, n_parts, n_tokens).permute(0, 2, 3, 1)
        row_of_slot, slot_of_row = self.order(places, blocks, n_parts)
        signs = self.signs(blocks.shape[1]).to(blocks)

        scalars = self.embedding(self.features(e_value, d_star, epsilon, centric, mask))
        filters = (self.start_filter(scalars) * mask[..., None])[:, None, :, None]
        x = start[..., None] * filters
        scalars = scalars[:, :, None].expand(-1, -1, n_starts, -1)
        for layer in self.layers:
            x, scalars = layer(
                x, scalars, mask, blocks, signs, weights, row_of_slot, slot_of_row
            )
        unit = x * torch.rsqrt(x.square().sum(1, keepdim=True).mean(-1, keepdim=True) + 1e-4)
        kappa = nn.functional.softplus(self.kappa_out(scalars))[:, None, ..., 0]
        output = self.phase_out(unit)[..., 0] * kappa * mask[:, None, :, None]
        return output.permute(0, 3, 1, 2).reshape(-1, n_parts, n_tokens)

    @staticmethod
    def order(places: Tensor, blocks: Tensor, n_parts: int) -> tuple[Tensor, Tensor]:
        """Row (c * k * n) of each slot (c * s * k * l), and the slot of each row.

        Slots without a reflection name any row: their waves are zero. So do rows of padding,
        which are masked.
        """
        n_crystals, n_shifts, n_tokens = blocks.shape[0], blocks.shape[1], places.shape[1]
        length = blocks.shape[2] // n_parts
        crystals = torch.arange(n_crystals, device=places.device)[:, None, None]
        parts = torch.arange(n_parts, device=places.device)
        tokens = torch.arange(n_tokens, device=places.device).expand_as(places)
        held = torch.zeros_like(places[:, :1]).repeat(1, n_shifts * length + 1)
        held = held.scatter(1, places, tokens)[:, :-1].reshape(n_crystals, n_shifts, 1, length)
        row_of_slot = (crystals[..., None] * n_parts + parts[:, None]) * n_tokens + held
        inside = places.clamp(max=n_shifts * length - 1)[:, None]
        block = crystals * n_shifts + torch.div(inside, length, rounding_mode="floor")
        slot_of_row = (block * n_parts + parts[:, None]) * length + inside % length
        return row_of_slot.flatten(), slot_of_row.flatten()

    @staticmethod
    def signs(n_shifts: int) -> Tensor:
        """Sign (s, s) of each class of reflections under each half shift of the origin."""
        signs = torch.ones(1, 1)
        while signs.shape[0] < n_shifts:
            signs = torch.cat([torch.cat([signs, signs], 1), torch.cat([signs, -signs], 1)], 0)
        return signs


class OperatorByCentre(nn.Module):
    """One network for centrosymmetric groups, in which everything is real, one for the others.

    Parameters
    ----------
    centrosymmetric, acentric : FourierOperator
    """

    def __init__(self, centrosymmetric: FourierOperator, acentric: FourierOperator):
        super().__init__()
        self.centrosymmetric = centrosymmetric
        self.acentric = acentric

    def forward(
        self,
        e_value: Tensor,
        d_star: Tensor,
        epsilon: Tensor,
        centric: Tensor,
        mask: Tensor,
        start: Tensor,
        blocks: Tensor,
        weights: Tensor,
        places: Tensor,
    ) -> Tensor:
        """As `FourierOperator.forward`."""
        if start.shape[1] == 1:
            return self.centrosymmetric(
                e_value, d_star, epsilon, centric, mask, start, blocks, weights, places
            )
        return self.acentric(
            e_value, d_star, epsilon, centric, mask, start, blocks, weights, places
        )


def operator(config: OperatorConfig) -> FourierOperator | OperatorByCentre:
    """The network that a configuration describes, with random weights."""
    if config.acentric_layers is None:
        return FourierOperator(config)
    acentric = replace(config, layers=config.acentric_layers)
    return OperatorByCentre(FourierOperator(config), FourierOperator(acentric))


def fitted(weights: dict[str, Tensor], config: OperatorConfig) -> dict[str, Tensor]:
    """Weights of a network for one that is deeper, or has a part of its own for groups without a
    centre: with the same answers."""
    if config.acentric_layers is None:
        return deepened(weights, config.layers)
    layers = {"centrosymmetric": config.layers, "acentric": config.acentric_layers}
    both = {}
    for part, n_layers in layers.items():
        own = {n.removeprefix(f"{part}."): w for n, w in weights.items() if n.startswith(part)}
        for name, value in deepened(own or weights, n_layers).items():
            both[f"{part}.{name}"] = value
    return both


def deepened(weights: dict[str, Tensor], n_layers: int) -> dict[str, Tensor]:
    """Weights of a `FourierOperator` for one of at least as many layers, with the same answers.

    New layers are copies of the last one that add nothing yet (after Net2Net, Chen, Goodfellow &
    Shlens, ICLR 2016): what they give to channels and scalars starts at zero, and is learnt.
    """
    n_known = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("layers."))
    weights = dict(weights)
    for new in range(n_known, n_layers):
        for name, value in list(weights.items()):
            if not name.startswith(f"layers.{n_known - 1}."):
                continue
            part = name.split(".", 2)[2]
            value = value.clone()
            if part.startswith("radial_filter."):
                value[len(value) // 2 :] = 0.0
            elif part.startswith("token_mlp.2."):
                value[:] = 0.0
            weights[f"layers.{new}.{part}"] = value
    return weights
