"""Full paths in a configuration, whatever the folder of who reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def located(data: dict[str, Any]) -> dict[str, Any]:
    """The same with full paths: server and parties may run in other folders than whoever asks.

    A table's relative path starts at `data.root`, any other one here.
    """
    table, here = data.get("data"), Path.cwd()
    if isinstance(table, dict):
        parties = [p for p in table.get("parties") or () if isinstance(p, dict)]
        held = [p.get("source") for p in parties] + list((table.get("holdout") or {}).values())
        for source in held:
            root = Path(str(table.get("root") or "."))
            _locate(source, "path", root)
            if isinstance(source, dict) and isinstance(source.get("parts"), list):
                source["parts"] = [_full(root, part) for part in source["parts"]]
    _locate(data, "output", here)
    for name in ("checkpoint", "format_file"):
        _locate(data.get("generator"), name, here)
    _locate((data.get("privacy") or {}).get("guard"), "path", here)
    return data


def _locate(holder: Any, field: str, folder: Path) -> None:
    if isinstance(holder, dict) and holder.get(field):
        holder[field] = _full(folder, holder[field])


def _full(folder: Path, path: Any) -> str:
    return str((folder / Path(str(path)).expanduser()).absolute())
