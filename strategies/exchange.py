"""Questions to the parties and their counted answers: timeouts, repeats, typed errors."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

from flwr.app import Message
from flwr.serverapp import Grid

from strategies import records
from twinweave import progress
from twinweave.errors import RunError
from twinweave.protocols.steps import Question, Steps

Result = TypeVar("Result")
log = logging.getLogger("twinweave.run")


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """The parties of a run: takes questions to them, returns one valid answer from each.

    timeout: seconds for each try; a lost message is repeated once, unchanged, and the party
    answers a repeat as it answered first. nodes: Flower node id by party; by "node 7" and the
    like while the parties have not told their names. Then `unheard` says whose answer is not
    among those that came, so that errors name parties all the same.
    """

    grid: Grid
    timeout: float
    nodes: Mapping[str, int]
    unheard: Callable[[Sequence[Any]], Sequence[str]] | None = None

    @cached_property
    def _names(self) -> dict[int, str]:
        return {node: name for name, node in self.nodes.items()}

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
        """The answers by party. Raises the party's own AppError, or RunError.

        least: see `settle`.
        """
        started = time.perf_counter()
        if not question.phase.startswith("train."):  # those are counted in rounds
            progress.report(question.phase, asked=len(question.requests))
        replies = self.settle(question, self.send(question), least=least)
        seconds = time.perf_counter() - started
        log.debug("%-18s %d answers in %.1f s", question.phase, len(replies), seconds)
        return replies

    def send(self, question: Question) -> Iterable[Message]:
        """Whatever comes back of one try."""
        return self.grid.send_and_receive(self.messages(question), timeout=self.timeout)

    def messages(self, question: Question) -> list[Message]:
        """The requests as Flower messages, ready to send."""
        return [
            Message(
                records.pack(request),
                dst_node_id=self.nodes[name],
                message_type=question.phase,
                group_id=question.phase,
                ttl=2 * self.timeout,
            )
            for name, request in question.requests.items()
        ]

    def settle(
        self, question: Question, first: Iterable[Message], *, least: int | None = None
    ) -> dict[str, Any]:
        """One reply from every party asked: out of the first try's, and of one repetition.

        least: so many replies are enough, for what can go on without the others; None: all.
        """
        phase, waiting = question.phase, dict(question.requests)
        enough = len(waiting) if least is None else least
        lenient = enough < len(waiting)
        replies = self._sort(question, waiting, first, lenient=lenient)
        if waiting:
            told = phase, len(waiting), len(question.requests)
            log.warning("%s: %d of %d have not answered; asking again", *told)
            again = self.send(replace(question, requests=waiting))
            replies |= self._sort(question, waiting, again, lenient=lenient)
        if len(replies) < enough:
            raise RunError(
                f"{phase}: no answer from {self._called(waiting, replies)} within "
                f"{self.timeout:.0f} s, twice. Check that its SuperNode runs, or raise "
                "protocol.timeout."
                + (f" At least {enough} parties must answer." if lenient else "")
            )
        return replies

    def _called(self, names: Iterable[str], replies: Mapping[str, Any]) -> str:
        """Parties as an error names them. replies: what came from the others."""
        asked = list(names)
        if self.unheard is None:
            return ", ".join(map(repr, asked))
        who = ", ".join(map(repr, self.unheard(list(replies.values()))))
        return f"{len(asked)} of {who}" if who.count(", ") >= len(asked) else who

    def _sort(
        self,
        question: Question,
        waiting: dict[str, Any],
        messages: Iterable[Message],
        *,
        lenient: bool,
    ) -> dict[str, Any]:
        """Valid replies by party; takes the parties off `waiting`.

        lenient: a node that Flower says has failed is one that did not answer.
        """
        replies: dict[str, Any] = {}
        failed: dict[str, str] = {}
        for message in messages:
            node = message.metadata.src_node_id
            name = self._names.get(node, "")
            if message.has_error():
                failed[name] = str(message.error.reason)
            elif name in waiting:
                replies[name] = records.unpack(question.reply, message.content)
                del waiting[name]
        if failed:
            failure = f"{question.phase}: {self._called(failed, replies)} failed in Flower"
            if not lenient:
                raise RunError(f"{failure}: {', '.join(set(failed.values()))}")
            log.warning("%s", failure)
        return replies
