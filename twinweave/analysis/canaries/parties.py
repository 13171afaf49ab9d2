"""All parties of a canary run in one process: their real steps, on made-up tables.

The tables of a party hold the canaries that were put in and nobody else. Setup, guard, products
and opening are those of any run; the alignment is skipped, as a canary's slot is its number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from twinweave.privacy.guard import GuardConf
from twinweave.protocols.alignment.party import Aligned
from twinweave.protocols.channel.identity import Identity
from twinweave.protocols.channel.messages import SetupRequest
from twinweave.protocols.channel.party import setup
from twinweave.protocols.channel.server import Roster, roster
from twinweave.protocols.party import Introduced, Party
from twinweave.protocols.products.kinds import party_end
from twinweave.protocols.products.messages import OpenReply, OpenRequest
from twinweave.protocols.products.opening import without_noise
from twinweave.protocols.products.party import agree, open_, share
from twinweave.protocols.products.server import measure
from twinweave.protocols.products.state import AGREE, OPEN, SHARE, Pass
from twinweave.protocols.ring import to_signed
from twinweave.protocols.steps import Steps
from twinweave.site import Site
from twinweave.spec import RunSpec
from twinweave.tables.sources import Source, SourceKind

if TYPE_CHECKING:
    import pandas as pd

_STEPS: dict[str, Callable[..., tuple[Any, Any]]] = {AGREE: agree, SHARE: share, OPEN: open_}

Noise = dict[int, NDArray[np.int64]]
"""What a party drew for its opened tables, (opened cells,), by index in the plan."""


@dataclass(kw_only=True)
class Parties:
    """reader: the party that reads what is opened beside the server, and takes off the noise that
    it drew itself; None: the server reads alone."""

    spec: RunSpec
    sites: Mapping[str, Site]
    reader: str | None = None
    known: dict[int, Noise] = field(default_factory=dict)
    """The reader's own noise, by pass."""
    _states: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, spec: RunSpec, tables: Mapping[str, pd.DataFrame], folder: Path, reader: str | None
    ) -> Parties:
        """Parties with these tables, in files of a private folder."""
        keys = {party: Identity.generate() for party in spec.parties}
        sites = {}
        for party, key in keys.items():
            own = folder / party
            own.mkdir(mode=0o700)
            key.save(own / "identity.pem")
            tables[party].to_csv(own / "table.csv", index=False)
            sites[party] = Site(
                party=party,
                dataset="canaries",
                columns=spec.schema.schema(party).columns,
                source=Source(kind=SourceKind.CSV, path=str(own / "table.csv")),
                identity=str(own / "identity.pem"),
                pins={p: k.public_hex for p, k in keys.items() if p != party},
                guard=GuardConf(mode="off"),
                pools=spec.pools,
                work=str(own),
            )
        return cls(spec=spec, sites=sites, reader=reader)

    def join(self, slots: Mapping[str, NDArray[np.int64]]) -> Roster:
        """Everybody accepts the specification, and is given its slots: (rows,), by party."""
        request = SetupRequest(run=self.spec.run, spec=self.spec.dumps(), sites="")
        answers = {party: setup(request, site) for party, site in self.sites.items()}
        members = roster(self.spec, [reply for reply, _ in answers.values()])
        for party, (_, joined) in answers.items():
            met = Introduced(joined=joined, hellos=members.hellos)
            order = np.arange(len(slots[party]), dtype=np.int64)
            self._states[party] = Aligned(introduced=met, order=order)
        return members

    def measured(
        self, spec: RunSpec, members: Roster, slots: Mapping[str, NDArray[np.int64]], step: int = 0
    ) -> list[NDArray[np.float64]]:
        """The tables of one pass as the reader sees them: in the plan's order."""
        found = self._drive(measure(spec, members, dict(slots), step)).measurements
        seen = []
        for index, measurement in enumerate(found):
            own = self.known.get(step, {}).get(index)
            values = measurement.values
            if own is not None:
                drawn = np.append(own, np.zeros(values.size - own.size, dtype=np.int64))
                values = values - drawn.reshape(values.shape)
            seen.append(values)
        return seen

    def _drive(self, steps: Steps[Any]) -> Any:
        try:
            question = next(steps)
            while True:
                replies = {
                    p: self._tell(question.phase, p, r) for p, r in question.requests.items()
                }
                question = steps.send(replies)
        except StopIteration as done:
            return done.value

    def _tell(self, phase: str, party: str, request: Any) -> Any:
        before = self._states[party]
        reply, after = _STEPS[phase](request, before, self.sites[party])
        self._states[party] = after
        if phase == OPEN and party == self.reader:
            drawn = _own_noise(
                Pass(Party(self.sites[party], before.aligned.introduced), before), request, reply
            )
            self.known[before.step] = self.known.get(before.step, {}) | drawn
        return reply


def _own_noise(here: Pass, request: OpenRequest, reply: OpenReply) -> Noise:
    """What a party drew for the tables across that it opened with this reply."""
    end, noise = party_end(here), {}
    for peer in here.peers:
        if not end.opens(peer, request.hop):
            continue
        pair, tables = here.pair(peer), here.tables(peer)
        blank = without_noise(
            pair,
            end.product(peer, request),
            tables,
            own=here.party.name,
            secret=here.secret(peer),
            label=here.opened_in,
        )
        for index, planned in tables.items():
            if planned.coins is None and not planned.query.is_pooled:
                noise[index] = to_signed(reply.shares[str(index)] - blank[index])
    return noise
