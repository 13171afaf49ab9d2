"""A run's configuration as Flower hands it over: a JSON string, or overrides for Hydra."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twinweave.config import RunConf
from twinweave.errors import ConfigError

CONF = Path(__file__).resolve().parent.parent / "conf"


def compose(overrides: list[str]) -> dict[str, Any]:
    """Compose conf/run.yaml with overrides. Raises ConfigError for what Hydra refuses."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        with initialize_config_dir(config_dir=str(CONF), version_base=None):
            return plain(hydra_compose("run", overrides=overrides))
    except (HydraException, OmegaConfBaseException) as error:
        first = str(error).splitlines()[0]
        raise ConfigError("overrides", first, "See conf/ for groups and fields.") from None


def plain(config: Any) -> dict[str, Any]:
    """A composed Hydra configuration as plain mappings, resolved, without Hydra's own part."""
    from omegaconf import OmegaConf, open_dict
    from omegaconf.errors import OmegaConfBaseException

    with open_dict(config):
        config.pop("hydra", None)
    # The parties may run in another folder: what is relative here must not travel so.
    if OmegaConf.select(config, "data.root") is not None:
        config.data.root = str(Path(config.data.root).resolve())
    try:
        data = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or "overrides"
        first = str(error).splitlines()[0]
        raise ConfigError(str(key), first, "Set it on the command line.") from None
    assert isinstance(data, dict)
    return {str(key): value for key, value in data.items()}


def from_run_config(run_config: Mapping[str, Any]) -> RunConf:
    """`config` (JSON, from scripts.run) or `overrides` (from `flwr run`) -> RunConf."""
    text = str(run_config.get("config", ""))
    if text:
        return RunConf.parse(json.loads(text))
    return RunConf.parse(compose(shlex.split(str(run_config.get("overrides", "")))))
