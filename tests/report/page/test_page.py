"""The page of a run says all that its files have, reads without being seen, and stays small."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from scripts import report
from tests.analysis.lift.lift_world import SCHEMA
from tests.report.page.documents import Document
from tests.report.page.runs import (
    CONFIGURATION,
    contents,
    drawn,
    made_fair,
    measured,
    releases,
    withheld,
    written,
)
from twinweave import rundir
from twinweave.analysis.fidelity.margins import Margin
from twinweave.analysis.fidelity.tables import TableFidelity
from twinweave.errors import SourceError
from twinweave.report.contents import Contents
from twinweave.report.page.material import Material
from twinweave.report.page.page import run_page
from twinweave.report.page.sections.budget import grouped
from twinweave.report.page.style import STYLE

LIMIT = 1_000_000
"""Bytes of a page."""

TABLES = measured()


@pytest.fixture(scope="module")
def found() -> Contents:
    return contents(TABLES)


@pytest.fixture(scope="module")
def page(found: Contents, tmp_path_factory: pytest.TempPathFactory) -> str:
    return drawn(written(tmp_path_factory.mktemp("run"), found, TABLES))


def test_a_whole_page_reads_well_and_has_every_section(page: str) -> None:
    document = Document.of(page)
    assert document.faults == []
    assert [s["id"] for s in document.named("section")] == [
        "notices",
        "lift",
        "money",
        "matching",
        "breakdowns",
        "deciding",
        "budget",
        "learned",
        "selection",
        "fidelity",
        "agreement",
        "fairness",
        "audit",
        "traffic",
        "configuration",
    ]
    assert len(page.encode()) < LIMIT


@pytest.mark.parametrize(
    ("broken", "fault"),
    [
        ('<svg role="img"></svg>', "a picture without words"),
        ("<script></script>", "a script"),
        ('<a onclick="x" href="#main">x</a>', "a script"),
        ('<img src="https://elsewhere/a.png">', "needs https://elsewhere/a.png"),
        ("<h4>too deep</h4>", "a heading skips a level"),
        ('<p id="main"></p>', "an anchor twice"),
        ("<th>x</th>", "a table's heading without its scope"),
        ("<p>", "</main> closes nothing"),
    ],
)
def test_the_reader_sees_what_is_wrong(page: str, broken: str, fault: str) -> None:
    spoilt = page.replace("<footer>", f"{broken}<footer>")
    assert fault in Document.of(spoilt).faults


def test_a_page_says_what_must_be_said(page: str) -> None:
    text = " ".join(Document.of(page).text.split())
    for part in (
        "T raised the bought rate by",
        "The budget guard is off at a",
        "95% confidence",
        "added by privacy noise",
        "Incremental conversions",
        "Cost of one more bought",
        "Share of each arm",
        "by region",
        "suppressed",
        "0.9987",
        "500 steps at rate 0.16",
        "another party's rows",
        "agree with the measured tables",
        "Real data, noisy tables",
        "copies",
        "the instrument's ceiling",
        "b did not answer.",
        "4.2 MB",
        "3.12.1",
    ):
        assert part.lower() in text.lower(), part
    assert "secret" not in page


def test_a_run_draws_at_its_end_what_its_files_say_later(found: Contents, page: str) -> None:
    ledger = {"events": releases(), "accountant": "PLD"}
    material = Material.made(
        found,
        ledger=ledger,
        configuration=CONFIGURATION,
        schema=SCHEMA,
        measurements=TABLES,
    )
    assert run_page(material) == page


def test_what_a_run_lacks_is_absent(found: Contents, tmp_path: Path) -> None:
    facts = replace(found.facts, guards={"a": "on", "b": "on"}, traffic=())
    bare = Contents(facts=facts)
    document = Document.of(drawn(written(tmp_path, bare, TABLES)))
    assert document.faults == []
    sections = [s["id"] for s in document.named("section")]
    assert sections == ["budget", "learned", "configuration"]


def test_a_page_without_rows_says_so_and_how_far_groups_differ(
    found: Contents, tmp_path: Path
) -> None:
    measured_alone = replace(found, lift=None, synthetic=None, audit=None)
    run = written(tmp_path, measured_alone, TABLES)
    asked = {"sensitive": ["region"], "label": "bought", "positive": "1"}
    conf = {
        **CONFIGURATION,
        "generator": {"name": "tvae"},
        "data": {**CONFIGURATION["data"], "fairness": asked},
        "privacy": {**CONFIGURATION["privacy"], "k": 10},
    }
    rundir.write_json(run.path / rundir.CONFIGURATION, conf)
    document = Document.of(drawn(rundir.Run(tmp_path)))
    assert document.faults == []
    assert "There are no synthetic rows" in document.text
    assert "Groups by region differ by" in document.text
    assert "fairness" in document.anchors


def test_a_page_without_an_experiment_speaks_of_its_rows(found: Contents, tmp_path: Path) -> None:
    assert found.synthetic is not None
    synthetic = replace(found.synthetic, lift=None, unmeasured=())
    document = Document.of(
        drawn(written(tmp_path, replace(found, lift=None, synthetic=synthetic), TABLES))
    )
    assert document.faults == []
    assert "3,000 synthetic rows stand for a table that nobody holds." in document.text
    assert "lift" not in document.anchors
    assert "fidelity" in document.anchors


def test_withheld_tables_are_said_first(found: Contents, tmp_path: Path) -> None:
    document = Document.of(drawn(written(tmp_path, withheld(found), TABLES)))
    assert document.faults == []
    first = document.text.index("The synthetic tables are withheld.")
    assert first < document.text.index("What the treatment did")
    assert "Withheld, a: copies: 26 points better." in document.text
    assert "Synthetic rowswithheld" in "".join(document.text.split("\n"))


def test_what_was_made_fair_stands_before_and_after(found: Contents, tmp_path: Path) -> None:
    document = Document.of(drawn(written(tmp_path, made_fair(found), TABLES)))
    assert document.faults == []
    assert "enforced" in document.anchors
    text = " ".join(document.text.split())
    for part in (
        "could not be made as fair",
        "not met",
        "0.130",
        "81.0% before, 79.0% after",
        "Other strengths",
        "Difference in parity",
    ):
        assert part in text, part


def test_names_are_escaped(found: Contents, tmp_path: Path) -> None:
    facts = replace(found.facts, data="<script>alert(1)</script>")
    page = drawn(written(tmp_path, replace(found, facts=facts), TABLES))
    assert Document.of(page).faults == []
    assert "&lt;script&gt;alert(1)" in page


def test_a_wide_run_stays_small(found: Contents, tmp_path: Path) -> None:
    """A hundred columns of fifty levels, all pairs of them, long names."""
    levels = tuple(f"a long name of level {i}" for i in range(50))
    margin = Margin(
        column="",
        party="a",
        noise_sd=3.0,
        levels=levels,
        measured=(9.0,) * 50,
        synthetic=(8.0,) * 50,
    )
    columns = [f"a_long_name_of_column_{i}" for i in range(100)]
    pair = TableFidelity(
        name="",
        priority=False,
        ways=2,
        cells=9,
        tvd=0.1,
        noise_tvd=0.1,
        chi2=1.0,
        mse=0.0,
        cosine=1.0,
    )
    assert found.synthetic is not None
    tables = tuple(replace(pair, name=f"{x} x {y}") for x in columns for y in columns if x < y)
    synthetic = replace(
        found.synthetic,
        margins=tuple(replace(margin, column=c) for c in columns),
        fidelity=replace(found.synthetic.fidelity, tables=tables),
    )
    run = written(tmp_path, replace(found, synthetic=synthetic), TABLES)
    ledger = run.ledger
    rundir.write_json(run.path / rundir.LEDGER, {**ledger, "events": ledger["events"] * 7000})
    assert len(drawn(rundir.Run(tmp_path)).encode()) < LIMIT


def test_the_ledger_is_told_whole() -> None:
    """Every release is in one line of the table, with its noise between the ends that it names."""
    events = 3 * releases()
    lines = grouped(events)
    assert sum(int(count) for *_, count, _ in lines) == len(events)
    assert {noise for *_, noise in lines} == {"41.75", "82.66", "61.2"}


@pytest.mark.parametrize("change", [{"version": 99}, {"lift": {"level": 0.95}}, {"traffic": ...}])
def test_a_report_of_another_release_is_refused(
    found: Contents, tmp_path: Path, change: dict[str, object]
) -> None:
    run = written(tmp_path, found, TABLES)
    told = {k: v for k, v in {**run.report, **change}.items() if v is not ...}
    rundir.write_json(run.path / rundir.REPORT, told)
    with pytest.raises(SourceError, match=r"another release\. Use the one that wrote it"):
        drawn(rundir.Run(tmp_path))


def test_the_command_draws_again(
    found: Contents, page: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path, found, TABLES)
    assert report.main([str(tmp_path)]) == 0
    assert (tmp_path / "report.html").read_text() == page
    assert str(tmp_path / "report.html") in capsys.readouterr().out
    assert report.main([str(tmp_path / "nowhere")]) == SourceError.exit_code
    assert "not a run directory" in capsys.readouterr().err


def test_text_stands_out_from_what_is_behind_it() -> None:
    """4.5 to 1 (WCAG 2.2, 1.4.3) in both schemes, for every pair of colours that is read."""
    light, dark = re.findall(r":root\{([^}]*)\}", str(STYLE))[:2]
    read = [
        ("ink", "paper"),
        ("dim", "paper"),
        ("accent", "paper"),
        ("bad", "paper"),
        ("dim", "soft"),
        ("ink", "soft"),
        ("ink", "warnbg"),
        ("ink", "badbg"),
    ]
    for scheme in (light, dark):
        colours = dict(re.findall(r"--(\w+):(#\w+)", scheme))
        for text, behind in read:
            assert _contrast(colours[text], colours[behind]) >= 4.5, (text, behind, scheme)
    assert _contrast("#888", "#fff") < 4.5


def _contrast(one: str, other: str) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * c for c in colour[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    r, g, b = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def test_margins_are_the_measured_tables(found: Contents) -> None:
    """The synthetic rows are those that were measured, so that only noise tells them apart."""
    assert found.synthetic is not None
    told = found.synthetic.margins
    assert {m.column for m in told} == {"age", "region", "arm", "bought", "spend"}
    for margin in told:
        assert margin.levels == SCHEMA.column(margin.column).labels
        # 5 standard deviations for 15 counts: a false alarm in 1e5, at a fixed seed
        pairs = zip(margin.measured, margin.synthetic, strict=True)
        assert all(abs(n - s) < 5 * margin.noise_sd for n, s in pairs)
