"""Secure product and alignment at full size: `python -m scripts.benchmarks.figures`.

CPU seconds, one thread; each line names its target.
"""

from __future__ import annotations

import time

import numpy as np

from scripts.benchmarks.timing import cpu
from twinweave.protocols.alignment.tags import Prf, Ristretto, match
from twinweave.protocols.keystream import Keystream
from twinweave.protocols.products.blocks import random_blocks
from twinweave.protocols.products.dealt import deal, finish_first, finish_second, mask
from twinweave.protocols.products.pair import Pair, pair_of
from twinweave.tables.column import Column, Kind, Role
from twinweave.tables.schema import JointSchema, Schema
from twinweave.workload.queries import Query, Side

SECRET = bytes(range(32))


def line(what: str, seconds: float, target: str) -> None:
    print(f"{what:<58} {seconds:8.2f} s   target {target}", flush=True)


def product_pair(n_slots: int, width: int) -> Pair:
    """A pair of `width` one-hot positions a side: columns of eleven levels and *absent*."""
    levels = tuple(f"v{i}" for i in range(11))
    queries = []
    schemas = []
    for party in ("first", "second"):
        columns = [Column(name=f"{party} id", kind=Kind.CATEGORICAL, role=Role.KEY)]
        for i in range(width // 12):
            columns.append(Column(name=f"{party} {i}", kind=Kind.CATEGORICAL, levels=levels))
        schemas.append(Schema(party=party, columns=tuple(columns)))
    for a, b in zip(schemas[0].names, schemas[1].names, strict=True):
        sides = (Side(party="first", columns=(a,)), Side(party="second", columns=(b,)))
        queries.append(Query(sides=sides))
    schema = JointSchema(schemas=tuple(schemas))
    return pair_of(schema, queries, n_slots, first="first", second="second")


def secure_product(n_slots: int, width: int, target: str) -> None:
    pair = product_pair(n_slots, width)
    rng = np.random.default_rng(0)
    first = random_blocks(pair.first, n_slots, rng)
    second = random_blocks(pair.second, n_slots, rng)
    dealt, dealing = cpu(lambda: deal(pair, SECRET))
    seeds = dealt.seeds
    masked_first, a = cpu(lambda: mask(pair, first, seeds["first"]))
    masked_second, b = cpu(lambda: mask(pair, second, seeds["second"]))
    _, c = cpu(lambda: finish_first(pair, seeds["first"], masked_second))
    _, d = cpu(lambda: finish_second(pair, second, dealt.correction, masked_first))
    name = f"secure product {n_slots:,} x {width} x {width}"
    line(f"{name}: first party", a + c, target)
    line(f"{name}: second party", b + d, target)
    line(f"{name}: dealer (server)", dealing, "none stated")


def alignment(n_prf: int, n_ristretto: int) -> None:
    ids = np.array([f"user{i:09d}@example.org" for i in range(n_prf)])
    prf = Prf(run_id="benchmark", key=SECRET)
    (_, tags), one = cpu(lambda: prf.start(ids, SECRET))
    (_, other), two = cpu(lambda: prf.start(ids[n_prf // 4 :], SECRET))
    _, matching = cpu(lambda: match({"a": tags, "b": other}, 2 * n_prf, Keystream(SECRET)))
    line(f"align {n_prf:,} ids, prf: both parties and the match", one + two + matching, "4 s")
    ristretto = Ristretto(run_id="benchmark", workers=1)
    (_, tags), blind = cpu(lambda: ristretto.start(ids[:n_ristretto], SECRET))
    _, hop = cpu(lambda: ristretto.hop(tags, SECRET))
    rate = n_ristretto / (blind + hop)
    print(
        f"{'align, ristretto: blind own and double the peer, one core':<58} "
        f"{rate:8,.0f} ids/s   target 7,500 ids/s"
    )


def main() -> None:
    started = time.perf_counter()
    secure_product(64_000, 60, "0.3 s")
    secure_product(1_000_000, 60, "8 s")
    alignment(1_000_000, 20_000)
    print(f"({time.perf_counter() - started:.0f} s in all)")


if __name__ == "__main__":
    main()
