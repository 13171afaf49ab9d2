"""What shared coins cost, and how much of it is that they are verified:

    python -m scripts.benchmarks.coins
    python -m scripts.benchmarks.coins data=adult privacy=public privacy.epsilon=1

The tables with coins of a run's plan, one pair of parties after the other: coins and bytes, and
CPU seconds of the dealer and of both parties. "Verified" is their part in the testing: to choose
which coins are looked at and who gets the others, to show them, and the coins dealt beyond those
that are charged for. One process, one thread.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from scripts.benchmarks.timing import cpu
from twinweave.config import RunConf, compose
from twinweave.planning import plan
from twinweave.privacy.noise import SPARE_COINS
from twinweave.protocols.keystream import Keystream
from twinweave.protocols.products import coins
from twinweave.protocols.products.coins import Coins, Places
from twinweave.protocols.products.opening import coins_of
from twinweave.protocols.products.pair import product_of

SLOTS = 64_000


@dataclass
class Totals:
    """coins: dealt. charged: those of them that noise is charged for. Seconds of CPU."""

    tables: int = 0
    coins: int = 0
    charged: int = 0
    words: int = 0
    shown: int = 0
    dealer: float = 0.0
    first: float = 0.0
    second: float = 0.0
    verified: float = 0.0


def spend(totals: Totals, asked: Coins, charged: int) -> None:
    """One table, from the dealer to both parties' shares of heads."""
    secret, key = os.urandom(32), os.urandom(32)
    words, dealing = cpu(lambda: coins.words(asked, secret))
    seed = coins.seed(secret)
    places, choosing = cpu(lambda: Places.of(asked, key))
    shown, showing = cpu(lambda: coins.shown(asked, seed, places))
    _, first = cpu(lambda: coins.first_heads(asked, seed, places, key))
    _, second = cpu(lambda: coins.second_heads(asked, words, shown, places, key))
    plain = plain_seconds(asked, charged)
    totals.tables += 1
    totals.coins += asked.rounds * asked.dealt
    totals.charged += charged * asked.cells
    totals.words += words.nbytes
    totals.shown += shown.nbytes
    totals.dealer += dealing
    totals.first += choosing + showing + first
    totals.second += choosing + second
    totals.verified += 2 * choosing + showing + dealing + first + second - plain


def plain_seconds(asked: Coins, charged: int) -> float:
    """CPU seconds of the same without any testing: deal, sign, and add up what is charged for."""
    key, cells = os.urandom(32), asked.cells
    bare = Coins(cells=cells, rounds=charged, width=asked.width)

    def parties() -> None:
        for signs in (Keystream(key), Keystream(key)):
            for rounds in bare.chunks():
                shape = rounds.stop - rounds.start, cells
                own = Keystream(key).words32(shape[0] * cells).reshape(shape)
                coins._signed(own, coins._flips(signs, shape)).sum(axis=0)

    dealing = cpu(lambda: coins.words(bare, key))[1] * cells / bare.dealt
    return dealing + cpu(parties)[1]


def main(argv: Sequence[str] | None = None) -> int:
    overrides = list(sys.argv[1:] if argv is None else argv)
    conf = RunConf.parse(compose(["output=.", "data.root=.", *overrides]))
    spec, totals = plan(conf, "benchmark"), Totals()
    for first, second in combinations(spec.parties, 2):
        tables = spec.tables.crossing(first, second)
        if not tables:
            continue
        pair = product_of(spec, first, second, SLOTS)
        for asked in coins_of(pair, tables).values():
            spend(totals, asked, asked.rounds - SPARE_COINS)
    more = totals.coins / max(1, totals.charged) - 1
    print(f"{totals.tables} tables with coins, {SLOTS:,} slots, {conf.data.name}")
    print(f"coins dealt {totals.coins:,}, {more:.1%} more than are charged for")
    print(f"to the second party {totals.words / 1e6:.1f} MB; shown {totals.shown / 1e6:.2f} MB")
    print(
        f"CPU s: dealer {totals.dealer:.2f}, first {totals.first:.2f}, second {totals.second:.2f}"
    )
    print(f"of these, for coins to be verified: {totals.verified:.2f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
