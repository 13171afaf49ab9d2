"""Every exit status has its help on the page, and the page has no other."""

from __future__ import annotations

import re

import pytest

from scripts.ending import command
from tests.source import REPOSITORY
from twinweave.errors import BY_NAME, AppError

PAGE = (REPOSITORY / "docs" / "errors.md").read_text()
OTHERS = {0: "", 1: "unexpected", 2: "command line", 130: "interrupted"}


def test_every_exit_status_has_its_help() -> None:
    sections = re.split(r"^## ", PAGE, flags=re.M)[1:]
    told = {}
    for section in sections:
        head, text = section.split("\n", 1)
        code, _, name = head.partition(": ")
        told[int(code)] = name
        assert len(text.strip()) > 20, head
    assert told == {**OTHERS, **{cls.exit_code: name for name, cls in BY_NAME.items()}}
    assert list(told) == sorted(told)


@pytest.mark.parametrize("cls", BY_NAME.values())
def test_a_command_ends_with_it_and_one_line_that_leads_there(
    cls: type[AppError], capsys: pytest.CaptureFixture[str]
) -> None:
    @command
    def main() -> int:
        raise cls.restore("a rule is broken. Mend it.")

    assert main() == cls.exit_code
    told = capsys.readouterr()
    help_ = f"[exit status {cls.exit_code}: docs/errors.md]"
    assert told.err == f"error: a rule is broken. Mend it. {help_}\n"
    assert told.out == ""


def test_so_do_a_mistake_and_an_interruption(capsys: pytest.CaptureFixture[str]) -> None:
    @command
    def main(error: BaseException) -> int:
        raise error

    assert main(KeyError("two\nlines")) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: unexpected KeyError: ")
    assert told.count("\n") == 1
    assert "[exit status 1: docs/errors.md]" in told
    assert main(KeyboardInterrupt()) == 130
    with pytest.raises(SystemExit):  # of argparse: as it is
        main(SystemExit(2))


def test_every_command_is_one() -> None:
    """None prints an error in a way of its own."""
    for path in sorted((REPOSITORY / "scripts").glob("*.py")):
        text = path.read_text()
        if "argparse" in text and "def main(" in text:
            assert "@command\ndef main(" in text, path.name
