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

Reply = TypeVar("Reply")
log = logging.getLogger("twinweave.run")


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """Sends a phase's messages and returns exactly one valid reply from every addressee.

    timeout: seconds for each try; a lost message is repeated once, unchanged, and the party
    answers a repeat as it answered first.
    """

    grid: Grid
    timeout: float

    def ask(
        self,
        phase: str,
        requests: Mapping[int, Any],
        reply_type: type[Reply],
        *,
        timeout: float | None = None,
        names: Mapping[int, str] | None = None,
        least: int | None = None,
    ) -> dict[int, Reply]:
        """requests and replies by node id. Raises the party's own AppError, or RunError.

        least: see `settle`.
        """
        messages = self.messages(phase, requests, timeout)
        first = self.grid.send_and_receive(messages, timeout=timeout or self.timeout)
        return self.settle(
            phase, requests, reply_type, first, timeout=timeout, names=names, least=least
        )

    def messages(
        self, phase: str, requests: Mapping[int, Any], timeout: float | None = None
    ) -> list[Message]:
        """The requests as Flower messages, ready to send."""
        return [
            Message(
                records.pack(request),
                dst_node_id=node,
                message_type=phase,
                group_id=phase,
                ttl=2 * (timeout or self.timeout),
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
        timeout: float | None = None,
        names: Mapping[int, str] | None = None,
        least: int | None = None,
    ) -> dict[int, Reply]:
        """One reply from every addressee: out of the first try's, and of one repetition.

        least: so many replies are enough, for what can go on without the others; None: all.
        """
        started = time.perf_counter()
        waiting = dict(requests)
        enough = len(requests) if least is None else least
        lenient = enough < len(requests)
        replies = self._sort(phase, waiting, reply_type, first, names, lenient=lenient)
        if waiting:
            log.warning(
                "%s: %d of %d have not answered; asking again", phase, len(waiting), len(requests)
            )
            messages = self.messages(phase, waiting, timeout)
            again = self.grid.send_and_receive(messages, timeout=timeout or self.timeout)
            replies |= self._sort(phase, waiting, reply_type, again, names, lenient=lenient)
        if len(replies) < enough:
            missing = ", ".join(_called(node, names) for node in waiting)
            raise RunError(
                f"{phase}: no answer from {missing} within {timeout or self.timeout:.0f} s, "
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
        names: Mapping[int, str] | None,
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
                if lenient:
                    log.warning("%s: %s failed in Flower", phase, _called(node, names))
                    continue
                raise RunError(
                    f"{phase}: {_called(node, names)} failed in Flower: {message.error.reason}"
                )
            if node in waiting:
                replies[node] = records.unpack(reply_type, message.content)
                del waiting[node]
        return replies


def _called(node: int, names: Mapping[int, str] | None) -> str:
    return repr(names[node]) if names and node in names else f"node {node}"
