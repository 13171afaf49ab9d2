"""Deliberately broken variants: one check taken out of the code, by its own text.

A test that holds a defence is run once more without it, and must then see the attack succeed.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

import pytest


class _Without(ast.NodeTransformer):
    """Every `if`, and every statement that is a call, whose text has `check` in it: gone."""

    def __init__(self, check: str) -> None:
        self.check, self.found = check, 0

    def visit_If(self, node: ast.If) -> Any:
        return self._gone(node, node.test)

    def visit_Expr(self, node: ast.Expr) -> Any:
        return self._gone(node, node.value)

    def _gone(self, node: ast.stmt, test: ast.expr) -> Any:
        if self.check not in ast.unparse(test):
            return self.generic_visit(node)
        self.found += 1
        return ast.copy_location(ast.Pass(), node)


def without(patch: pytest.MonkeyPatch, function: Callable[..., Any], check: str) -> None:
    """Take out the one statement of a function that reads `check`, wherever it is called from.

    An `if` goes with all that it does. Fails where there is none, or more than one: a broken
    variant that is not broken would show nothing.
    """
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    definition = tree.body[0]
    assert isinstance(definition, ast.FunctionDef)
    definition.decorator_list = []
    remover = _Without(check)
    changed = ast.fix_missing_locations(remover.visit(tree))
    assert remover.found == 1, f"{function.__qualname__}: {remover.found} statements have {check}"
    flags = annotations.compiler_flag
    scope: dict[str, Any] = {}
    exec(compile(changed, inspect.getfile(function), "exec", flags, True), scope)
    code = scope[definition.name].__code__
    patch.setattr(inspect.unwrap(function), "__code__", code)
