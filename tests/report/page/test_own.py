"""A party's own page has what only it may see, and is kept where only it may look."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts import report
from tests.report.page.documents import Document
from twinweave.analysis.anonymity import Anonymity, Diversity
from twinweave.parsing import parse, to_plain
from twinweave.privacy.events import DiscreteGaussian, Event, Stage
from twinweave.privacy.guard import Guard, Limit
from twinweave.report.page.own import own_page, write_own_page
from twinweave.site import PARTY_LOG, Site

DESCRIBED = Anonymity(
    quasi_identifiers=("age", "region"),
    rows=90,
    classes=12,
    k=2,
    wanted=5,
    below=7,
    diversity=(Diversity(column="loyal", l=2, entropy_l=1.9, t=0.31),),
)

LOG = """2026-01-01 10:00:00 cleaning: 90 rows read, 80 kept
2026-01-02 10:00:00 cleaning: 100 rows read, 97 kept
2026-01-02 10:00:00 cleaning: age: invalid: clip x 33
2026-01-02 10:00:00 WARNING cleaning: age: 33% of the cells fall under `clip`.
"""


@pytest.fixture
def described(tmp_path: Path) -> dict[str, Any]:
    return {
        "party": "shop",
        "dataset": "customers",
        "columns": [{"name": "user", "kind": "categorical", "role": "key"}],
        "source": {"kind": "csv", "path": "nowhere.csv"},
        "identity": str(tmp_path / "identity.pem"),
        "pins": {},
        "guard": {"mode": "on", "path": None, "epsilon": 4.0, "delta": 1e-5},
        "work": str(tmp_path / "shop"),
    }


def spend(site: Site, party: str, run: str, noise: float) -> None:
    event = Event(
        label="t",
        stage=Stage.MEASUREMENT,
        parties=(party,),
        mechanism=DiscreteGaussian(noise_multiplier=noise),
    )
    Guard.open(site.guard, party=party, dataset=site.dataset, folder=site.work).spend(
        fingerprint="f",
        run=run,
        phase="query.share",
        request_hash="h",
        events=[event],
        run_limit=Limit(epsilon=4.0, delta=1e-5),
    )


def test_the_page_has_ledger_cleaning_and_audit(described: dict[str, Any]) -> None:
    site = parse(Site, described)
    work = Path(site.work)
    spend(site, "shop", "aaaaaaaaaaaa", 20.0)
    spend(site, "shop", "bbbbbbbbbbbb", 21.5)
    spend(site, "elsewhere", "cccccccccccc", 22.0)
    (work / PARTY_LOG).write_text(LOG)
    found = {
        "run": "bbbbbbbbbbbb",
        "rows": {"used": 90, "set_aside": 10, "synthetic": 90},
        "attacks": [],
        "not_attacked": ["Linkability was not played."],
        "closest_record": {"used": 1.25, "aside": 1.5, "area": 0.6},
        "anonymity": {"own rows": to_plain(DESCRIBED)},
        "utility": [{"name": "told from real rows", "value": 0.55, "against": 0.5}],
        "gate": to_plain(
            {
                "state": "withheld",
                "reasons": [{"source": "shop", "what": "copies", "remedy": "Ask less"}],
            }
        ),
    }
    (work / "audit.json").write_text(json.dumps(found))
    path = write_own_page(site)
    assert path.stat().st_mode & 0o077 == 0
    document = Document.of(path.read_text())
    assert document.faults == []
    assert [s["id"] for s in document.named("section")] == ["spent", "cleaning", "audit"]
    for part in ("aaaaaaaa", "bbbbbbbb", "limit over all runs: 4", "97 kept", "clip x 33", "0.55"):
        assert part in document.text, part
    for part in ("Linkability was not played", "1.25 columns", "7 of 90 below 5", "age, region"):
        assert part in document.text, part
    for part in ("cccccccc", "80 kept"):
        assert part not in document.text, part


def test_what_a_party_has_not_is_absent(described: dict[str, Any]) -> None:
    document = Document.of(own_page(parse(Site, described)))
    assert document.faults == []
    assert not document.named("section")


def test_the_command_takes_a_site_file(
    described: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "site.yaml"
    file.write_text(yaml.safe_dump(described))
    Path(described["work"]).mkdir()
    assert report.main([str(file)]) == 0
    assert str(Path(described["work"]) / "report.html") in capsys.readouterr().out
    assert report.main([str(file), "--out", "x.html"]) == 11
    assert "--out" in capsys.readouterr().err
