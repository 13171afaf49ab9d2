"""A party's own page has what only it may see, and is kept where only it may look."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from scripts import report
from tests.report.page.documents import Document
from tests.report.page.own_site import described, kept
from twinweave.parsing import parse
from twinweave.report.page.own import own_page, write_own_page
from twinweave.site import Site


def test_the_page_has_ledger_cleaning_and_audit(tmp_path: Path) -> None:
    site = kept(tmp_path)
    path = write_own_page(site)
    assert path.stat().st_mode & 0o077 == 0
    document = Document.of(path.read_text())
    assert document.faults == []
    sections = [s["id"] for s in document.named("section")]
    assert sections == ["notices", "spent", "cleaning", "audit"]
    warnings = document.text.partition("What was released about its users")[0]
    assert warnings.index("tables are withheld. shop: copies. Ask less") < warnings.index("33%")
    assert "guard is off" not in document.text
    for part in ("aaaaaaaa", "bbbbbbbb", "limit over all runs: 4", "97 kept", "clip x 33", "0.55"):
        assert part in document.text, part
    for part in ("Linkability was not played", "1.25 columns", "7 of 90 below 5", "age, region"):
        assert part in document.text, part
    for part in ("cccccccc", "80 kept"):
        assert part not in document.text, part


def test_a_guard_that_is_off_and_training_without_noise_stand_at_the_top(tmp_path: Path) -> None:
    told = described(tmp_path) | {"unsafe": True}
    told["guard"] = {"mode": "off", "path": None, "epsilon": None, "delta": None}
    text = Document.of(own_page(parse(Site, told))).text
    assert "The guard is off:" in text
    assert "Runs may train without noise:" in text


def test_what_a_party_has_not_is_absent(tmp_path: Path) -> None:
    document = Document.of(own_page(parse(Site, described(tmp_path))))
    assert document.faults == []
    assert not document.named("section")


def test_the_command_takes_a_site_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, site = tmp_path / "site.yaml", described(tmp_path)
    file.write_text(yaml.safe_dump(site))
    Path(site["work"]).mkdir()
    assert report.main([str(file)]) == 0
    assert str(Path(site["work"]) / "report.html") in capsys.readouterr().out
    assert report.main([str(file), "--out", "x.html"]) == 11
    assert "--out" in capsys.readouterr().err
