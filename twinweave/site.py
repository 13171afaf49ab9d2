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
    """identity: file of this party's Ed25519 key. pins: peer -> public key, hex.

    pools: the pools that this party agreed to be in, as their members; a specification that
    pools it with anybody else is refused.
    work: private folder for the party's own record of its runs.
    """

    party: str
    columns: tuple[Column, ...]
    source: Source
    identity: str
    pins: dict[str, str]
    guard: GuardConf
    pools: tuple[tuple[str, ...], ...] = ()
    work: str = field(default=".twinweave")

    @property
    def schema(self) -> Schema:
        return Schema(party=self.party, columns=self.columns)
