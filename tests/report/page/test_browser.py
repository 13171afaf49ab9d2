"""Pages in a browser: nothing in its console, every figure there, nothing wider than its window."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.report.page.browser import CHROMIUM, WIDTHS, Layout, layouts
from tests.report.page.runs import contents, drawn, measured, withheld, written
from twinweave.report.contents import Contents

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no Chromium here (apt-get install chromium)"
)

WRONG = '<div style="width:3000px">x</div><svg></svg><script>console.error("wrong")</script>'


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    tables = measured()
    whole = contents(tables)
    assert whole.synthetic is not None
    alone = replace(whole.synthetic, lift=None, unmeasured=())
    runs = {
        "whole": whole,
        "measured": replace(whole, synthetic=None),
        "no experiment": replace(whole, lift=None, synthetic=alone),
        "withheld": withheld(whole),
        "bare": Contents(facts=whole.facts),
    }
    return {
        name: drawn(written(tmp_path_factory.mktemp("run"), run, tables))
        for name, run in runs.items()
    }


def test_pages_fit_their_windows_and_show_every_figure(
    pages: dict[str, str], tmp_path: Path
) -> None:
    spoilt = pages["bare"].replace("<footer>", f"{WRONG}<footer>")
    found, console = layouts({**pages, "spoilt": spoilt}, tmp_path)
    assert len(found) == 6 * len(WIDTHS)
    assert [one for one in found if one.page != "spoilt" and _wrong(one)] == []
    assert all(one.figures for one in found)
    assert all(_wrong(one) for one in found if one.page == "spoilt")  # the check can fail
    assert len(console) == len(WIDTHS), "of the spoilt page alone, once a width"


def _wrong(one: Layout) -> bool:
    return one.overflow > 0 or one.unseen > 0 or one.axes > 0
