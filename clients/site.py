"""Where a node's site file is, and how it is read.

In a deployment the SuperNode is started with `--node-config 'site="/etc/twinweave/site.yaml"'`
and nothing the server sends can change what the file says. In a simulation (the node has
nothing but Flower's partition number) the server names a folder of such files.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from twinweave.errors import ConfigError
from twinweave.parsing import parse, read_yaml
from twinweave.site import Site

_SIMULATION_KEYS = {"partition-id", "num-partitions"}


def load_site(path: str | Path) -> Site:
    """Read a site file. Raises ConfigError."""
    try:
        data = read_yaml(Path(path))
    except OSError:
        raise ConfigError("site", "the file cannot be read", "Check node-config `site`.") from None
    except (UnicodeError, yaml.YAMLError):
        raise ConfigError("site", "the file is not YAML", "See conf/federation.") from None
    if not isinstance(data, dict):
        raise ConfigError("site", "the file is not a mapping", "See conf/federation.")
    return parse(Site, data, where="site")


def site_path(node_config: Mapping[str, Any], run_sites: str) -> Path | None:
    """Where this node's site file is; None for a spare node of a simulation.

    run_sites: the folder that the server of a simulation named, or "". Raises ConfigError.
    """
    if "site" in node_config:
        return Path(str(node_config["site"]))
    if not run_sites or set(node_config) != _SIMULATION_KEYS:
        raise ConfigError(
            "node-config",
            "names no site file",
            "Start the SuperNode with --node-config 'site=\"...\"'.",
        )
    files = sorted(Path(run_sites).glob("*.yaml"))
    number = int(node_config["partition-id"])
    return files[number] if number < len(files) else None
