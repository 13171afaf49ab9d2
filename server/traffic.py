"""What went between server and parties in a run: messages, bytes and seconds of every phase."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from twinweave.report.contents import PhaseTraffic


@dataclass
class _Phase:
    requests: int = 0
    answers: int = 0
    sent: int = 0
    received: int = 0
    seconds: float = 0.0


class MeteredGrid(Grid):
    """Another grid, and a count of what passes through it.

    Bytes are those of the messages' contents, before any transport packs or encrypts them.
    Seconds are the server's, from sending to the last answer that it waited for.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._phases: dict[str, _Phase] = {}

    @property
    def traffic(self) -> tuple[PhaseTraffic, ...]:
        """Of every phase so far, in the order in which they began."""
        return tuple(
            PhaseTraffic(
                phase=phase,
                requests=p.requests,
                answers=p.answers,
                bytes_sent=p.sent,
                bytes_received=p.received,
                seconds=p.seconds,
            )
            for phase, p in self._phases.items()
        )

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        asked = list(messages)
        for message in asked:
            phase = self._phase(message)
            phase.requests += 1
            phase.sent += content_bytes(message)
        started = time.perf_counter()
        answers = list(self._grid.send_and_receive(asked, timeout=timeout))
        seconds = time.perf_counter() - started
        for name in {message.metadata.message_type for message in asked}:
            self._phases[name].seconds += seconds
        for answer in answers:
            phase = self._phase(answer)
            phase.answers += 1
            phase.received += content_bytes(answer)
        return answers

    def _phase(self, message: Message) -> _Phase:
        return self._phases.setdefault(message.metadata.message_type, _Phase())

    def set_run(self, run: Any) -> None:
        self._grid.set_run(run)

    @property
    def run(self) -> Any:
        return self._grid.run

    def create_message(self, *args: Any, **kwargs: Any) -> Message:
        return self._grid.create_message(*args, **kwargs)

    def get_node_ids(self) -> Iterable[int]:
        return self._grid.get_node_ids()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return self._grid.pull_messages(message_ids)


def content_bytes(message: Message) -> int:
    """Of a message's arrays and scalars; 0 for one that carries Flower's error alone."""
    return 0 if message.has_error() else _records_bytes(message.content)


def _records_bytes(content: RecordDict) -> int:
    total = 0
    for record in content.values():
        if isinstance(record, ArrayRecord):
            total += sum(len(array.data) for array in record.values())
        elif isinstance(record, ConfigRecord):
            total += sum(_scalar_bytes(value) for value in record.values())
    return total


def _scalar_bytes(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode())
    return len(value) if isinstance(value, bytes) else 8
