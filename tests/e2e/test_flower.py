"""The main job through Flower's own command and simulation engine, as a newcomer runs it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import twinweave
from scripts.trials.own_flower import own_flower
from twinweave.errors import BY_NAME
from twinweave.tables.campaign import CampaignConf, campaign_frames

REPOSITORY = Path(__file__).resolve().parents[2]
EPSILON = 8.0  # coins are dealt by its inverse square


@pytest.fixture(scope="module")
def flower(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with own_flower(tmp_path_factory.mktemp("flower")) as environment:
        yield environment


def run(environment: Any, out: Any, *overrides: Any) -> Any:
    small = ["generator=none", "workload.pairs=false", "workload.three_way=false"]
    small.append(f"privacy.epsilon={EPSILON}")
    users = "data.parties.0.source.campaign.users=300"
    return call(environment, f"output={out}", users, *small, *overrides)


def call(environment: Any, *overrides: Any) -> Any:
    return subprocess.run(
        [sys.executable, "-m", "scripts.run", *overrides],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def assert_ours_alone(done: Any, out: Path) -> None:
    """No line of Flower or Ray, no control character; what they said is in the owner's file."""
    assert done.stdout.startswith(f"folder of this run: {out}\nrun ")
    assert "measuring 11 tables\n" in done.stdout
    assert not re.search(r"\x1b|twinweave\||INFO|WARN|Flower|SuperLink|Ray|Actor", done.stdout)
    assert done.stderr == ""
    assert "SuperLink" in (out / "engine.log").read_text()
    assert "SuperLink" not in (out / "run.log").read_text()
    assert not list(out.rglob("progress.json"))


def test_the_main_job_and_a_failure_through_flower(tmp_path: Path, flower: Any) -> None:
    """One test for both: most of its time is Flower's start."""
    done = run(flower, tmp_path / "good")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert_ours_alone(done, tmp_path / "good")
    found = twinweave.load(tmp_path / "good")
    assert found.ledger["epsilon"] <= EPSILON
    assert len(found.measurements) > 10
    assert found.report["lift"]["conversions"]
    # What the parties keep to themselves is readable by its owner alone.
    keys = list((tmp_path / "good" / "parties").rglob("identity.pem"))
    assert len(keys) == 2
    assert all(key.stat().st_mode & 0o077 == 0 for key in keys)

    bad = run(
        flower,
        tmp_path / "bad",
        "data.parties.1.source.kind=csv",
        f"+data.parties.1.source.path={tmp_path / 'gone.csv'}",
    )
    assert bad.returncode == BY_NAME["SourceError"].exit_code
    told = [line for line in bad.stderr.splitlines() if line.strip()]
    assert len(told) == 1
    assert told[0].startswith("error: party 'advertiser': table file 'gone.csv' does not exist.")
    assert told[0].endswith("[exit status 14: docs/errors.md]")
    assert "Traceback" not in bad.stdout
    assert twinweave.load(tmp_path / "bad").status == "failed"

    # The table is put in its place, and the run goes on.
    frame = campaign_frames(CampaignConf(users=300, dirty=0.0))["advertiser"]
    frame.to_csv(tmp_path / "gone.csv", index=False)
    again = call(flower, f"resume={tmp_path / 'bad'}")
    assert again.returncode == 0, again.stdout[-3000:] + again.stderr[-3000:]
    assert twinweave.load(tmp_path / "bad").status == "finished"
