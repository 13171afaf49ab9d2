"""Every exit status has its help on the page, and the page has no other."""

from __future__ import annotations

import re

from tests.source import REPOSITORY
from twinweave.errors import BY_NAME

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
