"""What a run leaves behind is there even where its page cannot be drawn."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from server import outputs
from tests.report.page.runs import contents, measured, written
from twinweave.report.page.material import Material


def test_a_page_that_cannot_be_drawn_is_said_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tables = measured()
    material = Material.of(written(tmp_path, contents(tables), tables))
    page = tmp_path / "report.html"
    outputs._draw(page, material)
    assert page.exists()
    page.unlink()

    def broken(*_: Any) -> str:
        raise KeyError("levels")

    monkeypatch.setattr(outputs, "run_page", broken)
    with caplog.at_level(logging.WARNING, logger="twinweave.run"):
        outputs._draw(page, material)
    assert not page.exists()
    assert "report.html could not be drawn (KeyError)" in caplog.text
