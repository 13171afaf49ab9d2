"""One module knows how the cells of a table are ordered; all others call it."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.source import modules, tree

ORDERED_BY = "twinweave.tables.contingency"
INDEXING = {"ravel_multi_index", "unravel_index", "indices", "ndindex"}
REARRANGING = {"reshape", "ravel", "flatten", "transpose", "swapaxes", "take", "T"}


def cells_by_hand(tree: ast.AST) -> Iterator[ast.expr]:
    """Where code knows by itself how the cells of a table are ordered.

    Seen: numpy's row-major index functions; an attribute `values`, which a table's cells are,
    that is rearranged or counted from its end. Not seen: the same under another name.
    """
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=value, attr=name):
                if name in INDEXING or (name in REARRANGING and is_values(value)):
                    yield node
            case ast.Subscript(value=value, slice=at) if is_values(value):
                if any(isinstance(part, ast.USub) for part in ast.walk(at)):
                    yield node


def is_values(node: ast.AST) -> bool:
    """`table.values`; of a mapping's `values()` the node is the call."""
    return isinstance(node, ast.Attribute) and node.attr == "values"


def test_one_module_knows_the_order_of_cells() -> None:
    wrong = [
        f"{module}:{node.lineno}"
        for module, path in modules()
        if module != ORDERED_BY and not module.startswith("scripts")
        for node in cells_by_hand(tree(path))
    ]
    assert not wrong


@pytest.mark.parametrize(
    "code",
    [
        "inner = m.values[:-1, :-1]",
        "absent = m.values[-1]",
        "flat = m.values.reshape(-1)[:n]",
        "turned = m.values.T",
        "cell = np.ravel_multi_index(codes, sizes)",
        "held = np.indices(sizes)[0].ravel() == 1",
    ],
)
def test_the_order_of_cells_by_hand_is_seen(code: str) -> None:
    assert list(cells_by_hand(ast.parse(code)))


@pytest.mark.parametrize("code", ["a = t.values[..., 1]", "b = list(d.values())[-1]", "c = x[:-1]"])
def test_other_indexing_is_left_alone(code: str) -> None:
    assert not list(cells_by_hand(ast.parse(code)))
