"""What every selectable protocol costs, in one table: `python -m scripts.benchmarks.parties`.

For 2 to 100 parties: CPU seconds of a client (the mean, and the busiest: an aggregator, say) and
of the server, bytes that a client sends, and the largest error against the plaintext oracle. One
thread, one process; keys are agreed beforehand.

    python -m scripts.benchmarks.parties --length 100000 --slots 20000 --parties 2 5 10 30 100
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from scripts.benchmarks.timing import cpu
from twinweave.errors import ConfigError
from twinweave.protocols.channel.keys import PairKeys
from twinweave.protocols.products import bfv, dealt, encrypted
from twinweave.protocols.products.blocks import BlockLayout, BlockSet, random_blocks
from twinweave.protocols.products.pair import Pair
from twinweave.protocols.ring import matmul_t, ring_bits, to_signed
from twinweave.protocols.secure_sum.fixed_point import FixedPoint
from twinweave.protocols.secure_sum.interface import SumParty
from twinweave.protocols.secure_sum.kinds import KINDS, check_kind, party_end, peers, server_end
from twinweave.protocols.secure_sum.plan import SumPlan
from twinweave.protocols.wire import to_bytes
from twinweave.tables.contingency import Axis
from twinweave.workload.queries import Side

P = ParamSpec("P")
T = TypeVar("T")
BOUND = 16.0  # of a coordinate of an update, as in the training
SERVER = "server"


@dataclass
class Meter:
    """CPU seconds and bytes sent, by who spent them."""

    seconds: dict[str, float] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)

    def run(self, who: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `work` returns; its CPU seconds are on `who`'s account."""
        result, seconds = cpu(lambda: work(*args, **kwargs))
        self.seconds[who] = self.seconds.get(who, 0.0) + seconds
        return result

    def send(self, who: str, size: int) -> None:
        self.sent[who] = self.sent.get(who, 0) + size


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table. note: why there are no figures, or what they leave out."""

    protocol: str
    parties: int
    note: str = ""
    client: tuple[float, float] | None = None  # mean, busiest
    server: float = 0.0
    sent: tuple[float, float] = (0.0, 0.0)
    error: float = 0.0

    @classmethod
    def of(cls, protocol: str, names: Sequence[str], meter: Meter, error: float, note: str) -> Row:
        seconds = [meter.seconds.get(name, 0.0) for name in names]
        sent = [meter.sent.get(name, 0) for name in names]
        return cls(
            protocol=protocol,
            parties=len(names),
            note=note,
            error=error,
            client=(float(np.mean(seconds)), max(seconds)),
            server=meter.seconds.get(SERVER, 0.0),
            sent=(float(np.mean(sent)), max(sent)),
        )

    def line(self) -> str:
        head = f"{self.protocol:<28}{self.parties:>7}  "
        if self.client is None:
            return head + f"does not apply: {self.note}"
        mean, busiest = self.client
        return head + (
            f"{mean:>8.3f}{busiest:>9.3f}{self.server:>9.3f}{self.sent[0] / 1e6:>10.3f}"
            f"{self.sent[1] / 1e6:>10.3f}  {self.error:>8.1e}  {self.note}"
        )


HEADER = (
    f"{'':<28}{'':>7}  {'client CPU s':>17}{'server':>9}{'client sends, MB':>20}  {'largest':>8}\n"
    f"{'protocol':<28}{'parties':>7}  {'mean':>8}{'busiest':>9}{'CPU s':>9}{'mean':>10}{'most':>10}"
    f"  {'error':>8}"
)


def message_bytes(message: Any) -> int:
    """Size of what travels: arrays and sealed bytes; names and headers are a few more."""
    return len(to_bytes(message))


# --- secure sums ---------------------------------------------------------------------------


def sum_plan(n_parties: int) -> SumPlan:
    names = tuple(f"party{i:03d}" for i in range(n_parties))
    encoding = FixedPoint.fitting(BOUND, n_parties=n_parties, bits=32)
    return SumPlan(
        run="bench", label="bench", parties=names, rounds=1, encoding=encoding, colluding=0
    )


def sum_parties(kind: str, plan: SumPlan, meter: Meter) -> dict[str, SumParty]:
    """Parties that have dealt and accepted, under random pair roots."""
    roots: dict[frozenset[str], bytes] = {}
    fresh = {}
    for own in plan.parties:
        keys = {
            peer: PairKeys(
                own=own,
                peer=peer,
                run_id=plan.run,
                root=roots.setdefault(frozenset((own, peer)), os.urandom(32)),
            )
            for peer in peers(kind, plan, own)
        }
        fresh[own] = party_end(kind, plan=plan, own=own, secret=os.urandom(32), keys=keys)
    dealt = {own: meter.run(own, party.deal) for own, party in fresh.items()}
    parties = {}
    for own, party in fresh.items():
        meter.send(own, sum(map(len, dealt[own].values())))
        sealed = {peer: out[own] for peer, out in dealt.items() if own in out}
        parties[own] = meter.run(own, party.accept, sealed)
    return parties


def bench_sum(kind: str, n_parties: int, length: int) -> Row:
    """One round of all parties, set-up included."""
    plan = sum_plan(n_parties)
    try:
        check_kind(kind, plan)
    except ConfigError as refusal:
        return Row(protocol=f"sum: {kind}", parties=n_parties, note=str(refusal))
    meter, rng = Meter(), np.random.default_rng(0)
    parties = sum_parties(kind, plan, meter)
    clear = np.zeros(length)
    server = meter.run(SERVER, server_end, kind, plan, round_=0, length=length)
    after = {}
    for name, party in parties.items():
        values = rng.normal(0, 1, length)
        clear += values
        after[name], upload = meter.run(name, party.protect, values, 0)
        meter.send(name, message_bytes(upload))
        meter.run(SERVER, server.add, name, upload)
    answers = {}
    for name, request in meter.run(SERVER, server.requests).items():
        _, answers[name] = meter.run(name, after[name].reveal, request)
        meter.send(name, message_bytes(answers[name]))
    total = meter.run(SERVER, server.finish, answers)
    return Row.of(
        f"sum: {kind}", plan.parties, meter, float(np.abs(total - clear).max()), _NOTES[kind]
    )


_NOTES = {
    "masking": "",
    "secret_sharing": "busiest: an aggregator",
    "homomorphic": "busiest: decrypts",
}


# --- cross tables --------------------------------------------------------------------------


def product(n_slots: int, widths: tuple[int, int]) -> Pair:
    layouts = [
        BlockLayout(
            party=name,
            sides=(Side(party=name, columns=("x",)),),
            axes=(Axis.whole(width, "absent"),),
        )
        for name, width in zip(("first", "second"), widths, strict=True)
    ]
    return Pair(first=layouts[0], second=layouts[1], n_slots=n_slots, bits=ring_bits(n_slots))


def both_blocks(pair: Pair) -> dict[str, BlockSet]:
    rng = np.random.default_rng(0)
    return {party: random_blocks(pair.layout(party), pair.n_slots, rng) for party in pair.parties}


def in_the_clear(pair: Pair, blocks: Mapping[str, BlockSet]) -> NDArray[np.int64]:
    first, second = (blocks[party].dense(pair.bits) for party in pair.parties)
    return to_signed(matmul_t(first, second))


def share_product(pair: Pair, blocks: Mapping[str, BlockSet], meter: Meter) -> float:
    """One dealt product; the largest error of the sum of its shares."""
    one, two = pair.parties
    deal = meter.run(SERVER, dealt.deal, pair, os.urandom(32))
    masked = {p: meter.run(p, dealt.mask, pair, blocks[p], deal.seeds[p]) for p in pair.parties}
    share = meter.run(one, dealt.finish_first, pair, deal.seeds[one], masked[two])
    share = share + meter.run(
        two, dealt.finish_second, pair, blocks[two], deal.correction, masked[one]
    )
    for party in pair.parties:
        meter.send(party, masked[party].nbytes + share.nbytes)
    return float(np.abs(to_signed(share) - in_the_clear(pair, blocks)).max())


def encrypt_product(pair: Pair, blocks: Mapping[str, BlockSet], meter: Meter) -> float:
    """The same without a dealer."""
    own, other = (layout.party for layout in bfv.sides(pair))
    key = os.urandom(32)
    offered = meter.run(own, encrypted.offer, pair, blocks[own], key)
    share, answered = meter.run(other, encrypted.respond, pair, blocks[other], offered)
    total = share + meter.run(own, encrypted.finish, pair, key, answered)
    meter.send(own, len(offered) + share.nbytes)
    meter.send(other, len(answered) + share.nbytes)
    return float(np.abs(to_signed(total) - in_the_clear(pair, blocks)).max())


def bench_tables(n_slots: int, widths: tuple[int, int], sizes: Sequence[int]) -> Iterator[Row]:
    """A pair of parties, measured once; among n parties every pair has one, independently."""
    pair = product(n_slots, widths)
    blocks = both_blocks(pair)
    yield from _among("tables: secret_sharing", share_product, pair, blocks, sizes, "")
    name = "tables: homomorphic"
    try:
        bfv.check(pair)
    except ConfigError as refusal:
        yield from (Row(protocol=name, parties=n, note=str(refusal)) for n in sizes)
    else:
        note = "no dealer; busiest: answers"
        yield from _among(name, encrypt_product, pair, blocks, sizes, note)


def _among(
    name: str,
    work: Callable[[Pair, Mapping[str, BlockSet], Meter], float],
    pair: Pair,
    blocks: Mapping[str, BlockSet],
    sizes: Sequence[int],
    note: str,
) -> Iterator[Row]:
    meter = Meter()
    error = work(pair, blocks, meter)
    one = Row.of(name, ("first", "second"), meter, error, note)
    assert one.client is not None
    for n in sizes:
        times = f"a pair, times {n - 1} (client), {n * (n - 1) // 2} (server)"
        yield Row(
            protocol=name,
            parties=n,
            note=note if n == 2 else times,
            error=error,
            client=(one.client[0] * (n - 1), one.client[1] * (n - 1)),
            server=one.server * n * (n - 1) / 2,
            sent=(one.sent[0] * (n - 1), one.sent[1] * (n - 1)),
        )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--parties", type=int, nargs="+", default=[2, 5, 10, 30, 100])
    parser.add_argument("--length", type=int, default=100_000, help="of the vectors that are added")
    parser.add_argument("--slots", type=int, default=64_000, help="of a pair's spine")
    parser.add_argument("--widths", type=int, nargs=2, default=[13, 4], help="positions a side")
    args = parser.parse_args(argv)
    print(
        f"Sums of {args.length:,} values of magnitude up to {BOUND:g} (32-bit fixed point); tables "
        f"of {args.widths[0]} x {args.widths[1]} over {args.slots:,} slots a pair.\n{HEADER}"
    )
    for kind in KINDS:
        for n in args.parties:
            print(bench_sum(kind, n, args.length).line(), flush=True)
    for row in bench_tables(args.slots, (args.widths[0], args.widths[1]), args.parties):
        print(row.line(), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
