"""What a user sees of a run in one process on a terminal: our lines, bars that vanish, no more."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

from scripts.engines.display import NAMES
from tests.source import REPOSITORY

CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def on_a_terminal(*overrides: str) -> tuple[int, str]:
    """Exit status, and everything written to the terminal."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "scripts.run", *overrides]
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 1 << 16)
            except OSError:  # closed by the other side
                break
            if not part:
                break
            shown += part
        status = process.wait(timeout=300)
    os.close(ours)
    return status, shown.decode().replace("\r\n", "\n")


def test_a_run_on_a_terminal(tmp_path: Path) -> None:
    small = ["generator=none", "workload.pairs=false", "workload.three_way=false"]
    small.append("privacy.epsilon=8")  # fewer coins are dealt
    users = "data.parties.0.source.campaign.users=300"
    status, shown = on_a_terminal("engine=inprocess", f"output={tmp_path / 'out'}", users, *small)
    assert status == 0, shown[-3000:]
    assert any(name in shown for name in NAMES.values())  # a short step may come and go unseen
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1  # the cursor is back
    # Once the bars are drawn over, lines of ours are left: what stands after the last erasure.
    lines = [CONTROL.sub("", line.rpartition("\x1b[2K")[2]) for line in shown.split("\n")]
    kept = [line.rpartition("\r")[2].strip() for line in lines]
    kept = [line for line in kept if line and "━" not in line]
    assert kept[0] == f"folder of this run: {tmp_path / 'out'}"
    assert "measuring 11 tables" in kept
    foreign = r"Traceback|Warning|WARN|INFO|Flower|torch|opacus|hydra"
    assert not [line for line in kept if re.search(foreign, line)]
    assert any(line.startswith("everything ") for line in kept)


def test_a_misspelt_key_on_a_terminal(tmp_path: Path) -> None:
    status, shown = on_a_terminal("engine=inprocess", "privcy.epsilon=1")
    assert status == 11
    assert shown == (
        "error: configuration 'privcy.epsilon': there is no such field. Did you mean "
        "privacy.epsilon? Every field: python -m scripts.run --cfg job. "
        "[exit status 11: docs/errors.md]\n"
    )
