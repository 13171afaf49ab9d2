"""Bars on a terminal, with the time left at the step's own speed; elsewhere plain lines."""

from __future__ import annotations

import io
import os
import pty
import re
from contextlib import suppress
from pathlib import Path
from typing import IO

import pytest

from scripts.engines.display import Display, clock, fraction
from twinweave.progress import Note, Step


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def drawn(display: Display) -> str:
    console = display._bars.console
    with console.capture() as captured:
        console.print(display._bars.get_renderable())
    return re.sub(r"\x1b\[[0-9;]*m", "", captured.get())


@pytest.fixture
def now() -> Clock:
    return Clock()


@pytest.fixture
def display(tmp_path: Path, now: Clock) -> Display:
    return Display(tmp_path, Terminal(), now)


def test_time_left_is_of_the_steps_own_speed(display: Display, now: Clock) -> None:
    for done in range(5):
        display.show(Step(name="train", done=done, total=20), [])
        now.now += 3.0
    display.show(Step(name="train", done=5, total=20), [])
    assert "train: rounds" in drawn(display)
    assert "about 0:45 left" in drawn(display)
    # The next step is of its own speed, and promises nothing before that is known.
    display.show(Step(name="rake", done=0, total=10, since=15.0), [])
    assert "left" not in drawn(display)
    now.now += 10
    display.show(Step(name="rake", done=1, total=10, since=15.0), [])
    now.now += 10
    display.show(Step(name="rake", done=2, total=10, since=15.0), [])
    assert "about 1:20 left" in drawn(display)
    assert drawn(display).splitlines()[0].startswith("train: rounds")


def test_nothing_is_promised_where_the_end_is_not_known(display: Display, now: Clock) -> None:
    for done in range(4):
        display.show(Step(name="trial fit", done=done, total=0), [])
        now.now += 1
    assert "fit: trial" in drawn(display)
    assert "left" not in drawn(display)


def test_parties_say_how_far_they_are_and_old_words_do_not_count() -> None:
    asked = Step(name="query.open", done=0, total=0, asked=2, since=10.0)
    old = Step(name="coins", done=4, total=4, at=9.0)
    half = Step(name="coins", done=2, total=4, at=11.0)
    assert fraction(asked, []) == (0.0, None)
    assert fraction(asked, [old]) == (0.0, None)
    assert fraction(asked, [old, half]) == (0.5, 2.0)
    whole = Step(name="coins", done=4, total=4, at=12.0)
    assert fraction(asked, [whole, half]) == (1.5, 2.0)


def left_on(terminal: int) -> str:
    """All that was written to a terminal or pipe, which is closed."""
    told = b""
    with suppress(OSError):  # how a terminal ends
        while block := os.read(terminal, 1 << 16):
            told += block
    os.close(terminal)
    return told.decode()


def interrupted(folder: Path, terminal: IO[str]) -> None:
    with Display(folder, terminal) as display:
        assert display.live
        Note(folder)(Step(name="rake", done=1, total=2))
        display.look()
        display.line("a [b] line")
        display._bars.refresh()
        raise KeyboardInterrupt


def test_a_step_is_seen_in_the_folder_and_the_display_leaves_lines_alone(tmp_path: Path) -> None:
    """On a real terminal: what is left on the screen at the end."""
    Note(tmp_path)(Step(name="train", done=1, total=2))  # of a run that was cut short
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal, pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path, terminal)
    shown = left_on(ours)
    assert "rake" in shown
    assert "train" not in shown
    assert "a [b] line" in shown
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1  # the cursor is back
    assert re.split(r"\x1b\[[0-9;?]*[a-zA-Z]", shown)[-1].strip("\r\n") == ""


def test_elsewhere_lines_alone(tmp_path: Path) -> None:
    Note(tmp_path)(Step(name="rake", done=1, total=2))
    terminal = io.StringIO()
    with Display(tmp_path, terminal) as display:
        display.line("one\ntwo")
    assert terminal.getvalue() == "one\ntwo\n"


@pytest.mark.parametrize("live", [True, False])
def test_a_terminal_of_another_encoding_shows_what_it_can(tmp_path: Path, live: bool) -> None:
    ours, theirs = pty.openpty() if live else os.pipe()
    with (
        os.fdopen(theirs, "w", encoding="ascii") as terminal,
        Display(tmp_path, terminal) as display,
    ):
        display.line("═ café")
    assert "? caf?" in left_on(ours)


def test_a_reader_that_leaves_ends_no_run(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as terminal, Display(tmp_path, terminal) as display:
        os.close(reader)
        display.line("to nobody")
        display.line("nor this")


def test_clock() -> None:
    assert [clock(s) for s in (0, 59.6, 61, 3725)] == ["0:00", "1:00", "1:01", "1:02:05"]
