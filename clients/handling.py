"""Between Flower and the phase functions: decode, answer a repeat as before, call, encode.

An AppError leaves as its name and text; any other failure leaves as its type alone, because
its text could quote a cell. The party's own log keeps the rest.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from flwr.app import Context, Message

from clients.party import Party, Session
from clients.site import Site, load_site, site_path
from strategies import records
from twinweave.errors import AppError, InternalError, ProtocolError
from twinweave.protocols import wire
from twinweave.protocols.messages import ErrorReply

Phase = Callable[[Any, Any], tuple[Any, Session | None]]
log = logging.getLogger("twinweave.party")

_SITE = "site"
_COUNTERS = ("hop", "round", "step")  # of requests that a phase sends several times in a run
KEPT = 24 * 3600.0
"""Seconds after the last answer of a run for which a party still repeats its answers."""


def begin(
    message: Message, context: Context, asked: type[Any], given: type[Any], phase: Phase
) -> Message:
    """Answer the first message of a run: find the site file, start a session."""

    def act() -> Any:
        request = records.unpack(asked, message.content)
        path = site_path(context.node_config, request.sites)
        if path is None:
            return phase(request, None)[0]
        site = load_site(path)
        held = _held(context)
        forget(site, request.run)
        same = held if held is not None and held.run == request.run else None
        return _answer(
            message, context, path, site, same, request, given, lambda: phase(request, site)
        )

    return _reply(message, act)


def go_on(
    message: Message, context: Context, asked: type[Any], given: type[Any], phase: Phase
) -> Message:
    """Answer a later message of a run that `begin` started at this node."""

    def act() -> Any:
        request = records.unpack(asked, message.content)
        path, session = _recall(context, request.run)
        site = load_site(path)
        party = Party(site, session)
        return _answer(
            message, context, path, site, session, request, given, lambda: phase(request, party)
        )

    return _reply(message, act)


def _answer(
    message: Message,
    context: Context,
    path: Path,
    site: Site,
    held: Session | None,
    request: Any,
    given: type[Any],
    compute: Callable[[], tuple[Any, Session | None]],
) -> Any:
    """The stored reply to a repeat, or a new one. held: this run's session so far."""
    answered = held.answered if held else 0
    with Named(site):
        store = Replies(site, message.metadata.message_type, request)
        if (stored := store.read(given)) is None:
            started = time.perf_counter()
            reply, session = compute()
            assert session is not None
            stored = store.write(reply, replace(session, answered=answered + 1))
            log.debug("%s: %.2f s", message.metadata.message_type, time.perf_counter() - started)
    # A late repeat of an earlier request must not take the party back to where it was then.
    if stored[1].answered > answered:
        context.state = records.pack(stored[1])
        context.state[_SITE] = records.text(str(path))
    return stored[0]


def _recall(context: Context, run: str) -> tuple[Path, Session]:
    session = _held(context)
    if session is None:
        raise ProtocolError("this party has not been set up for the run. Start a new run.")
    if session.run != run:
        raise ProtocolError("the message is of another run. Start a new run.")
    return Path(records.read_text(context.state[_SITE])), session


def _held(context: Context) -> Session | None:
    """The session in this node's context, of whatever run."""
    if _SITE not in context.state:
        return None
    state = dict(context.state)
    del state[_SITE]
    return records.unpack(Session, records.as_records(state))


class Replies:
    """Replies already given, in the party's own folder, by (run, phase, attempt).

    A repeat of a request gets the stored reply; another request under the same name is
    refused: answering it could release the same data under fresh noise for free.
    """

    def __init__(self, site: Site, phase: str, request: Any) -> None:
        counters = [str(getattr(request, n)) for n in _COUNTERS if hasattr(request, n)]
        name = "-".join((phase, *counters, str(request.attempt)))
        self._folder = replies_of(site, request.run) / name
        self._digest = hashlib.sha256(wire.to_bytes(request)).hexdigest()

    def read(self, given: type[Any]) -> tuple[Any, Session] | None:
        if not (self._folder / "digest").exists():
            return None
        if (self._folder / "digest").read_text() != self._digest:
            raise ProtocolError("another request was answered under this run, phase and attempt.")
        return (
            wire.from_bytes(given, (self._folder / "reply").read_bytes()),
            wire.from_bytes(Session, (self._folder / "session").read_bytes()),
        )

    def write(self, reply: Any, session: Session) -> tuple[Any, Session]:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (self._folder / "reply").write_bytes(wire.to_bytes(reply))
        (self._folder / "session").write_bytes(wire.to_bytes(session))
        (self._folder / "digest").write_text(self._digest)  # last: it says the rest is whole
        return reply, session


def replies_of(site: Site, run: str) -> Path:
    """The folder of a run's replies. run: comes from outside, so its hash names the folder."""
    return Path(site.work) / "replies" / hashlib.sha256(run.encode()).hexdigest()[:16]


def forget(site: Site, run: str) -> None:
    """Delete replies, and with them the session secrets, of runs silent for longer than KEPT.

    Not of `run`, the one that begins. A repeat that comes later still gets no second release:
    the guard remembers what it was charged for.
    """
    current = replies_of(site, run)
    for folder in current.parent.glob("*"):
        with suppress(FileNotFoundError):  # another run that begins forgets as well
            # A folder's time is that of its last reply: each is a new folder inside.
            if folder != current and folder.stat().st_mtime < time.time() - KEPT:
                shutil.rmtree(folder, ignore_errors=True)


class Named:
    """Puts the party's name in front of every AppError, and hides any other failure."""

    def __init__(self, site: Site) -> None:
        self._party = site.party

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, AppError):
            raise error.at(self._party) from None
        if isinstance(error, Exception):
            log.exception("party %s failed", self._party)
            raise InternalError(
                f"party {self._party!r}: unexpected {type(error).__name__}. "
                "Its own log has the details."
            ) from None


def _reply(message: Message, act: Callable[[], Any]) -> Message:
    try:
        reply = act()
    except AppError as error:
        reply = ErrorReply(error=type(error).__name__, message=str(error))
    except Exception as error:  # nothing of its text may leave
        log.exception("a message could not be handled")
        reply = ErrorReply(error="InternalError", message=f"unexpected {type(error).__name__}")
    return Message(records.pack(reply), reply_to=message)
