"""What a party keeps and what its errors say: with the defence, and without it."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clients import handling, journal
from clients.journal import Journal
from clients.site import load_site
from tests.campaigns import csv_mapping
from tests.e2e.test_repeats import answer
from tests.messages import MatchReply, MatchRequest
from tests.security import worlds
from tests.security.cases import FINISHED
from tests.security.deviated import deviated
from tests.security.without import without
from tests.whole_run import Deployment
from twinweave.errors import MOST_CHARACTERS, AppError, InternalError, ProtocolError
from twinweave.protocols import wire
from twinweave.protocols.channel import party as setup
from twinweave.protocols.channel.identity import Identity
from twinweave.protocols.channel.messages import SetupRequest
from twinweave.protocols.party import Finished
from twinweave.protocols.products import party as products
from twinweave.site import Site

CELL = "Zq7PLANTED7qZ"


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    few = ("workload.pairs=false", "workload.three_way=false", "protocol.alignment=prf")
    return Deployment(csv_mapping(tmp_path, *few, users=60), tmp_path)


@pytest.fixture
def site(deployment: Deployment, tmp_path: Path) -> Site:
    path = tmp_path / "one.yaml"
    path.write_text(json.dumps(deployment.sites["publisher"]))
    return load_site(path)


@pytest.mark.attack("again")
@pytest.mark.broken("again")
def test_a_refused_request_is_not_followed_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many refusals could tell what one answer does not."""

    def other(request: Any) -> Any:
        return replace(request, slots=request.slots * 0)

    world = worlds.make("two", tmp_path)
    assert deviated(world, "query.share", 0, other).errors == ["ProtocolError"] * 2
    without(monkeypatch, Journal.claim, "earlier != asked")
    found = deviated(world, "query.share", 0, other)
    assert (found.errors, found.end) == (["ProtocolError"], FINISHED)


# --- what it keeps -----------------------------------------------------------------------


NONE = np.zeros(0, np.int64)


def kept(site: Site) -> Journal:
    """A record with one answer."""
    found = Journal(site, "r")
    reply = MatchReply(sealed={"b": b"y"}, tags={"a": np.zeros((2, 32), np.uint8)}, noise=NONE)
    with found.locked():
        found.write("query.match", asked(), reply, Finished(run="r"))
    return found


def asked() -> MatchRequest:
    return MatchRequest(run="r", hop=1, sealed={})


def readable_by_others(site: Site) -> list[Path]:
    files = kept(site).folder.rglob("*")
    return [path for path in files if stat.S_IMODE(path.stat().st_mode) & 0o077]


@pytest.mark.attack("files")
@pytest.mark.broken("files")
def test_answers_are_the_owners_alone(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.umask(0o022)
    try:
        assert not readable_by_others(site)
        monkeypatch.setattr(journal, "_private", lambda path, flags: os.open(path, flags, 0o644))
        assert readable_by_others(replace(site, work=f"{site.work}2"))
    finally:
        os.umask(before)


@pytest.mark.attack("files")
@pytest.mark.parametrize("load", [load_site, Identity.load])
def test_an_error_names_no_folder(load: Callable[[Path], Any], tmp_path: Path) -> None:
    with pytest.raises(AppError) as caught:
        load(tmp_path / "absent.yaml")
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.attack("shared")
@pytest.mark.broken("shared")
def test_two_parties_with_one_folder(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def answers_for_another() -> bool:
        kept(site)
        other = Journal(replace(site, party="another"), "r")
        return other.answered("query.match", asked(), MatchReply) is not None

    assert not answers_for_another()
    monkeypatch.setattr(journal, "folder_of", lambda of, run: Path(of.work) / "runs" / run)
    assert answers_for_another()


@pytest.mark.attack("secrets")
@pytest.mark.broken("secrets")
def test_no_secret_stays_after_the_last_answer(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_disk() -> set[str]:
        ran = deployment.start()
        found = set()
        for name in ran.spec.parties:
            secret = ran.party(name).party.secret
            runs = Path(deployment.sites[name]["work"]) / "runs"
            if any(secret in f.read_bytes() for f in runs.rglob("*") if f.is_file()):
                found.add(name)
        return found

    assert on_disk() == set()
    without(monkeypatch, products.open_, "over and")
    assert on_disk() == set(deployment.sites)


@pytest.mark.attack("unknown")
@pytest.mark.broken("unknown")
def test_a_run_that_was_never_set_up_leaves_nothing(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server could fill the disk with folders of runs that it makes up."""
    ran = deployment.start()
    runs = Path(deployment.sites["publisher"]["work"]) / "runs"

    def left(run: str) -> bool:
        before = set(runs.rglob("*"))
        request = replace(ran.request("query.share", "publisher"), run=run)
        with pytest.raises(ProtocolError, match="has not been set up"):
            answer(ran, "query.share", "publisher", request)
        return set(runs.rglob("*")) != before

    assert not left("1" * 32)
    monkeypatch.setattr(Journal, "begun", True)
    assert left("2" * 32)


# --- what its errors say -----------------------------------------------------------------


@pytest.mark.attack("errors")
@pytest.mark.broken("errors")
def test_a_failure_that_quotes_a_cell(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In one process the server's log is the parties' too: nothing of it may be there."""

    def fails(*_: Any) -> Any:
        raise ValueError(f"could not convert {CELL}")

    @contextmanager
    def quoting(site: Site) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            raise InternalError(str(error)) from None

    monkeypatch.setattr(setup, "read_rows", fails)
    with pytest.raises(InternalError) as sound:
        deployment.start()
    assert CELL not in str(sound.value) + caplog.text
    monkeypatch.setattr(handling, "_in_words", quoting)
    with pytest.raises(InternalError, match=CELL):
        deployment.start()


@pytest.mark.attack("errors")
def test_a_text_that_travelled_is_printable_and_short() -> None:
    text = str(ProtocolError.restore("a\x1b[2J\x07\u202e" * 10_000))
    assert text.isprintable()
    assert len(text) == MOST_CHARACTERS


JUNK: dict[str, tuple[dict[str, Any], str]] = {
    "a field too many": ({"run": "r", "spec": "", "sites": "", "x": 1}, "kind is None"),
    "a field too few": ({"run": "r"}, "missing := sorted"),
}


@pytest.mark.attack("decoders")
@pytest.mark.broken("decoders")
@pytest.mark.parametrize("case", JUNK)
def test_a_message_that_does_not_fit_ends_in_an_error_with_a_name(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scalars, check = JUNK[case]
    with pytest.raises(ProtocolError):
        wire.build(SetupRequest, scalars, {})
    without(monkeypatch, wire._built, check)
    with pytest.raises((AttributeError, TypeError)):
        wire.build(SetupRequest, scalars, {})
