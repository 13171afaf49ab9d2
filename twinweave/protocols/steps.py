"""The server's part of a protocol as a coroutine: it yields questions and is sent the answers.

So a protocol's order of messages stands in one function, beside the parties' steps, and whoever
drives it (a Flower Strategy, a test) only carries messages.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Question:
    """One phase: a request for each party that is asked, and the class of their replies."""

    phase: str
    requests: Mapping[str, Any] = field(repr=False)
    reply: type[Any]


Steps = Generator[Question, dict[str, Any], Result]
"""Yields a Question, is sent {party: reply} from every party asked, returns its result."""
