"""The reference of commands: every module of scripts/ with its own words and its parser's."""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import re
from pathlib import Path

from scripts.pages.parsers import parser_of

SCRIPTS = Path(__file__).resolve().parents[1]
RUN = (
    "`--help` prints groups, choices and examples in a screenful, `--cfg job` the whole "
    "configuration. Groups and fields: [configuration.md](configuration.md)."
)
IN_FOLDERS = {
    "trials": "Trials: whole stories, played and held to what they promise",
    "benchmarks": "Benchmarks of speed",
    "studies": "Studies of quality",
}
"""Folders of scripts/ for the project's own use, and what their commands do."""


def commands() -> str:
    """Every command."""
    parts = [_section(f"scripts.{name}") for name in _runnable(".")]
    for folder in IN_FOLDERS:
        parts.append(f"\n## {IN_FOLDERS[folder]}\n\n| command | what it does |\n|---|---|\n")
        parts += [_row(f"scripts.{folder}.{name}") for name in _runnable(folder)]
    return "".join(parts)


def _section(module: str) -> str:
    loaded = importlib.import_module(module)
    # In Markdown an indented block, a command mostly, stands apart.
    text = re.sub(r"(?m)^(\S.*)\n(?=    )", r"\1\n\n", inspect.cleandoc(loaded.__doc__ or ""))
    parser = parser_of(module)
    more = f"\n{RUN}\n" if module == "scripts.run" else ""
    return f"\n## `{module}`\n\n{text}\n{more}{_options(parser) if parser else ''}"


def _options(parser: argparse.ArgumentParser) -> str:
    rows = [
        f"| {_words(action)} | {_help(action)} |\n"
        for action in parser._actions
        if not isinstance(action, argparse._HelpAction)
    ]
    return "".join(["\n| word | what |\n|---|---|\n", *rows]) if rows else ""


def _words(action: argparse.Action) -> str:
    metavar = action.metavar if isinstance(action.metavar, str) else None
    if action.choices:
        metavar = metavar or " or ".join(map(str, action.choices))
    if not action.option_strings:
        return f"`{metavar or action.dest}`".replace("|", "or")
    value = "" if action.nargs == 0 else f" {metavar or action.dest.upper()}"
    return ", ".join(f"`{option}{value}`" for option in action.option_strings)


def _help(action: argparse.Action) -> str:
    said = (action.help or "").replace("%(default)s", str(action.default)).replace("|", "or")
    return said + (" (required)" if action.required and action.option_strings else "")


def _runnable(folder: str) -> list[str]:
    return [
        path.stem
        for path in sorted((SCRIPTS / folder).glob("[a-z]*.py"))
        if '__name__ == "__main__"' in path.read_text(encoding="utf-8")
    ]


def _row(module: str) -> str:
    """Of a command that is for the project's own use: its first sentence."""
    source = SCRIPTS.joinpath(*module.split(".")[1:]).with_suffix(".py")
    return f"| `{module}` | {_first_sentence(source)} |\n"


def _first_sentence(source: Path) -> str:
    text = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or ""
    sentence = " ".join(text.split("\n\n")[0].split())
    return re.sub(r": `python -m [^`]*`", "", sentence).replace("|", "or")
