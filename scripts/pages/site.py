"""Build the documentation as a site, without network: `python -m scripts.pages.site [FOLDER]`.

Strict: a broken link or anchor, or a page that is in no menu, ends it. So does a built page that
would fetch anything (script, style, font, picture) from another host. Exit status 1 then.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
FETCHED = {
    "script": ("src",),
    "img": ("src", "srcset"),
    "link": ("href",),
    "iframe": ("src",),
    "source": ("src", "srcset"),
    "object": ("data",),
    "use": ("href", "xlink:href"),
    "image": ("href", "xlink:href"),
}
"""What a browser fetches by itself, by element and attribute; a link that is followed is none."""
NOT_FETCHED = {"canonical", "next", "prev", "alternate"}
HOST = re.compile(r"^\s*(?:https?:)?//", re.IGNORECASE)
IN_STYLE = re.compile(r"(?:url\(|@import)\s*[\"']?\s*((?:https?:)?//[^\"')\s]+)", re.IGNORECASE)


def main(argv: Sequence[str] | None = None) -> int:
    """Build; 0 for a site that is whole and fetches nothing."""
    words = list(sys.argv[1:] if argv is None else argv)
    folder = Path(words[0]) if words else REPOSITORY / "build" / "site"
    if not built(folder.resolve()):
        return 1
    found = outside(folder)
    for line in found:
        print(f"fetched from another host: {line}", file=sys.stderr)
    print(f"{len(list(folder.rglob('*.html')))} pages in {folder}")
    return 1 if found else 0


def built(folder: Path, source: Path = REPOSITORY) -> bool:
    """Whether the site of the pages of a checkout could be built; what is wrong is printed."""
    # Not --quiet: what is not logged is not counted, and strictness counts warnings.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--clean"]
    done = subprocess.run(
        [*command, "--site-dir", str(folder)],
        cwd=source,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        print(done.stdout, file=sys.stderr)
    return done.returncode == 0


def outside(folder: Path) -> list[str]:
    """`file: address` of everything that pages and styles of a site fetch from another host."""
    found = []
    for file in sorted(folder.rglob("*")):
        if file.suffix == ".html":
            addresses = fetched(file.read_text(encoding="utf-8"))
        elif file.suffix in (".css", ".svg"):
            addresses = IN_STYLE.findall(file.read_text(encoding="utf-8"))
        else:
            continue
        found += [f"{file.relative_to(folder)}: {address}" for address in addresses]
    return found


def fetched(html: str) -> list[str]:
    """The addresses on other hosts that a page fetches."""
    reader = _Reader()
    reader.feed(html)
    return reader.found


class _Reader(HTMLParser):
    """Collects in `found` what elements and styles fetch from another host."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self._style = tag == "style"
        if tag == "link" and set(given.get("rel", "").split()) & NOT_FETCHED:
            return
        self.found += [given[a] for a in FETCHED.get(tag, ()) if HOST.match(given.get(a, ""))]
        self.found += IN_STYLE.findall(given.get("style", ""))

    def handle_data(self, data: str) -> None:
        if self._style:
            self.found += IN_STYLE.findall(data)

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002 (the base's own)
        self._style = False


if __name__ == "__main__":
    sys.exit(main())
