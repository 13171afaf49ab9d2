"""Runs that are killed, and go on: nothing paid for is lost, and nothing is released twice."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import crashes
from tests.e2e.crashes import Killer, World, check, configured, same, without_chance, world
from twinweave import checkpoint
from twinweave.checkpoint import Begun, Checkpoint

IN_SUITE, IN_ALL = 8, 200


class Case:
    """A seed's crashes: one or two points, at everybody or at a party, with chance or without."""

    def __init__(self, seed: int, points: int) -> None:
        chosen = random.Random(seed)
        self.points = [chosen.randrange(1, points + 1) for _ in range(1 + (seed % 4 == 0))]
        self.party = seed % 3 == 0
        self.fixed = seed % 2 == 0

    def chance(self) -> AbstractContextManager[None]:
        return without_chance() if self.fixed else nullcontext()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return configured(tmp_path_factory.mktemp("crashes"))


@pytest.fixture(scope="module")
def whole(
    data: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[World, int]]:
    """The run that nobody kills, and how many points it comes by."""
    lived, killer = world(data, tmp_path_factory.mktemp("whole") / "out"), Killer()
    with without_chance():
        assert lived.live(killer)
    yield lived, killer.count


def crashed(data: dict[str, Any], out: Path, case: Case) -> World:
    """A run that is killed at the case's points, and then goes on to its end."""
    lived = world(data, out)
    with case.chance():
        for point in (*case.points, 0):
            if not finished(lived):
                lived.live(Killer(at=point, party=case.party))
    return lived


def finished(lived: World) -> bool:
    path = lived.out / "status.json"
    return path.exists() and '"finished"' in path.read_text()


def holds(data: dict[str, Any], out: Path, seed: int, whole: tuple[World, int]) -> None:
    case = Case(seed, whole[1])
    lived = crashed(data, out, case)
    check(lived, whole[0])
    if case.fixed:
        same(lived, whole[0])


@pytest.mark.parametrize("seed", range(IN_SUITE))
def test_a_killed_run_goes_on(
    data: dict[str, Any], tmp_path: Path, whole: tuple[World, int], seed: int
) -> None:
    holds(data, tmp_path / "out", seed, whole)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(IN_SUITE, IN_ALL))
def test_killed_runs_go_on(
    data: dict[str, Any], tmp_path: Path, whole: tuple[World, int], seed: int
) -> None:
    holds(data, tmp_path / "out", seed, whole)
