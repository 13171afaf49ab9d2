"""The store of replies: the same request gets the same bytes, another one is refused."""

from __future__ import annotations

import os
import stat
import time
from dataclasses import replace

import numpy as np
import pytest

from clients import handling
from clients.handling import Named, Replies
from clients.party import Session
from clients.site import Site
from twinweave.errors import ColumnError, InternalError, ProtocolError
from twinweave.privacy.guard import GuardConf
from twinweave.protocols import wire
from twinweave.protocols.messages import MatchReply, MatchRequest, OpenReply, OpenRequest
from twinweave.tables.column import Column, Kind, Role
from twinweave.tables.sources import Source, SourceKind

ASKED = MatchRequest(run="r", attempt=0, hop=1, sealed={"a": b"x"})
REPLY = MatchReply(sealed={"b": b"\0y"}, tags={"a": np.arange(64, dtype=np.uint8).reshape(2, 32)})
SESSION = Session(run="r", spec="{}", secret=b"s" * 32, fingerprint="f", contents="c")


@pytest.fixture
def site(tmp_path):
    return Site(
        party="a",
        columns=(Column(name="id", kind=Kind.CATEGORICAL, role=Role.KEY),),
        source=Source(kind=SourceKind.CSV, path="x.csv"),
        identity="x",
        pins={},
        guard=GuardConf(mode="off"),
        work=str(tmp_path / "work"),
    )


def test_a_stored_reply_comes_back_with_its_session(site):
    assert Replies(site, "query.match", ASKED).read(MatchReply) is None
    Replies(site, "query.match", ASKED).write(REPLY, SESSION)
    reply, session = Replies(site, "query.match", ASKED).read(MatchReply)
    assert wire.to_bytes(reply) == wire.to_bytes(REPLY)
    assert wire.to_bytes(session) == wire.to_bytes(SESSION)


@pytest.mark.parametrize("change", [{"attempt": 1}, {"hop": 2}, {"run": "s"}])
def test_other_names_have_other_replies(site, change):
    Replies(site, "query.match", ASKED).write(REPLY, SESSION)
    assert Replies(site, "query.match", replace(ASKED, **change)).read(MatchReply) is None
    assert Replies(site, "query.share", ASKED).read(MatchReply) is None


@pytest.mark.parametrize("change", [{"hop": 2}, {"step": 1}])
def test_every_counter_of_a_request_is_in_its_name(site, change):
    """Tables may be opened in two hops of two passes: four replies of one phase."""
    asked = OpenRequest(
        run="r", attempt=0, step=0, hop=1, sealed={}, corrections={}, coin_seeds={}, coin_words={}
    )
    reply = OpenReply(shares={}, sealed={}, dealt={})
    Replies(site, "query.open", asked).write(reply, SESSION)
    assert Replies(site, "query.open", replace(asked, **change)).read(OpenReply) is None
    assert Replies(site, "query.open", asked).read(OpenReply) is not None


def test_a_run_that_begins_forgets_the_secrets_of_old_ones(site, tmp_path):
    runs = [replace(ASKED, run=name) for name in ("old", "silent since", "current")]
    for asked in runs:
        Replies(site, "query.match", asked).write(REPLY, replace(SESSION, run=asked.run))
    long_ago = time.time() - handling.KEPT - 60
    for name in ("old", "current"):
        os.utime(handling.replies_of(site, name), (long_ago, long_ago))
    handling.forget(site, "current")
    kept = [Replies(site, "query.match", asked).read(MatchReply) is not None for asked in runs]
    assert kept == [False, True, True]
    assert not handling.replies_of(site, "old").exists()
    # A new answer keeps a run for another day.
    os.utime(handling.replies_of(site, "current"), (long_ago, long_ago))
    Replies(site, "query.match", replace(runs[2], hop=2)).write(REPLY, SESSION)
    handling.forget(site, "next")
    assert handling.replies_of(site, "current").exists()


def test_another_request_under_the_same_name_is_refused(site):
    Replies(site, "query.match", ASKED).write(REPLY, SESSION)
    with pytest.raises(ProtocolError, match="another request"):
        Replies(site, "query.match", replace(ASKED, sealed={"a": b"z"})).read(MatchReply)


def test_a_reply_cut_short_by_a_crash_does_not_count(site):
    store = Replies(site, "query.match", ASKED)
    store.write(REPLY, SESSION)
    (store._folder / "digest").unlink()
    assert store.read(MatchReply) is None


def test_run_names_from_outside_cannot_leave_the_folder(site, tmp_path):
    store = Replies(site, "query.match", replace(ASKED, run="../../../etc/x"))
    store.write(REPLY, SESSION)
    assert (tmp_path / "work").resolve() in store._folder.resolve().parents


def test_only_the_owner_can_enter(site):
    store = Replies(site, "query.match", ASKED)
    store.write(REPLY, SESSION)
    assert stat.S_IMODE(store._folder.stat().st_mode) == 0o700


def test_errors_leave_with_the_partys_name_and_without_a_cause(site):
    with pytest.raises(ColumnError) as known, Named(site):
        raise ColumnError("x", "a rule", "A remedy.") from ValueError("cell 4711")
    assert str(known.value) == "party 'a': column 'x': a rule. A remedy."
    assert known.value.__cause__ is None
    with pytest.raises(InternalError) as other, Named(site):
        raise ValueError("cell 4711")
    assert "4711" not in str(other.value)
    assert "ValueError" in str(other.value)
