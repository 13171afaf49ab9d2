"""Check a party's table against its columns before a run: every fault at once, with counts.

    python -m scripts.check FILE CONFIG [--party NAME]

CONFIG is the party's site file, a draft of `scripts.describe`, or a run's data configuration
(then with --party). Its source's options are used with FILE. Nothing here leaves the party.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from twinweave.errors import AppError, ConfigError
from twinweave.parsing import parse, read_yaml
from twinweave.tables.check import check_table
from twinweave.tables.schema import Schema
from twinweave.tables.sources import Source, SourceKind


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 for a table that a run would take, else 1 or the error's own code."""
    options = _arguments(argv)
    try:
        party = _party(options.config, options.party)
        found = check_table(_source(party, options.file), _schema(party))
    except AppError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    for line in (*found.faults, *found.changes, *(f"warning: {w}" for w in found.warnings)):
        print(line)
    if found.faults:
        print(f"a run would stop: {len(found.faults)} to correct")
        return 1
    print("a run would take this table")
    return 0


def _party(config: Path, name: str | None) -> dict[str, Any]:
    try:
        data = read_yaml(config)
    except (OSError, UnicodeError, yaml.YAMLError):
        raise ConfigError(str(config), "cannot be read as YAML", "Name a site file.") from None
    if isinstance(data, dict) and isinstance(data.get("parties"), list):
        named = {p["name"]: p for p in data["parties"] if isinstance(p, dict) and "name" in p}
        if name not in named:
            raise ConfigError("--party", "none of the parties", f"Name one: {', '.join(named)}.")
        return dict(named[name])
    if not isinstance(data, dict) or "columns" not in data:
        raise ConfigError(str(config), "holds no columns", "Name a site file, or a draft.")
    return data


def _source(party: dict[str, Any], file: Path) -> Source:
    given = party.get("source") or {}
    kind = SourceKind.of(file)
    own = {k: v for k, v in given.items() if k not in ("path", "parts", "kind", "present")}
    return parse(Source, {**own, "kind": kind.value, "path": str(file)}, where="source")


def _schema(party: dict[str, Any]) -> Schema:
    name = party.get("party") or party.get("name") or "party"
    return parse(Schema, {"party": name, "columns": party["columns"]})


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("file", type=Path, help="CSV (also compressed) or Parquet")
    parser.add_argument("config", type=Path, help="site file, draft, or data configuration")
    parser.add_argument("--party", help="whose columns, of a data configuration")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
