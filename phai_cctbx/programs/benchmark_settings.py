"""What a benchmark job is told, the same for every structure of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Settings of a benchmark job.

    Attributes
    ----------
    d_min : float or None
        Resolution limit in A, None for all data.
    strategy : str or None
        Phasing strategy, None for the job's own.
    model : str or None
        TorchScript file of the network, None for the bundled one.
    n_starts : int or None
        Random starts, None for the strategy's own number.
    missing : float
        Share of the reflections left out at random, job=phasing.
    seed : int
    molecules : str or None
        Table of known molecules for job=molecule.
    radiation : {"xray", "electron", "neutron"}
        Of the data that job=solve simulates from published models.
    """

    d_min: float | None = None
    strategy: str | None = None
    model: str | None = None
    n_starts: int | None = None
    missing: float = 0.0
    seed: int = 0
    molecules: str | None = None
    radiation: str = "xray"

    def phaser_options(self) -> dict:
        """Options of the phaser that were given."""
        options = {"model": self.model, "n_starts": self.n_starts}
        return {name: value for name, value in options.items() if value is not None}
