"""Runs that are killed, and go on: nothing paid for is lost, and nothing is released twice."""

from __future__ import annotations

import copy
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flwr.app import Message

import twinweave
from clients import journal
from scripts.engines.inprocess import InProcessGrid
from tests.campaigns import OFFICES, training
from tests.e2e.crashes import Killer, World, check, configured, same, without_chance, world
from tests.e2e.test_dropouts import TWO_PASSES, Vanishes, spends
from tests.source import REPOSITORY
from tests.whole_run import Deployment
from twinweave import rundir
from twinweave.checkpoint import FOLDER, Begun, Checkpoint, Round
from twinweave.config import RunConf
from twinweave.errors import OutputError, ProtocolError, RunError
from twinweave.passes import adapts
from twinweave.privacy.guard import Guard
from twinweave.protocols import party

IN_SUITE, IN_ALL = 8, 200


class Case:
    """A seed's crashes: one or two points, at everybody or at a party, with chance or without.

    The first is at another point for every seed.
    """

    def __init__(self, seed: int, points: int) -> None:
        assert points >= IN_ALL, "some would be killed at the same point"
        order = random.Random(0).sample(range(1, points + 1), points)
        self.points = [order[seed]]
        if seed % 4 == 0:
            self.points.append(random.Random(seed).randrange(1, points + 1))
        self.party = seed % 3 == 0
        self.fixed = seed % 2 == 0

    def chance(self) -> AbstractContextManager[None]:
        return without_chance() if self.fixed else nullcontext()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return configured(tmp_path_factory.mktemp("crashes"))


