"""What a browser and a reader of the screen make of a page: parsed by the standard library."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise

VOID = {"meta", "link", "br", "input", "hr", "img"}


@dataclass
class Document(HTMLParser):
    """Every element with its attributes in order; what is not well formed, in `faults`."""

    elements: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    text: str = ""
    _open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    @classmethod
    def of(cls, html: str) -> Document:
        found = cls()
        found.feed(html)
        found.close()
        found.faults += [f"<{name}> is not closed" for name in found._open]
        found.faults += found.unreadable()
        return found

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {k: v or "" for k, v in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.faults.append(f"</{tag}> closes nothing")

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.text += data

    def named(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def anchors(self) -> list[str]:
        return [a["id"] for _, a in self.elements if "id" in a]

    def unreadable(self) -> Iterator[str]:
        """What someone who does not see the page, or is offline, would miss."""
        for svg in self.named("svg"):
            if svg.get("role") != "img" or not svg.get("aria-label"):
                yield "a picture without words"
        for name, attributes in self.elements:
            if name == "script" or any(key.startswith("on") for key in attributes):
                yield "a script"
            for key in ("src", "href"):
                if not attributes.get(key, "#").startswith(("#", "data:,")):
                    yield f"needs {attributes[key]}"
        if any("scope" not in th for th in self.named("th")):
            yield "a table's heading without its scope"
        levels = [int(n[1]) for n, _ in self.elements if n in ("h1", "h2", "h3", "h4")]
        if levels[:1] != [1] or levels.count(1) != 1:
            yield "not one first heading"
        if any(after > before + 1 for before, after in pairwise(levels)):
            yield "a heading skips a level"
        if len(set(self.anchors)) != len(self.anchors):
            yield "an anchor twice"
        wanted = {a["href"][1:] for a in self.named("a")}
        wanted |= {a["aria-labelledby"] for _, a in self.elements if "aria-labelledby" in a}
        if lost := wanted - set(self.anchors):
            yield f"a link to nothing: {lost}"
