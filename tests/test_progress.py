"""Steps are heard, noted sparingly, and say nothing where nobody listens."""

from __future__ import annotations

from pathlib import Path

from twinweave import progress
from twinweave.progress import Note, Step, heard_by, part, parts, read, report


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_items_are_counted_by_their_share_of_the_work() -> None:
    heard: list[Step] = []
    with heard_by(heard.append):
        for item, counted_in in parts("deal", [("a", 1.0), ("b", 3.0)]):
            with counted_in:
                report(item, 1, 2)
    assert {s.name for s in heard} == {"deal"}
    assert [(s.done, s.total) for s in heard] == [(d, 4) for d in (0, 0.5, 1, 1, 2.5, 4)]
    report("nobody listens", 1, 2)
    assert len(heard) == 6


def test_a_part_is_scaled_into_its_whole_and_a_listener_inside_hears_alone() -> None:
    outer: list[Step] = []
    inner: list[Step] = []
    with heard_by(outer.append):
        with part("tags", 1, 1, 2):
            report("multiply", 1, 2)
        with heard_by(inner.append):  # as of a party in the server's own process
            report("coins", 1, 2)
        with heard_by(None):
            report("coins", 2, 2)
    assert [(s.name, s.done, s.total) for s in outer] == [("tags", d, 2) for d in (1, 1.5, 2)]
    assert [s.done for s in inner] == [1]


def test_a_step_is_noted_when_it_begins_and_ends_and_now_and_then(tmp_path: Path) -> None:
    clock = Clock()
    note = Note(tmp_path, clock)
    noted = []
    for done in range(101):
        clock.now += 0.01
        before = read(tmp_path)
        note(Step(name="fit network", done=done, total=100))
        if read(tmp_path) != before:
            noted.append(done)
    assert noted[0] == 0
    assert noted[-1] == 100
    assert len(noted) < 10
    last = read(tmp_path)
    assert last is not None
    assert (last.since, last.at) == (100.01, clock.now)
    note(Step(name="fit network", done=0, total=50))  # the same step anew
    again = read(tmp_path)
    assert again is not None
    assert again.since == clock.now
    note.forget()
    assert read(tmp_path) is None
    (tmp_path / progress.FILE).write_text("{")
    assert read(tmp_path) is None
    Note(tmp_path / "gone")(Step(name="rake", done=0, total=1))  # and ends no run
