"""A run's directory tells how the run ended, and the terminal its progress alone."""

from __future__ import annotations

import errno
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import twinweave
from server.lifecycle import OURS, run_directory, unmarked
from twinweave.checkpoint import FOLDER, Begun, Checkpoint, Paid
from twinweave.config import RunConf, compose
from twinweave.errors import BudgetError, DivergedError, OutputError, RunError, SourceError


@pytest.fixture
def conf(tmp_path: Path) -> RunConf:
    return RunConf.parse(compose([f"output={tmp_path / 'out'}"]))


def status(conf: RunConf) -> dict[str, Any]:
    return json.loads((Path(conf.output) / "status.json").read_text())


def test_a_run_that_finishes(conf: RunConf, capsys: pytest.CaptureFixture[str]) -> None:
    with run_directory(conf) as say:
        assert twinweave.load(conf.output).status == "running"
        say("half\n  way")
    assert twinweave.load(conf.output).status == "finished"
    asked = json.loads((Path(conf.output) / "configuration.json").read_text())
    assert asked["seed"] == conf.seed
    # Where Flower prints too, every line of ours says so.
    assert capsys.readouterr().out == f"{OURS}half\n{OURS}  way\n"
    with unmarked(), run_directory(replace(conf, output=f"{conf.output}-2")) as say:
        say("plain")
    assert capsys.readouterr().out == "plain\n"
    assert "half\n  way" in (Path(conf.output) / "run.log").read_text()


@pytest.mark.parametrize(
    ("error", "text", "code"),
    [
        (BudgetError("no budget left. Ask less."), "no budget left. Ask less.", 15),
        (ValueError("a bug"), "unexpected ValueError: a bug.", 1),
        (KeyboardInterrupt(), "interrupted.", 130),
    ],
)
def test_a_run_that_fails(
    conf: RunConf, capsys: pytest.CaptureFixture[str], error: Any, text: str, code: int
) -> None:
    with pytest.raises(type(error)), run_directory(conf):
        raise error
    told = status(conf)
    assert (told["state"], told["error"], told["exit_code"]) == ("failed", text, code)
    log = (Path(conf.output) / "run.log").read_text()
    assert f"error: {text}" in log
    assert ("Traceback" in log) == (code == 1)  # of a mistake in the program alone
    assert capsys.readouterr().out == ""  # whoever started the run prints it, once


def test_an_error_that_may_pass_says_how_to_go_on(conf: RunConf) -> None:
    def run() -> None:
        with run_directory(conf):
            Checkpoint.at(Path(conf.output)).keep(Begun(spec="{}", secret=b"s" * 32))
            raise RunError("no answer.")

    with pytest.raises(RunError, match=rf"no answer\. Go on with resume={conf.output}:") as told:
        run()
    assert status(conf)["error"] == str(told.value)


def test_an_error_is_told_where_what_was_kept_is_damaged(conf: RunConf) -> None:
    def run() -> None:
        with run_directory(conf):
            (Path(conf.output) / FOLDER).mkdir()
            (Path(conf.output) / FOLDER / "paid").write_bytes(b"torn")
            Checkpoint.at(Path(conf.output)).last(Paid)

    with pytest.raises(SourceError, match=r"cannot be read. .*bring it back from a copy"):
        run()
    assert status(conf)["state"] == "failed"


def test_an_error_that_every_try_repeats_does_not_say_to_try(conf: RunConf) -> None:
    def run() -> None:
        with run_directory(conf):
            (Path(conf.output) / FOLDER).mkdir()
            (Path(conf.output) / FOLDER / "paid").write_bytes(b"")
            raise DivergedError("it diverged.")

    with pytest.raises(DivergedError, match="generator=none") as told:
        run()
    assert "Go on" not in str(told.value)


def test_a_full_disk_is_named_and_what_was_written_stays(
    conf: RunConf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def run() -> None:
        with run_directory(conf):
            monkeypatch.setattr("os.fsync", full)  # the status cannot be written either
            full()

    with pytest.raises(OutputError, match="the disk is full"):
        run()
    assert twinweave.load(conf.output).status == "died"
    assert twinweave.load(conf.output).configuration["seed"] == conf.seed
