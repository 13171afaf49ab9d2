"""What a generator costs to train and to draw from, said before a run. Imports no torch."""

from __future__ import annotations

import os
from dataclasses import dataclass

LONG = 3600
"""Seconds; a run that takes longer says so first."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one run, all parties and the server together on this machine, without an accelerator.

    cpu_seconds: CPU seconds. memory: bytes at most, of one process. update: bytes that a party
    sends each round, before masks.
    """

    cpu_seconds: float
    memory: int
    update: int

    @property
    def seconds(self) -> float:
        """With all cores of this machine."""
        return self.cpu_seconds / (os.cpu_count() or 1)

    @property
    def is_long(self) -> bool:
        return self.seconds > LONG

    @property
    def sentence(self) -> str:
        long = "a long run: " if self.is_long else ""
        return (
            f"{long}the generator takes about {self.cpu_seconds / 60:,.0f} CPU minutes "
            f"({self.seconds / 3600:.1f} hours on this machine's cores), "
            f"{self.memory / 1e9:.1f} GB of memory, "
            f"and {self.update / 1e6:.1f} MB a party and round"
        )
