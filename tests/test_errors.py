"""Errors that travel: an exit code each, told in one place, and the same after the way."""

from __future__ import annotations

import ast

import pytest

from tests.source import modules, tree
from twinweave import errors
from twinweave.errors import BY_NAME, AppError


def test_every_error_has_its_own_exit_code_and_can_travel() -> None:
    defined = [
        cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, AppError)
    ]
    codes = [cls.exit_code for cls in defined]
    assert len(set(codes)) == len(codes)
    assert all(0 < code < 126 for code in codes)
    assert {cls.__name__: cls for cls in defined} == BY_NAME
    assert all(cls.__doc__ for cls in defined)
    assert errors.__doc__
    assert all(f"{cls.exit_code} {cls.__name__}" in errors.__doc__ for cls in defined)


def test_no_other_module_defines_an_error_that_travels() -> None:
    wrong = [
        f"{module}.{node.name}"
        for module, path in modules()
        if module != "twinweave.errors"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef)
        and any(isinstance(b, ast.Name) and b.id in BY_NAME for b in node.bases)
    ]
    assert not wrong


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_errors_survive_the_way(name: str) -> None:
    error = BY_NAME[name].restore("column 'x': a rule. A remedy.").at("a").at("a")
    assert type(error) is BY_NAME[name]
    assert str(error) == "party 'a': column 'x': a rule. A remedy."
