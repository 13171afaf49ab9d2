"""Check a party's table against its columns before a run: every fault at once, with counts.

    python -m scripts.check [FILE] CONFIG [--party NAME]

CONFIG is the party's site file, a draft of `scripts.describe`, or a run's data configuration
(--party says whose FILE is, where its name does not). The configuration is checked too: roles,
`lift`, what the parties must declare alike. Its source's options are used with FILE; without
FILE the table is where its source says, such as in a database. Nothing here leaves the party.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import yaml

from clients.site import load_site
from scripts.ending import command
from twinweave.config import DataConf, conf_folder
from twinweave.errors import AppError, ColumnError, ConfigError
from twinweave.parsing import parse, read_yaml
from twinweave.protocols.channel.identity import Identity
from twinweave.tables.check import check_table
from twinweave.tables.schema import Schema
from twinweave.tables.sources import Source, SourceKind


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 for a table that a run would take, else the error's own code."""
    options = _arguments(argv)
    data = _read(options.config)
    party = _party(data, options.party, options.file)
    told = _declared(data, options.config)
    found = check_table(_source(party, options.file), _schema(party))
    faults = (*told, *found.faults)
    for line in (*faults, *found.changes, *(f"warning: {w}" for w in found.warnings)):
        print(line)
    if faults:
        print(f"a run would stop: {len(faults)} to correct")
        return ColumnError.exit_code
    print("a run would take this table")
    return 0


def _read(config: Path) -> dict[str, Any]:
    try:
        data = read_yaml(config)
    except (OSError, UnicodeError, yaml.YAMLError):
        raise ConfigError(str(config), "cannot be read as YAML", "Name a site file.") from None
    if isinstance(data, dict) and ("columns" in data or isinstance(data.get("parties"), list)):
        return data
    raise ConfigError(str(config), "holds no columns", "Name a site file, or a draft.")


def _party(data: dict[str, Any], name: str | None, file: Path | None) -> dict[str, Any]:
    """The party's part: of a data configuration the one named, or the one whose file it is."""
    if "parties" not in data:
        return data
    named = {p["name"]: p for p in data["parties"] if isinstance(p, dict) and "name" in p}
    if name is None and file is not None:
        own = [n for n, p in named.items() if _file_name(p.get("source")) == file.name]
        name = own[0] if len(own) == 1 else None
    if name not in named:
        raise ConfigError("--party", "none of the parties", f"Name one: {', '.join(named)}.")
    return dict(named[name])


def _file_name(source: Any) -> str | None:
    path = source.get("path") if isinstance(source, dict) else None
    return Path(str(path)).name if path else None


def _declared(data: dict[str, Any], config: Path) -> tuple[str, ...]:
    """What would stop a run at the configuration itself, whatever is in the table."""
    try:
        if "parties" in data:
            parse(DataConf, _resolved(data), where="data")
        elif "identity" in data:
            Identity.load(Path(load_site(config).identity))
    except AppError as error:
        return (str(error),)
    return ()


def _resolved(data: dict[str, Any]) -> dict[str, Any]:
    """A data configuration as a run with the default privacy would read it."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    privacy = OmegaConf.load(conf_folder() / "privacy" / "default.yaml")
    raw = OmegaConf.create({"data": {**data, "root": "."}, "privacy": privacy})
    try:
        return cast("dict[str, Any]", OmegaConf.to_container(raw.data, resolve=True))
    except OmegaConfBaseException as error:
        raise ConfigError("data", str(error).splitlines()[0], "See conf/data.") from None


_WHERE = ("path", "parts", "kind", "present", "url", "url_env", "query")


def _source(party: dict[str, Any], file: Path | None) -> Source:
    given = party.get("source") or {}
    if file is None:
        if not given:
            raise ConfigError("source", "is missing", "Name the table's file before the config.")
        return parse(Source, given, where="source")
    kind = SourceKind.of(file)
    own = {k: v for k, v in given.items() if k not in _WHERE}
    return parse(Source, {**own, "kind": kind.value, "path": str(file)}, where="source")


def _schema(party: dict[str, Any]) -> Schema:
    name = party.get("party") or party.get("name") or "party"
    return parse(Schema, {"party": name, "columns": party["columns"]})


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "file", type=Path, nargs="?", help="CSV (also compressed) or Parquet; the source's without"
    )
    parser.add_argument("config", type=Path, help="site file, draft, or data configuration")
    parser.add_argument("--party", help="whose columns, of a data configuration")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
