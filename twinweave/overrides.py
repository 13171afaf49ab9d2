"""What is said on a command line and refused by Hydra, in one line that a user can act on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from twinweave.errors import ConfigError

EVERY = "Every field: python -m scripts.run --cfg job."
_SHAPE = "Write FIELD=VALUE; quote for the shell what has spaces or commas."
_CHOICES = "Choose of: {}."


def refused(error: Exception, overrides: Sequence[str], folder: Path) -> ConfigError:
    """What Hydra or OmegaConf raised for these overrides, in our words.

    folder: of the configuration: a folder a group, a file a choice.
    """
    from hydra.errors import MissingConfigException, OverrideParseException

    groups = (group for group in folder.iterdir() if group.is_dir())
    choices = {group.name: sorted(f.stem for f in group.glob("*.yaml")) for group in groups}
    text = "\n".join(str(each) for each in (error, error.__cause__) if each)
    if found := re.search(r"(?:override|delete from config\.) '([^']+)'", text):
        key = found[1].partition("=")[0].lstrip("+~")
        if "struct" in text or "defaults list" in text or "does not exist" in text:
            return ConfigError(
                key, "there is no such field", _meant(key, _fields(overrides, folder, choices))
            )
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        options = choices.get(group, ()) if error.options is None else error.options
        remedy = _CHOICES.format(", ".join(options))
        return ConfigError(group, f"there is no choice {choice!r}", remedy)
    if isinstance(error, OverrideParseException):
        return ConfigError(_key(error.override), "cannot be read as an override", _SHAPE)
    if "--multirun" in text:
        several = [o for o in overrides if "," in o or "(" in o] or list(overrides)
        remedy = "For a sweep add -m; a list is written [a,b]."
        return ConfigError(_key(several[0]), "has several values, but this is one run", remedy)
    for override in overrides:
        key, _, value = override.partition("=")
        if key in choices and "group" in text and not isinstance(error, MissingConfigException):
            remedy = _CHOICES.format(", ".join(choices[key]))
            return ConfigError(key, f"{value or 'nothing'} is not the name of a choice", remedy)
    first = (text.splitlines() or [type(error).__name__])[0].rstrip(".")
    key = str(getattr(error, "full_key", None) or "overrides")
    return ConfigError(key, first, EVERY)


def _key(override: str) -> str:
    """What stands left of the first equals sign, for what can be no name."""
    return override.lstrip("+~").partition("=")[0]


def _meant(key: str, known: Sequence[str]) -> str:
    """The field that a misspelt one is most like, else where all of them are."""
    parent, _, last = key.rpartition(".")
    beside = {n.rpartition(".")[2]: n for n in known if n.rpartition(".")[0] == parent}
    near = get_close_matches(key, known, n=1, cutoff=0.85)
    near = near or [beside[n] for n in get_close_matches(last, beside, n=1, cutoff=0.7)]
    alike = [name for name in known if name.rpartition(".")[2] == last]
    near = near or (alike if len(alike) == 1 else [])
    return f"Did you mean {near[0]}? {EVERY}" if near else EVERY


def _fields(
    overrides: Sequence[str], folder: Path, choices: Mapping[str, Sequence[str]]
) -> list[str]:
    """Dotted names of the fields there are, with the groups that were chosen."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    chosen = [o for o in overrides if o.partition("=")[0] in choices]
    GlobalHydra.instance().clear()  # Hydra's own, of the command line that it refused
    with initialize_config_dir(config_dir=str(folder), version_base=None):
        for tried in (chosen, []):
            with suppress(Exception):  # another word on the line may be wrong too
                return [*_dotted(OmegaConf.to_container(compose("run", overrides=tried)))]
    return []


def _dotted(data: Any, path: str = "") -> Iterator[str]:
    """Dotted names of all fields of nested mappings, inner ones too."""
    if path:
        yield path
    if isinstance(data, Mapping):
        for name, value in data.items():
            yield from _dotted(value, f"{path}.{name}" if path else str(name))
