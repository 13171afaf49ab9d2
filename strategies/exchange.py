"""One question to the parties and its counted answers: timeouts, repeats, typed errors."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from flwr.app import Message
from flwr.serverapp import Grid

from strategies import records
from twinweave.errors import RunError

Reply = TypeVar("Reply")
log = logging.getLogger("twinweave.run")


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """Sends a phase's messages and returns exactly one valid reply from every addressee.

    timeout: seconds for each try; a lost message is repeated once, unchanged, and the party
    answers a repeat as it answered first. seen: called with every reply (for transcripts).
    """

    grid: Grid
    timeout: float
    seen: Callable[[str, Message], None] | None = field(default=None, repr=False)

    def ask(
        self,
        phase: str,
        requests: Mapping[int, Any],
        reply_type: type[Reply],
        *,
        timeout: float | None = None,
        names: Mapping[int, str] | None = None,
    ) -> dict[int, Reply]:
        """requests and replies by node id. Raises the party's own AppError, or RunError."""
        started = time.perf_counter()
        waiting = dict(requests)
        replies: dict[int, Reply] = {}
        for _ in range(2):
            for message in self._send(phase, waiting, timeout or self.timeout):
                node = message.metadata.src_node_id
                if self.seen is not None:
                    self.seen(phase, message)
                if message.has_error():
                    name = _called(node, names)
                    raise RunError(f"{phase}: {name} failed in Flower: {message.error.reason}")
                if node in waiting:
                    replies[node] = records.unpack(reply_type, message.content)
                    del waiting[node]
            if not waiting:
                log.info("%-18s %d answers in %.1f s", phase, len(replies), _since(started))
                return replies
            log.warning("%s: %d of %d have not answered; asking again",
                        phase, len(waiting), len(requests))  # fmt: skip
        missing = ", ".join(_called(node, names) for node in waiting)
        raise RunError(
            f"{phase}: no answer from {missing} within {timeout or self.timeout:.0f} s, twice. "
            "Check that its SuperNode runs, or raise protocol.timeout."
        )

    def _send(self, phase: str, requests: Mapping[int, Any], timeout: float) -> list[Message]:
        messages = [
            Message(
                records.pack(request),
                dst_node_id=node,
                message_type=phase,
                group_id=phase,
                ttl=2 * timeout,
            )
            for node, request in requests.items()
        ]
        return list(self.grid.send_and_receive(messages, timeout=timeout))


def _called(node: int, names: Mapping[int, str] | None) -> str:
    return repr(names[node]) if names and node in names else f"node {node}"


def _since(started: float) -> float:
    return time.perf_counter() - started
