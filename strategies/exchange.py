"""One question to the parties and its counted answers: timeouts, repeats, typed errors."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from flwr.app import Message
from flwr.serverapp import Grid

from strategies import records
from twinweave.errors import RunError
from twinweave.protocols.steps import Question, Steps

Reply = TypeVar("Reply")
Result = TypeVar("Result")
log = logging.getLogger("twinweave.run")


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """Sends a phase's messages and returns exactly one valid reply from every addressee.

    timeout: seconds for each try; a lost message is repeated once, unchanged, and the party
    answers a repeat as it answered first. names: of the parties, by node id.
    """

    grid: Grid
    timeout: float
    names: Mapping[int, str]

    def called(self, node: int) -> str:
        return repr(self.names[node]) if node in self.names else f"node {node}"

    def ask(
        self,
        phase: str,
        requests: Mapping[int, Any],
        reply_type: type[Reply],
        *,
        least: int | None = None,
    ) -> dict[int, Reply]:
        """requests and replies by node id. Raises the party's own AppError, or RunError.

        least: see `settle`.
        """
        first = self.grid.send_and_receive(self.messages(phase, requests), timeout=self.timeout)
        return self.settle(phase, requests, reply_type, first, least=least)

    def messages(self, phase: str, requests: Mapping[int, Any]) -> list[Message]:
        """The requests as Flower messages, ready to send."""
        return [
            Message(
                records.pack(request),
                dst_node_id=node,
                message_type=phase,
                group_id=phase,
                ttl=2 * self.timeout,
            )
            for node, request in requests.items()
        ]

    def settle(
        self,
        phase: str,
        requests: Mapping[int, Any],
        reply_type: type[Reply],
        first: Iterable[Message],
        *,
        least: int | None = None,
    ) -> dict[int, Reply]:
        """One reply from every addressee: out of the first try's, and of one repetition.

        least: so many replies are enough, for what can go on without the others; None: all.
        """
        started = time.perf_counter()
        waiting = dict(requests)
        enough = len(requests) if least is None else least
        lenient = enough < len(requests)
        replies = self._sort(phase, waiting, reply_type, first, lenient=lenient)
        if waiting:
            log.warning(
                "%s: %d of %d have not answered; asking again", phase, len(waiting), len(requests)
            )
            messages = self.messages(phase, waiting)
            again = self.grid.send_and_receive(messages, timeout=self.timeout)
            replies |= self._sort(phase, waiting, reply_type, again, lenient=lenient)
        if len(replies) < enough:
            missing = ", ".join(map(self.called, waiting))
            raise RunError(
                f"{phase}: no answer from {missing} within {self.timeout:.0f} s, "
                "twice. Check that its SuperNode runs, or raise protocol.timeout."
                + (f" At least {enough} parties must answer." if lenient else "")
            )
        log.debug("%s settled in %.1f s", phase, time.perf_counter() - started)
        return replies

    def _sort(
        self,
        phase: str,
        waiting: dict[int, Any],
        reply_type: type[Reply],
        messages: Iterable[Message],
        *,
        lenient: bool,
    ) -> dict[int, Reply]:
        """Valid replies by node; takes their nodes off `waiting`.

        lenient: a node that Flower says has failed is one that did not answer.
        """
        replies: dict[int, Reply] = {}
        for message in messages:
            node = message.metadata.src_node_id
            if message.has_error():
                if not lenient:
                    raise RunError(
                        f"{phase}: {self.called(node)} failed in Flower: {message.error.reason}"
                    )
                log.warning("%s: %s failed in Flower", phase, self.called(node))
            elif node in waiting:
                replies[node] = records.unpack(reply_type, message.content)
                del waiting[node]
        return replies


@dataclass(frozen=True, kw_only=True)
class Parties:
    """The run's parties behind an exchange. nodes: Flower node id by party."""

    exchange: Exchange
    nodes: Mapping[str, int]

    def drive(self, steps: Steps[Result]) -> Result:
        """Carry a protocol's questions to the parties and their answers back, to its end."""
        try:
            question = next(steps)
            while True:
                question = steps.send(self.ask(question))
        except StopIteration as done:
            result: Result = done.value
            return result

    def ask(self, question: Question, *, least: int | None = None) -> dict[str, Any]:
        """The answers by party: all of them, or at least so many."""
        started = time.perf_counter()
        by_node = self.by_node(question.requests)
        replies = self.exchange.ask(question.phase, by_node, question.reply, least=least)
        seconds = time.perf_counter() - started
        log.info("%-18s %d answers in %.1f s", question.phase, len(replies), seconds)
        return self.by_party(replies)

    def by_node(self, requests: Mapping[str, Any]) -> dict[int, Any]:
        return {self.nodes[party]: request for party, request in requests.items()}

    def by_party(self, replies: Mapping[int, Reply]) -> dict[str, Reply]:
        return {self.exchange.names[node]: reply for node, reply in replies.items()}
