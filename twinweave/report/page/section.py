"""One part of the page. A section that a run has nothing for is None, and absent."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup


@dataclass(frozen=True, kw_only=True)
class Section:
    """name: of its anchor. title: its heading. short: as the list of contents has it."""

    name: str
    title: str
    short: str
    body: Markup
