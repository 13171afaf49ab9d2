"""From plain mappings (YAML, JSON) to frozen dataclasses, with errors that name the field.

Any frozen dataclass can be parsed; pydantic checks the types, the class's own
`__post_init__` checks the rules. Unknown keys are refused. Values never enter a message.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from math import inf, isfinite
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import ConfigDict, TypeAdapter, ValidationError

from twinweave.errors import AppError, ConfigError, ProtocolError

T = TypeVar("T")

STRICT = ConfigDict(extra="forbid", hide_input_in_errors=True, arbitrary_types_allowed=False)


class Parsed:
    """Base of every dataclass that is parsed: unknown keys are refused, values never shown."""

    __pydantic_config__ = STRICT


@cache
def _adapter(cls: Hashable) -> TypeAdapter[Any]:
    return TypeAdapter(cast("Any", cls))


def parse(cls: type[T], data: Mapping[str, Any], *, where: str = "") -> T:
    """Build `cls` from `data`. Raises ConfigError with the dotted path of each wrong field.

    A ConfigError or SchemaError raised inside a `__post_init__` keeps its words, and its class
    where it comes first; other AppErrors pass through unchanged.
    """
    try:
        return cast("T", _adapter(cast("Hashable", cls)).validate_python(data))
    except ValidationError as error:
        found = [
            _fault(e, where, data) for e in error.errors(include_input=False, include_url=False)
        ]
    # Raised out here, so that pydantic's error, which quotes the input, is no context of it.
    told = list(dict.fromkeys(map(str, found)))
    more = f" And {len(told) - MOST_FAULTS} more." if len(told) > MOST_FAULTS else ""
    raise type(found[0]).restore(" And ".join(told[:MOST_FAULTS]) + more)


MOST_FAULTS = 10
"""That one error names."""


def _fault(told: Any, where: str, data: Any) -> AppError:
    own = told.get("ctx", {}).get("error")
    if isinstance(own, AppError):
        return own
    path = ".".join(_path(told["loc"], data))
    rule = "unknown key" if told["type"] == "unexpected_keyword_argument" else told["msg"]
    return ConfigError(_dotted(where, path), rule, _REMEDY)


def _path(loc: Sequence[Any], data: Any) -> Iterator[str]:
    """The keys that lead to a fault, without the members of unions that pydantic puts between,
    and behind a value that is no mapping or list."""
    for place, part in enumerate(loc):
        inside, nested = _inside(data, part), isinstance(data, Mapping | list | tuple)
        if place and not nested:
            return
        last = place + 1 == len(loc) and isinstance(data, Mapping)  # a field that lacks
        if isinstance(part, str) and nested and not inside and not last:
            continue
        data = data[part] if inside else None
        yield str(part)


def _inside(data: Any, part: Any) -> bool:
    """Whether it is a key, or an index, of the data: a field that lacks is none."""
    if isinstance(data, Mapping):
        return part in data
    return isinstance(data, list | tuple) and isinstance(part, int) and part < len(data)


_REMEDY = "See conf/ for the fields there are and what each one takes."


def check_positive(
    where: str, conf: object, *names: str, least: float = 0.0, most: float = inf
) -> None:
    """Raise ConfigError unless each of these fields of `conf` is above 0, finite, `least` or more
    and `most` or less.

    where: what the error puts before a field's name: its place in the configuration, or "".
    """
    for name in names:
        value, field = getattr(conf, name), _dotted(where, name)
        if not 0 < value < inf:
            raise ConfigError(field, "must be positive and finite", "Give a number above 0.")
        if value < least:
            raise ConfigError(field, f"must be {least:g} or more", "Give a larger number.")
        if value > most:
            raise ConfigError(field, f"must be {most:,} or less", "Give a smaller number.")


def check_not_negative(where: str, conf: object, *names: str, most: float = inf) -> None:
    """Raise ConfigError unless each of these is 0 or more, finite, and `most` or less."""
    for name in names:
        value, field = getattr(conf, name), _dotted(where, name)
        if not 0 <= value < inf:
            raise ConfigError(field, "must be 0 or more, and finite", "Give no negative number.")
        if value > most:
            raise ConfigError(field, f"must be {most:,} or less", "Give a smaller number.")


def _dotted(*parts: str) -> str:
    return ".".join(filter(None, parts))


def load_json(text: str, what: str) -> Any:
    """JSON that came from outside. Raises ProtocolError, naming `what` and quoting nothing.

    Numbers that are infinite or none, which Python would read, are no JSON.
    """
    try:
        return json.loads(text, parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError):
        raise ProtocolError(f"{what} is not JSON. Start a new run.") from None


def read_yaml(path: Path) -> Any:
    """A file of YAML, or of JSON, whose escapes of characters beyond the basic plane YAML refuses.

    Raises OSError, UnicodeError or yaml.YAMLError.
    """
    import yaml

    text = path.read_text(encoding="utf-8")
    if text.startswith("{"):
        with suppress(ValueError):
            return json.loads(text)
    # LibYAML's parser where there is one: a site file is read for every message.
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError
    return number


def to_plain(value: Any) -> Any:
    """Return a dataclass as JSON-ready dicts, lists, strings and numbers."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(v) for v in value]
    return value


def canonical_json(value: Any) -> str:
    """Deterministic JSON of a dataclass or mapping: sorted keys, no spaces. What gets hashed."""
    return json.dumps(to_plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
