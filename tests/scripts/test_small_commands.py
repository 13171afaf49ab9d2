"""identity, fetch, and how a Flower run's end is told from its status file."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from scripts import fetch, identity
from scripts.engines import flower
from twinweave import rundir
from twinweave.errors import RunError
from twinweave.protocols.channel.identity import Identity


def test_an_identity_is_created_once_and_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "keys" / "identity.pem"
    assert identity.main(["create", str(path)]) == 0
    created = capsys.readouterr().out.strip()
    assert created == Identity.load(path).public_hex
    assert path.stat().st_mode & 0o077 == 0
    assert identity.main(["show", str(path)]) == 0
    assert capsys.readouterr().out.strip() == created
    assert identity.main(["create", str(path)]) != 0  # a lost identity has to be pinned anew
    assert Identity.load(path).public_hex == created


def test_fetch_knows_whole_short_damaged_and_missing_files(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv.gz"
    assert fetch.state(path, 3) == "missing"
    path.write_bytes(gzip.compress(b"a,b\r\n1,2\r\n3,4\r\n\r\n"))
    assert fetch.state(path, 3) == "whole"
    assert fetch.state(path, 4) == "3 lines where 4 are published"
    path.write_bytes(path.read_bytes()[:-10])
    assert fetch.state(path, 3) == "damaged, or not gzip"
    assert fetch.main(["--root", str(tmp_path), "adult"]) == 1


def status(folder: Path, **state: int | str) -> Path:
    rundir.write_json(folder / rundir.STATUS, state)
    return folder


def test_a_finished_run_is_told_from_one_that_failed(tmp_path: Path) -> None:
    flower._check(status(tmp_path, state="finished"), None, [])
    with pytest.raises(RunError, match="one clear line") as failed:
        flower._check(
            status(tmp_path, state="failed", error="one clear line", exit_code=15), None, []
        )
    assert failed.value.exit_code == 15
    with pytest.raises(RunError, match="without finishing"):
        flower._check(status(tmp_path, state="running"), None, [])
    with pytest.raises(RunError, match="did not start"):
        flower._check(tmp_path / "nowhere", None, [])


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        ('{"runs": [{"status": "finished:completed"}]}', None),
        ('{"runs": [{"status": "finished:failed"}]}', "finished:failed"),
        ("no connection", "unknown"),
        ('{"success": false}', "unknown"),
    ],
)
def test_a_run_elsewhere_is_asked_of_flower(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: str, said: str | None
) -> None:
    monkeypatch.setattr(flower, "_flwr", lambda *_: listed)
    if said is None:
        flower._check(tmp_path / "elsewhere", "7", ["federation"])
        return
    with pytest.raises(RunError, match=said):
        flower._check(tmp_path / "elsewhere", "7", ["federation"])
