"""Between Flower and a party's steps: decode, answer a repeat as before, call, encode.

An AppError leaves as its name and text; any other failure leaves as its type alone, because
its text could quote a cell. The party's own log, in its private folder, keeps the rest.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from flwr.app import Context, Message

from clients.journal import Journal, OwnLog, forget, note
from clients.site import load_site, site_path
from strategies import records
from twinweave.errors import AppError, InternalError, ProtocolError
from twinweave.progress import Note, heard_by
from twinweave.protocols.channel.messages import ErrorReply
from twinweave.protocols.party import answering
from twinweave.site import Site

Handler = Callable[[Message, Context], Message]
Step = Callable[..., tuple[Any, Any]]
log = logging.getLogger("twinweave.party")
_SITE = "site"
_NOT_SET_UP = "this party has not been set up for this run. Start anew."


def begins(asked: type[Any], spare: Any) -> Callable[[Step], Handler]:
    """Handler of a run's first message, for a step (request, site) -> (reply, state).

    It finds the site file. spare: what a node answers that plays no party.
    """

    def decorate(step: Step) -> Handler:
        def answer(message: Message, context: Context) -> Any:
            request = records.unpack_request(asked, message.content)
            path = site_path(context.node_config, request.sites)
            if path is None:
                return spare
            site = load_site(path)
            context.state[_SITE] = records.text(str(path))
            with named(site):
                forget(site, request.run)
                return _answered(message, site, request, type(spare), lambda _: step(request, site))

        return _handler(answer)

    return decorate


def handles(asked: type[Any], given: type[Any], *states: type[Any]) -> Callable[[Step], Handler]:
    """Handler of a later message, for a step (request, state, site) -> (reply, next state).

    states: the party's states in which the message may come.
    """

    def decorate(step: Step) -> Handler:
        def answer(message: Message, context: Context) -> Any:
            request = records.unpack_request(asked, message.content)
            site = load_site(site_of(context))

            def act(state: Any) -> tuple[Any, Any]:
                if state is None:
                    raise ProtocolError(_NOT_SET_UP)
                if not isinstance(state, states):
                    raise ProtocolError(
                        f"{message.metadata.message_type} comes out of its order. Start a new run."
                    )
                return step(request, state, site)

            with named(site):
                if not Journal(site, request.run).begun:  # and no folder is made for it
                    raise ProtocolError(_NOT_SET_UP)
                return _answered(message, site, request, given, act)

        return _handler(answer)

    return decorate


def site_of(context: Context) -> Path:
    """The node's site file, in a simulation as the run's first message named it."""
    if "site" in context.node_config:
        return Path(str(context.node_config["site"]))
    if _SITE not in context.state:
        raise ProtocolError("this party has not been set up for the run. Start a new run.")
    return Path(records.read_text(context.state[_SITE]))


def _answered(
    message: Message,
    site: Site,
    request: Any,
    given: type[Any],
    act: Callable[[Any], tuple[Any, Any]],
) -> Any:
    """The stored reply to a repeat, or a new one, on disk before it leaves."""
    phase, journal = message.metadata.message_type, Journal(site, request.run)
    with journal.locked():
        mark = journal.claim(phase, request)
        reply = journal.answered(phase, request, given)
        if reply is None:
            started = time.perf_counter()
            heard = Note(Path(site.work)) if site.simulated else None  # nobody else's to know
            with _final(site, journal, phase, request, mark), heard_by(heard):
                reply, state = act(journal.state())
            journal.write(phase, request, reply, state)
            log.debug("%s: %.2f s", phase, time.perf_counter() - started)
    return reply


@contextmanager
def _final(site: Site, journal: Journal, phase: str, request: Any, mark: str) -> Iterator[None]:
    """An error after the charge is the answer, for good."""
    with answering(mark) as made:
        try:
            with _in_words(site):
                yield
        except AppError as error:
            if made.charged:
                journal.fail(phase, request, error)
            raise


@contextmanager
def named(site: Site) -> Iterator[None]:
    """Put the party's name in front of every AppError, and hide any other failure.

    What is logged goes into the party's own log, and nowhere else.
    """
    own = OwnLog(site)
    log.addHandler(own)
    level, handed_on = log.level, log.propagate
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        with _in_words(site):
            yield
    finally:
        log.removeHandler(own)
        log.setLevel(level)
        log.propagate = handed_on


@contextmanager
def _in_words(site: Site) -> Iterator[None]:
    """Every error as one that may leave; what else there is to say is in the party's own log."""
    try:
        yield
    except AppError as error:
        raise error.at(site.party) from None
    except Exception as error:
        with suppress(OSError):  # where the disk is full the log cannot take it
            note(site, "".join(traceback.format_exception(error)))
        raise InternalError(
            f"party {site.party!r}: unexpected {type(error).__name__}. Its own log has the details."
        ) from None


def _handler(answer: Callable[[Message, Context], Any]) -> Handler:
    def handle(message: Message, context: Context) -> Message:
        try:
            reply = answer(message, context)
        except AppError as error:
            reply = ErrorReply(error=type(error).__name__, message=str(error))
        except Exception as error:  # nothing of its text may leave
            log.exception("a message could not be handled")
            reply = ErrorReply(error="InternalError", message=f"unexpected {type(error).__name__}")
        return Message(records.pack(reply), reply_to=message)

    return handle
