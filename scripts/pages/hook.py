"""What the site changes of a page: a link to a file outside docs/ becomes its text.

In the repository such a link leads to the file (a test, mostly). The site has no copy of it; its
name shows where the text is pointed at.
"""

from __future__ import annotations

import re
from posixpath import dirname, join, normpath
from typing import Any

LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(((?:\.\./)+[^)\s#]+)(#[^)\s]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """A page's text for the site (an event of mkdocs)."""
    return without_outside_links(markdown, page.file.src_uri)


def without_outside_links(markdown: str, page: str) -> str:
    """The text, without links that leave docs/. page: its place in docs/."""
    folder = join("docs", dirname(page))

    def told(found: re.Match[str]) -> str:
        path = normpath(join(folder, found[2]))
        if path.startswith("docs/"):
            return found[0]
        return f'<span title="{path}">{found[1]}</span>'

    return LINK.sub(told, markdown)
