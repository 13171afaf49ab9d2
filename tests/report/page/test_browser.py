"""Pages in a browser, at both widths and in both schemes: nothing in its console, every figure
there with its words, nothing wider than its window, no text that is hard to read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.report.page.browser import CHROMIUM, SCHEMES, WIDTHS, Browser, browser
from tests.report.page.own_site import kept
from tests.report.page.runs import (
    contents,
    drawn,
    made_fair,
    measured,
    pooled,
    withheld,
    written,
)
from twinweave.report.contents import Contents
from twinweave.report.page.own import own_page

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no Chromium here (apt-get install chromium)"
)

LIMIT = 1_000_000

SPOILT = {
    "overflow": '<div style="width:3000px">x</div>',
    "console": '<script>console.error("wrong")</script>',
    "unseen": '<svg role="img" aria-label="x"></svg>',
    "no alternative": '<svg width="40" height="40"><rect width="9" height="9"></rect></svg>',
    "no caption": "<figure></figure>",
    "headings out of order": "<h4>too deep</h4>",
    "an empty section": "<section><h2>nothing</h2></section>",
    "over its neighbour": '<table style="table-layout:fixed;width:60px"><tr><td>abcdefghijkl</td>'
    "<td>x</td></tr></table>",
    "faint": '<p style="color:#777;background:#888">x</p>',
    "no figure": "<p>from nan to 3</p>",
}
"""What a page must not have, by the fault that it is found by."""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("chromium")) as running:
        yield running


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    tables = measured()
    whole = contents(tables)
    assert whole.synthetic is not None
    alone = replace(whole.synthetic, lift=None, unmeasured=())
    runs = {
        "whole": whole,
        "made fair": made_fair(whole),
        "measured": replace(whole, synthetic=None, audit=None),
        "no experiment": replace(whole, lift=None, synthetic=alone),
        "pooled": pooled(replace(whole, lift=None, synthetic=alone)),
        "withheld": withheld(whole),
        "bare": Contents(facts=whole.facts),
    }
    texts = {
        name: drawn(written(tmp_path_factory.mktemp("run"), run, tables))
        for name, run in runs.items()
    }
    texts["a party's own"] = own_page(kept(tmp_path_factory.mktemp("party")))
    folder = tmp_path_factory.mktemp("pages")
    return {name: _saved(folder / f"{name}.html", text) for name, text in texts.items()}


def _saved(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_pages_are_whole_at_both_widths_and_in_both_schemes(
    chromium: Browser, pages: dict[str, Path]
) -> None:
    for name, page in pages.items():
        assert page.stat().st_size < LIMIT
        for width in WIDTHS:
            for scheme in SCHEMES:
                at = name, width, scheme
                found = chromium.look(page, width=width, scheme=scheme)
                assert (found.wrong, found.overflow, chromium.console) == ((), 0, []), at
                assert found.figures, at
                assert found.dark == (scheme == "dark"), at


@pytest.mark.parametrize("fault", SPOILT)
def test_the_browser_sees_what_is_wrong(
    chromium: Browser, pages: dict[str, Path], tmp_path: Path, fault: str
) -> None:
    text = pages["bare"].read_text(encoding="utf-8")
    page = _saved(tmp_path / "spoilt.html", text.replace("<footer>", f"{SPOILT[fault]}<footer>"))
    found = chromium.look(page, width=390, scheme="light")
    told = [one.partition(":")[0] for one in found.wrong]
    told += ["overflow"] * (found.overflow > 0) + ["console"] * bool(chromium.console)
    assert fault in told


def test_a_page_is_printed_light_and_short(chromium: Browser, pages: dict[str, Path]) -> None:
    """From a dark screen too; on few pages, since what is folded away and long stays away."""
    paper = chromium.paper(pages["whole"])
    assert 4 <= paper.count(b"/Type /Page\n") <= 20
