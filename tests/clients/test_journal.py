"""A party's record of a run: the same request gets the same bytes, another one is refused."""

from __future__ import annotations

import errno
import os
import stat
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clients import journal
from clients.handling import named
from clients.journal import Journal
from tests.messages import MatchReply, MatchRequest, OpenReply, OpenRequest
from twinweave.errors import BudgetError, ColumnError, InternalError, OutputError, ProtocolError
from twinweave.privacy.guard import GuardConf
from twinweave.protocols import wire
from twinweave.protocols.alignment.party import Aligned
from twinweave.protocols.party import Introduced, Joined
from twinweave.site import Site
from twinweave.tables.column import Column, Kind, Role
from twinweave.tables.sources import Source, SourceKind

ASKED = MatchRequest(run="r", hop=1, sealed={"a": b"x"})
REPLY = MatchReply(
    sealed={"b": b"\0y"},
    tags={"a": np.arange(64, dtype=np.uint8).reshape(2, 32)},
    noise=np.array([-3], dtype=np.int64),
)
JOINED = Joined(run="r", spec="{}", secret=b"s" * 32, rows=3, fingerprint="f", contents="c")
STATE = Aligned(
    introduced=Introduced(joined=JOINED, hellos={"b/x.y": "{}"}), order=np.arange(3, dtype=np.int64)
)
MATCH = "query.match"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(
        party="a",
        dataset="a table",
        columns=(Column(name="id", kind=Kind.CATEGORICAL, role=Role.KEY),),
        source=Source(kind=SourceKind.CSV, path="x.csv"),
        identity="x",
        pins={},
        guard=GuardConf(mode="off"),
        work=str(tmp_path / "work"),
    )


def record(site: Site, run: str = "r") -> Journal:
    """A new record of the run with one answer in it."""
    found = Journal(site, run)
    with found.locked():
        found.write(MATCH, replace(ASKED, run=run), REPLY, STATE)
    return found


def test_a_stored_reply_comes_back_and_so_does_the_state(site: Site) -> None:
    assert Journal(site, "r").state() is None
    assert Journal(site, "r").answered(MATCH, ASKED, MatchReply) is None
    record(site)
    reply = Journal(site, "r").answered(MATCH, ASKED, MatchReply)
    assert wire.to_bytes(reply) == wire.to_bytes(REPLY)
    assert wire.to_bytes(Journal(site, "r").state()) == wire.to_bytes(STATE)


@pytest.mark.attack("shared")
def test_other_names_have_other_replies(site: Site) -> None:
    found = record(site)
    assert found.answered(MATCH, replace(ASKED, hop=2), MatchReply) is None
    assert found.answered("query.share", ASKED, MatchReply) is None
    assert Journal(site, "s").answered(MATCH, replace(ASKED, run="s"), MatchReply) is None
    other = Journal(replace(site, party="b"), "r")  # two nodes may share one work folder
    assert other.answered(MATCH, ASKED, MatchReply) is None


@pytest.mark.parametrize("change", [{"hop": 2}, {"step": 1}])
def test_every_counter_of_a_request_is_in_its_name(site: Site, change: dict[str, Any]) -> None:
    """Tables may be opened in two hops of two passes: four replies of one phase."""
    asked = OpenRequest(run="r", step=0, hop=1, sealed={}, corrections={}, coin_words={})
    found = record(site)
    found.write("query.open", asked, OpenReply(shares={}, sealed={}, dealt={}), STATE)
    assert found.answered("query.open", replace(asked, **change), OpenReply) is None
    assert found.answered("query.open", asked, OpenReply) is not None


@pytest.mark.attack("secrets")
def test_only_the_last_state_and_its_secrets_stay(site: Site) -> None:
    found = record(site)
    found.write(MATCH, replace(ASKED, hop=2), REPLY, JOINED)
    assert isinstance(found.state(), Joined)
    assert len(list(found.folder.glob("*/state"))) == 1


@pytest.mark.attack("secrets")
def test_a_run_that_begins_forgets_the_secrets_of_old_ones(site: Site) -> None:
    records = {run: record(site, run) for run in ("old", "silent since", "current")}
    long_ago = time.time() - journal.KEPT - 60
    for run in ("old", "current"):
        for answer in records[run].folder.glob("[0-9]*-*"):
            os.utime(answer, (long_ago, long_ago))
    journal.forget(site, "current")
    assert [r.state() is not None for r in records.values()] == [False, True, True]
    # A new answer keeps a run for another day.
    records["current"].write(MATCH, replace(ASKED, run="current", hop=2), REPLY, STATE)
    journal.forget(site, "next")
    assert records["current"].folder.exists()


def test_another_request_under_the_same_name_is_refused(site: Site) -> None:
    found = record(site)
    found.claim(MATCH, ASKED)
    found.claim(MATCH, ASKED)
    with pytest.raises(ProtocolError, match="another request"):
        found.claim(MATCH, replace(ASKED, sealed={"a": b"z"}))


@pytest.mark.attack("again", "ckks")
def test_of_two_requests_the_first_counts_even_if_it_was_refused(site: Site) -> None:
    """Or many refusals would tell what one answer does not."""
    Journal(site, "r").folder.mkdir(parents=True)
    Journal(site, "r").claim(MATCH, ASKED)
    with pytest.raises(ProtocolError, match="another request"):
        Journal(site, "r").claim(MATCH, replace(ASKED, sealed={}))


def test_an_answer_cut_short_by_a_crash_does_not_count(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = record(site)
    monkeypatch.setattr(Path, "replace", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        found.write(MATCH, replace(ASKED, hop=2), REPLY, JOINED)
    assert found.answered(MATCH, replace(ASKED, hop=2), MatchReply) is None
    assert isinstance(found.state(), Aligned)


def test_an_error_that_is_an_answer_is_repeated(site: Site) -> None:
    found = record(site)
    found.fail("query.share", ASKED, BudgetError("party 'a': no budget. Ask for less."))
    for _ in range(2):
        with pytest.raises(BudgetError, match="party 'a': no budget"):
            found.answered("query.share", ASKED, MatchReply)
    assert found.answered(MATCH, ASKED, MatchReply) is not None


def test_a_full_disk_is_named(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    found = record(site)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "cell 4711")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="the disk is full: reply could not be written") as told:
        found.write(MATCH, replace(ASKED, hop=2), REPLY, JOINED)
    assert "4711" not in str(told.value)
    assert found.answered(MATCH, replace(ASKED, hop=2), MatchReply) is None


def test_run_names_from_outside_cannot_leave_the_folder(site: Site, tmp_path: Path) -> None:
    assert (tmp_path / "work") in record(site, "../../../etc/x").folder.parents


@pytest.mark.attack("files")
def test_only_the_owner_can_read(site: Site) -> None:
    found = record(site).folder
    assert stat.S_IMODE(found.stat().st_mode) == 0o700
    for path in found.rglob("*"):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path


@pytest.mark.attack("errors")
def test_errors_leave_with_the_partys_name_and_without_a_cause(site: Site) -> None:
    with pytest.raises(ColumnError) as known, named(site):
        raise ColumnError("x", "a rule", "A remedy.") from ValueError("cell 4711")
    assert str(known.value) == "party 'a': column 'x': a rule. A remedy."
    assert known.value.__cause__ is None
    with pytest.raises(InternalError) as other, named(site):
        raise ValueError("cell 4711")
    assert "4711" not in str(other.value)
    assert "ValueError" in str(other.value)
