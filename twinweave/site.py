"""What a party itself configures: its table, its identity, its pinned peers, its guard.

Nothing that a server or a peer sends can change it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from twinweave.parsing import Parsed
from twinweave.privacy.guard import GuardConf
from twinweave.tables.column import Column
from twinweave.tables.schema import Schema
from twinweave.tables.sources import Source


@dataclass(frozen=True, kw_only=True)
class Site(Parsed):
    """dataset: the party's own name of its table; what is released about the table adds up
    under it, whatever its rows are.
    identity: file of this party's Ed25519 key. pins: peer -> public key, hex.

    pools: the pools that this party agreed to be in, as their members; a specification that
    pools it with anybody else is refused.
    work: private folder for the party's own record of its runs.
    simulated: written for a simulation, from the run's own configuration.
    """

    party: str
    dataset: str
    columns: tuple[Column, ...]
    source: Source
    identity: str
    pins: dict[str, str]
    guard: GuardConf
    pools: tuple[tuple[str, ...], ...] = ()
    work: str = field(default=".twinweave")
    simulated: bool = False

    @property
    def schema(self) -> Schema:
        return Schema(party=self.party, columns=self.columns)

    @property
    def guard_setting(self) -> str:
        """Where the guard is configured: the setting that has effect."""
        return "privacy.guard" if self.simulated else "this party's site file: guard"
