"""The messages with which a run begins, and how an error travels."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class SetupRequest:
    """spec: canonical JSON of the RunSpec. sites: folder of site files (simulation), or ""."""

    run: str
    spec: str
    sites: str


@dataclass(frozen=True, kw_only=True)
class SetupReply:
    """hello: the party's signed key as text, "" from a node that plays no party in this run.

    guard: "on" or "off", as the party's own configuration says.
    """

    hello: str
    guard: str


@dataclass(frozen=True, kw_only=True)
class ErrorReply:
    """An AppError's class name and text, which name a rule and never a cell's value."""

    error: str
    message: str
