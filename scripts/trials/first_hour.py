"""A newcomer's first hour, recorded: from two dirty CSV files to a report, with no edit.

    python -m scripts.trials.first_hour [--folder DIR]

Writes two files whose true lift is known (scripts/trials/dirty.py), then types what the README
says: describe both, check each, run (through Flower, measurement only), run again with a
generator, load. Everything is told as it is typed, and held to the truth: the trial fails where a
command fails, where the draft misses what spoils the files, or where the true lift is outside
the interval. Seeds fix the files; the noise is fresh, so each of the two intervals misses the
truth in one of twenty trials by right. They are widened to one in ten thousand.
"""

from __future__ import annotations

import argparse
import math
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import NormalDist
from typing import Any

import twinweave
from scripts.engines.flower import REPOSITORY
from scripts.trials.dirty import ENCODINGS, Dirty, write_dirty
from scripts.trials.own_flower import own_flower

WIDER = NormalDist().inv_cdf(1 - 0.5e-4) / NormalDist().inv_cdf(0.975)
"""Times the half width of a 95 % interval: missed once in ten thousand."""

SMALL = ("workload.three_way=false",)
GENERATOR = (
    "engine=inprocess",
    "generator=tvae",
    "generator.rounds=1",
    "generator.local_steps=40",
    "privacy.shares.training=0.1",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the trial; 0 where all went as the README says."""
    assert __doc__
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, help="kept; a temporary one when not given")
    options = parser.parse_args(argv)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        first_hour((options.folder or Path(temporary)).resolve())
    print(f"first hour: as the README says, in {time.perf_counter() - started:.0f} s")
    return 0


def first_hour(folder: Path) -> None:
    """From files to a loaded run, in `folder`."""
    files = write_dirty(folder / "a folder with blanks", users=4000)
    out = folder / "conf" / "data" / "mine.yaml"
    with _newcomer(folder) as typed:
        _describe(files, out, typed)
        _check(files, out, typed)
        run: tuple[object, ...] = ("scripts.run", "--config-dir", out.parent.parent, "data=mine")
        run += ("privacy=default", "privacy.epsilon=2", "privacy.delta=1e-5", *SMALL)
        # A relative path was described, and another folder is where Flower runs.
        typed(*run, "generator=none", "workload.pairs=false", f"output={folder / 'measured'}")
        _hold(files, folder / "measured")
        typed(*run, *GENERATOR, f"output={folder / 'synthetic'}")
        _hold(files, folder / "synthetic", aside=0.1)
        _hold_synthetic(files, folder / "synthetic")


def _describe(files: Dirty, out: Path, typed: Any) -> None:
    where = files.publisher.parent
    names = (files.publisher.name, files.advertiser.name)
    parties = ("--party", "publisher", "--party", "advertiser")
    encodings = [word for name in ENCODINGS for word in ("--encoding", name)]
    said = typed("scripts.describe", *names, *parties, *encodings, "--out", out, cwd=where)
    _expect(f"{files.common:,} ids in common" in said, "describe counts the common ids")
    draft = out.read_text(encoding="utf-8")
    for told in (
        "40 rows repeat an id",  # one row in a hundred, at both
        "999 taken for missing",
        "9999 taken for missing",
        "cells say '?', taken for missing",
        "codes with leading zeros",
        "decimal ',' and thousands '.' in numbers",
        "called 'status' in the file",
        "CONFIRM role membership",
        "CONFIRM role conversion",
        "CONFIRM role value",
    ):
        _expect(told in draft, f"the draft says {told!r}")


def _check(files: Dirty, out: Path, typed: Any) -> None:
    for file, party in ((files.publisher, "publisher"), (files.advertiser, "advertiser")):
        said = typed("scripts.check", file, out, "--party", party)
        _expect("a run would take this table" in said, f"check takes the table of {party}")
    # A month later: a column has another name, arms a new level, a row no id. All is told at once.
    later = files.publisher.with_name("later.csv")
    text = files.publisher.read_bytes().replace(b";age;", b";years;", 1)
    text = re.sub(rb"\nC\d+", b"\n", text, count=1).replace(b";control\r", b";paused\r", 3)
    later.write_bytes(text)
    said = typed("scripts.check", later, out, "--party", "publisher", status=12)
    for fault in ("'age': not in the table", "1 missing", "(3 of "):
        _expect(fault in said, f"check tells {fault!r}")


def _hold(files: Dirty, out: Path, aside: float = 0.0) -> None:
    """A run's report against the truth. aside: part of the users set aside for its audit."""
    run = twinweave.load(out)
    (conversion,) = run.report["lift"]["conversions"]
    found = conversion["overall"]["absolute"]
    low, high = (found["value"] + WIDER * (end - found["value"]) for end in found["interval"])
    print(f"true lift {files.lift:+.4f}; measured {found['value']:+.4f}, {low:+.4f} to {high:+.4f}")
    _expect(low <= files.lift <= high, "the interval holds the true lift")
    _expect(conversion["overall"]["verdict"] == "lift", "a lift of this size is found")
    _expect(run.ledger["epsilon"] <= 2, "the budget is kept")
    expected = files.users * (1 - aside)
    by_chance = 5 * math.sqrt(expected * aside)
    sizes = run.report["sizes"].values()
    _expect(all(abs(n - expected) <= by_chance for n in sizes), "every user counts once")


def _hold_synthetic(files: Dirty, out: Path) -> None:
    joint = twinweave.load(out).synthetic()
    arms = joint.groupby("arm").size()
    _expect(set(arms.index) >= {"test", "control"}, "synthetic users are in the arms")
    _expect(abs(arms["test"] + arms["control"] - files.users) < files.users / 5, "and as many")


def _expect(held: bool, what: str) -> None:
    if not held:
        raise SystemExit(f"first hour: NOT as the README says: {what}")


@contextmanager
def _newcomer(folder: Path) -> Iterator[Any]:
    """A function that types a command and gives what it prints."""
    with own_flower(folder / "flower") as environment:
        environment["PYTHONPATH"] = str(REPOSITORY)

        def typed(*words: object, status: int = 0, cwd: Path = folder) -> str:
            return _type([str(word) for word in words], status, cwd, environment)

        yield typed


def _type(words: list[str], status: int, cwd: Path, environment: Mapping[str, str]) -> str:
    print(f"\n$ python -m {shlex.join(words)}", flush=True)
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    print(done.stdout, flush=True)
    _expect(done.returncode == status, f"exit status {done.returncode}, not {status}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
