"""The project's own source, for tests of its shape: modules, imports, functions."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGES = ("twinweave", "clients", "server", "strategies", "scripts", "hydra_plugins")
APPS = ("clients", "server", "strategies")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def modules(*packages: str) -> Iterator[tuple[str, Path]]:
    """(dotted name, file) of every module of the packages, of all where none is named."""
    for package in packages or PACKAGES:
        for path in sorted(REPOSITORY.joinpath(*package.split(".")).rglob("*.py")):
            yield name_of(path), path


def name_of(path: Path) -> str:
    """The dotted name of a file of the project."""
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tree(path: Path) -> ast.Module:
    """The file, parsed."""
    return ast.parse(path.read_text())


def imports(module: str, path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in it, as dotted names."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
                parts = parts[: len(parts) - node.level + 1]
                base = ".".join([*parts, base]) if base else ".".join(parts)
            for alias in node.names:
                # `from twinweave import errors` imports a module, `import AppError` does not.
                whole = f"{base}.{alias.name}"
                file = REPOSITORY.joinpath(*whole.split("."))
                is_module = file.with_suffix(".py").exists() or file.is_dir()
                yield whole if is_module else base


def importers(library: str, *packages: str) -> set[str]:
    """The modules that import a library, or a part of it."""
    return {
        module
        for module, path in modules(*packages)
        if any(name == library or name.startswith(f"{library}.") for name in imports(module, path))
    }


def functions(node: ast.AST) -> Iterator[Function]:
    """Every function and method, those inside others too."""
    return (n for n in ast.walk(node) if isinstance(n, Function))


def called(node: ast.Call) -> str:
    """The last part of what a call calls: `draw` of `mechanisms.draw(...)`."""
    match node.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""
