"""Message dataclasses as flat named scalars and arrays: one walk for every transport.

A field is a scalar (str, int, float, bool, bytes), an array, a dict[str, …] of bytes, ints,
strings or arrays, or another such dataclass; a dict's entry travels under "field/key", an inner
field under "field.inner". What a message class does not declare is refused, as is a missing
field or a wrong type.
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Hashable, Iterable, Iterator, Mapping
from functools import cache
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import ProtocolError

M = TypeVar("M")
Scalar = str | int | float | bool | bytes
Array = NDArray[Any]


def flatten(message: Any) -> tuple[dict[str, Scalar], dict[str, Array]]:
    """Message dataclass -> (scalars, arrays) by name."""
    scalars: dict[str, Scalar] = {}
    arrays: dict[str, Array] = {}
    for name, entry in _entries(message):
        if isinstance(entry, np.ndarray):
            arrays[name] = entry
        else:
            scalars[name] = entry
    return scalars, arrays


def _entries(message: Any) -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(message):
        value = getattr(message, field.name)
        if isinstance(value, dict):
            yield from ((f"{field.name}/{key}", entry) for key, entry in value.items())
        elif dataclasses.is_dataclass(value):
            yield from ((f"{field.name}.{name}", entry) for name, entry in _entries(value))
        else:
            yield field.name, value


def build(cls: type[M], scalars: Mapping[str, Any], arrays: Mapping[str, Array]) -> M:
    """(scalars, arrays) -> message. Raises ProtocolError on anything unexpected."""
    return _built(cls, {**scalars, **arrays})


def _built(cls: type[M], entries: Mapping[str, Any]) -> M:
    kinds = _fields(cast("Hashable", cls))
    inner: dict[str, dict[str, Any]] = {n: {} for n, k in kinds.items() if k.shape is not None}
    values: dict[str, Any] = {}
    for name, value in entries.items():
        field, mark, key = _split(name)
        kind = kinds.get(field)
        if kind is None or mark != (kind.shape or ""):
            raise ProtocolError(f"{cls.__name__}: unknown field. Run the same version everywhere.")
        if kind.shape == ".":
            inner[field][key] = value
            continue
        if type(value) is not kind.type and not (
            kind.type is np.ndarray and isinstance(value, np.ndarray)
        ):
            raise ProtocolError(f"{cls.__name__}.{field}: wrong type. Run one version everywhere.")
        if kind.shape == "/":
            inner[field][key] = value
        else:
            values[field] = value
    for field, found in inner.items():
        kind = kinds[field]
        values[field] = found if kind.shape == "/" else _built(kind.type, found)
    if missing := sorted(set(kinds) - set(values)):
        raise ProtocolError(f"{cls.__name__}: {', '.join(missing)} missing. The message is cut.")
    return cls(**values)


def _split(name: str) -> tuple[str, str, str]:
    """(field, "/" or "." or "", rest): the first mark decides; a dict's keys may hold both."""
    found = [(at, mark) for mark in "/." if (at := name.find(mark)) >= 0]
    if not found:
        return name, "", ""
    at, mark = min(found)
    return name[:at], mark, name[at + 1 :]


def exactly(found: Mapping[str, Any], expected: Iterable[str], what: str) -> None:
    """Raise ProtocolError unless a message's dict has these entries, and no other."""
    if set(found) != set(expected):
        raise ProtocolError(f"{what}: not those that the plan asks for. Start a new run.")


def to_bytes(message: Any) -> bytes:
    """Message as one byte string (for a party's own reply store)."""
    scalars, arrays = flatten(message)
    texts = {k: v for k, v in scalars.items() if not isinstance(v, bytes)}
    blobs = {k: np.frombuffer(v, np.uint8) for k, v in scalars.items() if isinstance(v, bytes)}
    buffer = io.BytesIO()
    named = {f"a:{k}": v for k, v in arrays.items()} | {f"b:{k}": v for k, v in blobs.items()}
    np.savez(buffer, **{"_": np.array(json.dumps(texts)), **named})
    return buffer.getvalue()


def from_bytes(cls: type[M], data: bytes) -> M:
    """Inverse of `to_bytes`."""
    with np.load(io.BytesIO(data), allow_pickle=False) as stored:
        scalars: dict[str, Any] = json.loads(str(stored["_"]))
        scalars |= {k[2:]: stored[k].tobytes() for k in stored.files if k.startswith("b:")}
        arrays = {k[2:]: stored[k] for k in stored.files if k.startswith("a:")}
    return build(cls, scalars, arrays)


@dataclasses.dataclass(frozen=True)
class _Kind:
    """type: of the value, or of a dict's values. shape: "/" a dict, "." a dataclass, or None."""

    type: Any
    shape: str | None = None


@cache
def _fields(cls: Hashable) -> dict[str, _Kind]:
    return {name: _kind(hint) for name, hint in get_type_hints(cast("Any", cls)).items()}


def _kind(hint: Any) -> _Kind:
    origin = get_origin(hint)
    if origin is dict:
        return _Kind(type=_kind(get_args(hint)[1]).type, shape="/")
    # From numpy 2.5 on NDArray is a type alias: its __value__ is what it stands for.
    if np.ndarray in (origin, get_origin(getattr(origin, "__value__", None))):
        return _Kind(type=np.ndarray)
    if dataclasses.is_dataclass(hint):
        return _Kind(type=hint, shape=".")
    if hint not in (str, int, float, bool, bytes):
        raise TypeError(f"{hint} cannot travel")
    return _Kind(type=hint)
