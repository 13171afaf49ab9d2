"""Pages as a browser lays them out: Chromium without a screen, started once for many of them."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

WIDTHS = (1280, 390)

_MEASURE = """
function seen(e) { const r = e.getBoundingClientRect(); return r.width > 15 && r.height > 5; }
function look(frame) {
  const d = frame.contentDocument, folded = 'details:not([open]) svg';
  const svgs = [...d.querySelectorAll('svg')].filter(e => !e.matches(folded));
  const shapes = e => [...e.querySelectorAll('rect,line,path')].some(s => s.getBBox);
  const axes = [...d.querySelectorAll('.axis div')].map(e => [...e.children]);
  const meet = ticks => ticks.slice(1).some((t, i) =>
    t.getBoundingClientRect().left < ticks[i].getBoundingClientRect().right);
  return {page: frame.dataset.page, width: +frame.width,
    overflow: d.documentElement.scrollWidth - d.documentElement.clientWidth,
    figures: svgs.length, unseen: svgs.filter(e => !seen(e) || !shapes(e)).length,
    axes: axes.filter(meet).length};
}
addEventListener('load', () => {
  const found = [...document.querySelectorAll('iframe')].map(look);
  document.body.textContent = JSON.stringify(found);
});
"""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a page stands at one width.

    overflow: pixels that it is wider than its window. figures, unseen: pictures that are not
    folded away, and those of them without size. axes: of which two ticks' texts meet.
    """

    page: str
    width: int
    overflow: int
    figures: int
    unseen: int
    axes: int


def layouts(pages: Mapping[str, str], folder: Path) -> tuple[list[Layout], list[str]]:
    """Every page at both widths, and what the browser's console said."""
    assert CHROMIUM is not None
    frames = "".join(
        f'<iframe data-page="{name}" width="{width}" height="900" srcdoc="{html.escape(page)}">'
        "</iframe>"
        for name, page in pages.items()
        for width in WIDTHS
    )
    file = folder / "pages.html"
    file.write_text(f"<!doctype html><body>{frames}<script>{_MEASURE}</script></body>")
    done = subprocess.run(
        [
            CHROMIUM,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--enable-logging=stderr",
            f"--user-data-dir={folder / 'profile'}",
            "--window-size=1400,900",
            "--dump-dom",
            file.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    body = html.unescape(done.stdout[done.stdout.index("[{") : done.stdout.rindex("}]") + 2])
    said = [line for line in done.stderr.splitlines() if re.search(r"\bCONSOLE\b", line)]
    return [Layout(**one) for one in json.loads(body)], said
