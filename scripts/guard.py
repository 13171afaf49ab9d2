"""What a guard's file says was spent: by party, dataset and run, and what is left.

    python -m scripts.guard FILE [--party NAME] [--dataset NAME] [--epsilon E] [--delta D]

FILE is the SQLite file of a guard, or a party's site file, whose guard, party and dataset are
then meant. Nothing is changed. The limit is that of the last charge, or of the site file, or as
given. Epsilons do not add up: each figure is composed anew.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from clients.site import load_site
from scripts.ending import command
from twinweave.errors import ConfigError
from twinweave.privacy import accountant
from twinweave.privacy.book import EVERY, Book, Spend, events_of
from twinweave.privacy.guard import Limit, path_of, room
from twinweave.report.display import shown_epsilon


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Which charges to show, and what limit to hold them against; None: as the file says."""

    path: Path
    party: str | None = None
    dataset: str | None = None
    epsilon: float | None = None
    delta: float | None = None


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0, or the error's own code."""
    for line in lines(_asked(argv)):
        print(line)
    return 0


def lines(asked: Asked) -> Iterator[str]:
    """What to print. Raises ConfigError where nothing of the kind is in the file."""
    books = _books(asked)
    if not books:
        raise ConfigError(
            str(asked.path), "holds no such charge", "Leave --party and --dataset out to see all."
        )
    for number, ((party, dataset), spends) in enumerate(books.items()):
        if number:
            yield ""
        yield from _book(f"{party} · {dataset or '(before datasets had names)'}", spends, asked)


def _books(asked: Asked) -> dict[tuple[str, str], list[Spend]]:
    """The charges of each party on each dataset; those without a dataset count for every one."""
    rows = [s for s in Book(path=asked.path).rows() if asked.party in (None, s.party)]
    keys = dict.fromkeys((s.party, s.dataset) for s in rows)
    named = {party for party, dataset in keys if dataset != EVERY}
    return {
        (party, dataset): [s for s in rows if s.party == party and s.dataset in (dataset, EVERY)]
        for party, dataset in keys
        if asked.dataset in (None, dataset) and not (dataset == EVERY and party in named)
    }


def _book(title: str, spends: Sequence[Spend], asked: Asked) -> Iterator[str]:
    limit = _limit(spends, asked)
    delta = asked.delta or (limit.delta if limit else 1e-5)
    yield f"{title}, at delta {delta:g}"
    yield f"  {'run':<10}{'first charge (UTC)':<22}{'charges':>8}{'epsilon':>10}{'in all':>10}"
    past: list[Spend] = []
    for run, group in groupby(sorted(spends, key=_order(spends)), key=lambda s: s.run):
        own = list(group)
        warned = bool(past) and past[-1].fingerprint != own[0].fingerprint
        past += own
        alone = accountant.epsilon(events_of(own), delta)
        total = accountant.epsilon(events_of(past), delta)
        began = own[0].at.replace("T", " ").partition("+")[0] or "unknown"
        yield (
            f"  {run[:8]:<10}{began:<22}{len(own):>8}{shown_epsilon(alone):>10}"
            + f"{shown_epsilon(total):>10}"
            + ("  the ids are not those of the run before" if warned else "")
        )
    if limit is None:
        yield "  no limit: the guard was off at the last charge. Give --epsilon for what is left."
        return
    left = room(events_of(spends), limit)
    spent = accountant.epsilon(events_of(spends), delta)
    yield (
        f"  spent {shown_epsilon(spent)} of {limit.epsilon:g}; "
        + (f"left: one more run of epsilon {left:.3f}" if left else "nothing is left")
    )


def _order(spends: Sequence[Spend]) -> Callable[[Spend], int]:
    """Runs by their first charge, whatever other run's charges lie between."""
    first: dict[str, int] = {}
    for number, spend in enumerate(spends):
        first.setdefault(spend.run, number)
    return lambda spend: first[spend.run]


def _limit(spends: Sequence[Spend], asked: Asked) -> Limit | None:
    last = spends[-1].limit or (None, None)
    epsilon, delta = asked.epsilon or last[0], asked.delta or last[1]
    return None if epsilon is None else Limit(epsilon=epsilon, delta=delta or 1e-5)


def _asked(argv: Sequence[str] | None) -> Asked:
    options = _arguments(argv)
    given = {k: v for k, v in vars(options).items() if v is not None}
    path = given.pop("file")
    if path.suffix not in (".yaml", ".yml"):
        return Asked(path=path, **given)
    site = load_site(path)
    told: dict[str, Any] = {"party": site.party, "dataset": site.dataset}
    if site.guard.mode == "on":
        told |= {"epsilon": site.guard.epsilon, "delta": site.guard.delta}
    return Asked(path=path_of(site.guard, site.work), **(told | given))


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("file", type=Path, help="a guard's SQLite file, or a site file (YAML)")
    parser.add_argument("--party", help="this one's charges alone")
    parser.add_argument("--dataset", help="charges on this one alone")
    parser.add_argument("--epsilon", type=float, help="limit to hold them against")
    parser.add_argument("--delta", type=float, help="of every figure")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
