"""The tables of docs/security.md, from the lines of `threats` and the marks on the tests.

`python -m tests.security.page` writes them; tests/docs/test_security.py holds the page to them.
Marks are read from the source: nothing is imported, nothing runs.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.security.threats import KINDS, PLAYED, Line

TESTS = Path(__file__).resolve().parents[1]
PAGE = TESTS.parent / "docs" / "security.md"
BROKEN = "broken"
HEADS = {
    "curious": ("who", "learns, or does not", "tests", "without the defence"),
    "attack": ("attack", "what the party does", "tests", "without the defence"),
    "remains": ("who", "can still", "shown by"),
}

Held = Mapping[tuple[str, str], list[str]]
"""(mark, line) -> the tests that bear it, as `file.py::name` below tests/."""


def held(tests: Path = TESTS) -> Held:
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path in sorted(tests.rglob("test_*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                for mark in _marks(node):
                    found[mark].append(f"{path.relative_to(tests)}::{node.name}")
    return dict(found)


def _marks(node: ast.FunctionDef) -> Iterator[tuple[str, str]]:
    """(mark, line) of every `@pytest.mark.attack("line")` and its like."""
    for decorator in node.decorator_list:
        if isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Attribute):
            mark = decorator.func.attr
            if mark in (*KINDS, BROKEN):
                for line in decorator.args:
                    yield mark, ast.literal_eval(line)


def tables(marked: Held) -> dict[str, str]:
    """Markdown of each kind's table."""
    return {kind: "\n".join(_rows(kind, lines, marked)) for kind, lines in KINDS.items()}


def _rows(kind: str, lines: Mapping[str, Line], marked: Held) -> Iterator[str]:
    heads = HEADS[kind]
    yield f"| {' | '.join(heads)} |"
    yield "|---" * len(heads) + "|"
    for name, line in lines.items():
        tests = marked.get((kind, name), [])
        broken = marked.get((BROKEN, name), [])
        shown = [_shown(test) for test in tests]
        shown += [f"`{PLAYED[name]}`"] if name in PLAYED else []
        without = [_shown(test) for test in broken if test not in tests]
        without += ["the same"] if set(tests) & set(broken) else []
        cells = (line.what, line.then, "; ".join(shown), "; ".join(without))
        yield f"| {' | '.join(cells[: len(heads)])} |"


def _shown(test: str) -> str:
    """A test as a link to its file, its name in the words that it is made of."""
    file, _, name = test.partition("::")
    return f"[{name.removeprefix('test_').replace('_', ' ')}](../tests/{file})"


def written(page: str, marked: Held) -> str:
    """The page with the tables between its marks `<!-- kind -->` and `<!-- end -->`."""
    for kind, table in tables(marked).items():
        head, begin, rest = page.partition(f"<!-- {kind} -->\n")
        _, end, tail = rest.partition("\n<!-- end -->")
        assert begin, f"docs/security.md has no place for {kind}"
        assert end, f"docs/security.md has no place for {kind}"
        page = head + begin + table + end + tail
    return page


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(), held()))
