"""One question and its counted answers, over a Grid that misbehaves."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from flwr.app import Error, Message

from clients.app import app
from scripts.engines.inprocess import InProcessGrid
from strategies import records
from strategies.exchange import Exchange
from tests.messages import BlindReply, ErrorReply, MatchRequest
from twinweave.errors import ColumnError, ProtocolError, RunError
from twinweave.protocols.steps import Question

ASKED = MatchRequest(run="r", hop=1, sealed={})
REQUESTS = {"a": ASKED, "b": ASKED}
NODES = {"a": 1, "b": 2}


class Scripted(InProcessGrid):
    """Answers what `script` says: by (node, try) a reply dataclass, an Error, or None: lost."""

    def __init__(self, script: Callable[..., Any]) -> None:
        super().__init__(app, 2)
        self.script = script
        self.tries = {1: 0, 2: 0}
        self.asked: list[tuple[int, MatchRequest]] = []

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        replies = []
        for message in messages:
            message.metadata.__dict__["_message_id"] = "m"
            node = message.metadata.dst_node_id
            said = self.script(node, self.tries[node])
            self.tries[node] += 1
            self.asked.append((node, records.unpack(MatchRequest, message.content)))
            if said is not None:
                content = said if isinstance(said, Error) else records.pack(said)
                replies.append(Message(content, reply_to=message))
        return replies


def ask(
    script: Callable[..., Any], grid: Scripted | None = None
) -> tuple[dict[str, BlindReply], Scripted]:
    grid = grid or Scripted(script)
    exchange = Exchange(grid=grid, timeout=5, nodes=NODES)
    question = Question(phase="query.match", requests=REQUESTS, reply=BlindReply)
    return exchange.ask(question), grid


GOOD = BlindReply(sealed={"x": b"1"})


def test_every_addressee_answers_once() -> None:
    replies, grid = ask(lambda node, tried: GOOD)
    assert {party: reply.sealed for party, reply in replies.items()} == {
        "a": GOOD.sealed,
        "b": GOOD.sealed,
    }
    assert grid.tries == {1: 1, 2: 1}


def test_only_the_silent_are_asked_again_and_with_the_same_request() -> None:
    replies, grid = ask(lambda node, tried: None if (node, tried) == (2, 0) else GOOD)
    assert set(replies) == {"a", "b"}
    assert grid.tries == {1: 1, 2: 2}
    assert [request for node, request in grid.asked if node == 2] == [ASKED, ASKED]


def test_two_silences_end_the_run() -> None:
    with pytest.raises(RunError, match=r"query\.match: no answer from 'b' within 5 s, twice"):
        ask(lambda node, tried: None if node == 2 else GOOD)


def test_a_partys_own_error_is_raised_as_it_was() -> None:
    said = ErrorReply(error="ColumnError", message="party 'b': column 'x': a rule. A remedy.")
    with pytest.raises(ColumnError, match="party 'b': column 'x': a rule"):
        ask(lambda node, tried: said if node == 2 else GOOD)


def test_an_unknown_error_is_a_protocol_error() -> None:
    with pytest.raises(ProtocolError, match="something"):
        ask(lambda node, tried: ErrorReply(error="SystemExit", message="something new."))


def test_flowers_own_failures_name_the_party() -> None:
    with pytest.raises(RunError, match="'a' failed in Flower"):
        ask(lambda node, tried: Error(code=0, reason="crashed") if node == 1 else GOOD)


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ((2,), r"query\.match: 'mill' failed in Flower: crashed"),
        ((1, 2), r"query\.match: 'shop', 'mill' failed in Flower: crashed"),
    ],
)
def test_a_failure_before_names_are_told_names_the_party(lost: tuple[int, ...], said: str) -> None:
    """The one whose name is not among the answers, whatever Flower calls its node."""
    parties = {b"1": "shop", b"2": "mill"}
    grid = Scripted(
        lambda node, tried: (
            Error(code=0, reason="crashed")
            if node in lost
            else BlindReply(sealed={"own": str(node).encode()})
        )
    )
    exchange = Exchange(
        grid=grid,
        timeout=5,
        nodes={"node 1": 1, "node 2": 2},
        unheard=lambda answers: [
            name for own, name in parties.items() if own not in [a.sealed["own"] for a in answers]
        ],
    )
    requests = dict.fromkeys(exchange.nodes, ASKED)
    with pytest.raises(RunError, match=said):
        exchange.ask(Question(phase="query.match", requests=requests, reply=BlindReply))


def test_a_reply_of_another_kind_is_refused() -> None:
    with pytest.raises(ProtocolError):
        ask(lambda node, tried: ASKED)
