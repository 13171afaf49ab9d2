"""The server's step at a run's beginning: who takes part, and what they accepted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from twinweave.errors import ChannelError, RunError
from twinweave.protocols.channel.keys import Hello
from twinweave.protocols.channel.messages import SetupReply
from twinweave.spec import RunSpec


@dataclass(frozen=True, kw_only=True)
class Roster:
    """Who takes part: each party's table size, signed hello as text, and guard, on or off."""

    rows: dict[str, int]
    hellos: dict[str, str] = field(repr=False)
    guards: dict[str, str]

    @property
    def n_slots(self) -> int:
        """Full padding: the size of the overlap stays hidden from the parties."""
        return sum(self.rows.values())


def roster(spec: RunSpec, replies: Iterable[SetupReply]) -> Roster:
    """The run's parties, in its order. Raises RunError unless they are those of the run, each
    once; ChannelError where one accepted another specification."""
    answers = list(map(_read, replies))
    signed = {hello.party: (hello, reply) for hello, reply in answers}
    found = sorted(hello.party for hello, _ in answers)
    if found != sorted(spec.parties):
        raise RunError(
            f"parties that answered: {', '.join(found) or 'none'}; the run needs exactly: "
            f"{', '.join(spec.parties)}. Start one SuperNode for each."
        )
    for party, (hello, _) in signed.items():
        if hello.spec_hash != spec.digest:
            raise ChannelError(f"party {party!r} did not accept this run's specification.")
    return Roster(
        rows={p: signed[p][0].rows for p in spec.parties},
        hellos={p: signed[p][1].hello for p in spec.parties},
        guards={p: signed[p][1].guard for p in spec.parties},
    )


def unheard(spec: RunSpec, replies: Iterable[SetupReply]) -> tuple[str, ...]:
    """The run's parties that none of these answers comes from. Raises ChannelError."""
    heard = {_read(reply)[0].party for reply in replies if reply.hello}
    return tuple(party for party in spec.parties if party not in heard)


def _read(reply: SetupReply) -> tuple[Hello, SetupReply]:
    return Hello.loads(reply.hello), reply