@pytest.fixture(scope="module")
def whole(data: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[World, int]:
    """The run that nobody kills, and how many points it comes by."""
    lived, killer = world(data, tmp_path_factory.mktemp("whole") / "out"), Killer()
    with without_chance():
        assert lived.live(killer)
    return lived, killer.count


def crashed(data: dict[str, Any], out: Path, case: Case) -> World:
    """A run that is killed at the case's points, and then goes on to its end."""
    lived = world(data, out)
    with case.chance():
        for point in (*case.points, 0):
            if not finished(lived):
                lived.live(Killer(at=point, party=case.party))
    # Where it was killed between its last word and its last deletion, this deletes the rest.
    with pytest.raises(OutputError, match="is finished"):
        lived.live(Killer())
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


@pytest.mark.attack("record")
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


def test_the_last_point_too(data: dict[str, Any], tmp_path: Path, whole: tuple[World, int]) -> None:
    """Killed once it said that it is finished: what it kept to go on with goes all the same."""
    case = Case(0, whole[1])
    case.points, case.party = [whole[1]], False
    check(crashed(data, tmp_path / "out", case), whole[0])


def test_every_seed_kills_at_another_point(whole: tuple[World, int]) -> None:
    assert len({Case(seed, whole[1]).points[0] for seed in range(IN_ALL)}) == IN_ALL


@pytest.mark.parametrize("files", [30, 90, 130])
def test_a_full_disk_is_named_and_the_run_goes_on_when_there_is_space(
    data: dict[str, Any], tmp_path: Path, whole: tuple[World, int], files: int
) -> None:
    lived = world(data, tmp_path / "out")
    with pytest.raises(OutputError, match="the disk is full"):
        lived.live(Killer(), full=files)
    # Its last word could not be written.
    assert twinweave.load(lived.out).status == "died"
    assert lived.live(Killer())
    check(lived, whole[0])


@pytest.mark.attack("record")
@pytest.mark.parametrize("phase", ["query.agree", "train.generator"])
def test_a_run_of_two_passes_goes_on(tmp_path: Path, phase: str) -> None:
    """With the second plan, and the clip, that it had."""
    users = "data.parties.0.source.campaign.users=300"
    loud = "privacy.epsilon=40", "data.lift.clip.spend=auto"
    data = configured(tmp_path, users, *loud)
    whole, lived = (world(data, tmp_path / name) for name in ("whole", "lived"))
    with without_chance():
        assert whole.live(Killer())
        assert killed_before(lived, phase).live(Killer())
    check(lived, whole)
    same(lived, whole)
    (value,) = twinweave.load(lived.out).report["lift"]["values"]
    assert 0 < value["clipped_to"][1] < 400


# --- what the checks above must catch ------------------------------------------------------


@pytest.fixture
def cut(data: dict[str, Any], tmp_path: Path) -> World:
    """A run that was killed when all tables were shared and none across was opened."""
    return killed_before(world(data, tmp_path / "out"), "query.open")


def killed_before(lived: World, phase: str) -> World:
    """Kill the run before the first message of a phase is sent."""

    class Before(Killer):
        def point(self, name: str) -> None:
            self.dead = self.dead or name.startswith(phase)
            super().point(name)

    assert not lived.live(Before())
    return lived


@pytest.mark.broken("record")
def test_a_resume_that_asks_anew_is_caught(
    cut: World, whole: tuple[World, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that forgets which run it is: the parties pay twice, and release twice."""
    last = Checkpoint.last
    anew = lambda self, kind: None if kind is Begun else last(self, kind)  # noqa: E731
    with monkeypatch.context() as broken:
        broken.setattr(Checkpoint, "last", anew)
        assert cut.live(Killer())
    with pytest.raises(AssertionError):
        check(cut, whole[0])


@pytest.mark.attack("record")
@pytest.mark.parametrize("phase", ["query.open", "train.generator"])
def test_a_server_that_lost_its_record_asks_for_nothing_again(
    data: dict[str, Any], tmp_path: Path, phase: str
) -> None:
    """It would be another run: paid for anew, and written over what was paid for."""
    lived = killed_before(world(data, tmp_path / "out"), phase)
    books, before = lived.books(), copy.deepcopy(lived.left)
    shutil.rmtree(lived.out / FOLDER)
    with pytest.raises(OutputError, match="is not there any more"):
        lived.live(Killer())
    assert (lived.books(), lived.left) == (books, before)


def forget(lived: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """Both parties lose their records of the run; their guards' books stay.

    At setup they would find that the run does not fit in its budget again. That is taken away.
    """
    for runs in lived.out.glob("parties/*/runs"):
        shutil.rmtree(runs)
    monkeypatch.setattr(Guard, "check", lambda *_, **__: None)
    return lived


@pytest.mark.attack("record")
def test_parties_that_lost_their_records_release_nothing_again(
    cut: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A charge is for one answer of one record: with the record gone, it pays for nothing."""
    books, left = cut.books(), copy.deepcopy(cut.left)
    forget(cut, monkeypatch)
    for _ in range(2):  # nor if asked again
        with pytest.raises(ProtocolError, match="granted before for another request"):
            cut.live(Killer())
    assert cut.books() == books
    released = [what for what in cut.left if what[1].startswith("query.share")]
    assert all(cut.left[what] == left[what] for what in released)


@pytest.mark.broken("record")
def test_a_charge_that_any_record_may_use_is_caught(
    data: dict[str, Any],
    tmp_path: Path,
    whole: tuple[World, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Were it bound to the run alone, lost records would give a second release under it."""

    def of_the_run(_: bytes, *purpose: str) -> bytes:
        return sha256(repr(purpose[:2]).encode()).digest()

    monkeypatch.setattr(party, "hkdf", of_the_run)
    lived = forget(killed_before(world(data, tmp_path / "out"), "query.open"), monkeypatch)
    assert lived.live(Killer())
    with pytest.raises(AssertionError, match=r"two releases for one charge.*query\.share"):
        check(lived, whole[0])


def set_back(data: dict[str, Any], out: Path) -> World:
    """Both parties' records of a run are as before the tables were shared: a backup was put back.

    Their guards' books are not.
    """
    lived = killed_before(world(data, out), "query.share")
    for runs in lived.out.glob("parties/*/runs"):
        shutil.copytree(runs, runs.with_name("old"))
    killed_before(lived, "query.open")
    for runs in lived.out.glob("parties/*/runs"):
        shutil.rmtree(runs)
        runs.with_name("old").rename(runs)
    return lived


@pytest.mark.attack("record")
def test_parties_whose_records_were_set_back_release_nothing_again(
    data: dict[str, Any], tmp_path: Path
) -> None:
    lived = set_back(data, tmp_path / "out")
    books, before = lived.books(), copy.deepcopy(lived.left)
    with pytest.raises(ProtocolError, match="granted before for another request"):
        lived.live(Killer())
    assert (lived.books(), lived.left) == (books, before)


@pytest.mark.broken("record")
def test_a_charge_without_a_mark_is_caught(
    data: dict[str, Any],
    tmp_path: Path,
    whole: tuple[World, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Were it bound to the record's secret alone, one that was set back would use it again."""
    monkeypatch.setattr(journal, "secrets", SimpleNamespace(token_hex=lambda _: ""))
    lived = set_back(data, tmp_path / "out")
    assert lived.live(Killer())
    with pytest.raises(AssertionError, match=r"two releases for one charge.*query\.share"):
        check(lived, whole[0])


# --- a training that fails -----------------------------------------------------------------


def test_a_training_that_diverges_keeps_the_measurement(
    data: dict[str, Any], tmp_path: Path
) -> None:
    generator = data["generator"] | {"learning_rate": 100.0, "local_steps": 40}
    lived = world(data | {"generator": generator}, tmp_path / "out")
    books = None
    for _ in range(2):  # the second time from the parties' records: nothing is drawn again
        assert not lived.live(Killer())
        run = twinweave.load(lived.out)
        assert run.status == "failed"
        told = json.loads((lived.out / rundir.STATUS).read_text())["error"]
        assert "the training diverged" in told
        assert "Lower generator.learning_rate" in told
        assert f"End the run without synthetic tables: resume={lived.out} generator=none" in told
        assert run.report["synthetic"] is None
        assert len(run.measurements) == run.report["measured"]["tables"]
        assert books in (None, lived.books())
        books = lived.books()
    assert lived.live(Killer(), generator=None)
    assert run.status == "finished"
    phases = {phase for rows in lived.books().values() for phase, _ in rows}
    assert phases == {"query.match", "query.open", "query.share", "train.generator/0"}
    events = twinweave.load(lived.out).ledger["events"]
    assert [e["mechanism"]["steps"] for e in events if e["stage"] == "training"] == [40, 40]


def test_tables_in_two_passes_are_kept_without_their_generator(tmp_path: Path) -> None:
    """Their second pass was planned with the generator: as it began, not as the run goes on."""
    data = configured(tmp_path, "workload.pairs=true")
    diverging = data["generator"] | {"learning_rate": 100.0, "local_steps": 40}
    lived = world(data | {"generator": diverging}, tmp_path / "out")
    assert not lived.live(Killer())
    assert adapts(RunConf.parse(lived.data))
    before = twinweave.load(lived.out).report["lift"]
    assert lived.live(Killer(), generator=None)
    after = twinweave.load(lived.out)
    assert after.status == "finished"
    assert after.report["lift"] == before


class Gone(Vanishes):
    """Three of five vanish in the second round."""

    phase, nodes, from_message = "train.generator", (1, 3, 4), 2


def test_a_training_that_parties_left_goes_on_when_they_are_back(tmp_path: Path) -> None:
    deployment = Deployment(training(tmp_path, rounds=3), tmp_path)
    out = Path(deployment.data["output"])
    out.mkdir()
    deployment.kept = kept = Checkpoint.at(out)
    with pytest.raises(RunError, match=r"train.generator: no answer from 'office0', 'office2'"):
        deployment.start(Gone)
    before, done = kept.last(Round), len(deployment.messages)
    assert before is not None
    assert before.number == 1
    deployment.kept = Checkpoint.at(out)  # as another process finds it
    ran = deployment.start()
    assert ran.findings.weights is not None
    rounds = [f"train.generator/{r}" for r in range(3)]
    spent = [*TWO_PASSES, *rounds]
    assert spends(deployment) == dict.fromkeys(OFFICES, spent)
    kinds = [message.metadata.message_type for message in deployment.messages[done:]]
    assert set(kinds) == {"query.setup", "train.generator", "train.reveal"}
    # With all rounds done, no party is needed at all.
    alone = deployment.start(Nobody)
    assert ran.findings.weights.tobytes() == alone.findings.weights.tobytes()


class Nobody(InProcessGrid):
    def get_node_ids(self) -> list[int]:
        return []

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        raise AssertionError("a party was asked")


# --- through the command line --------------------------------------------------------------


def test_a_real_kill_is_told_and_the_command_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "scripts.run", "engine=inprocess"]
    small = ["generator=none", "data.parties.0.source.campaign.users=300", f"output={out}"]
    with subprocess.Popen([*command, *small], cwd=REPOSITORY, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(b"measuring "):
                assert twinweave.load(out).status == "running"
                process.kill()
                break
    run = twinweave.load(out)
    assert run.status == "died"
    done = subprocess.run(
        [*command, f"resume={out}"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert run.status == "finished"
    assert run.report["lift"]["conversions"]
