"""Message dataclasses as flat named scalars and arrays: one walk for every transport.

A field is a scalar (str, int, float, bool, bytes), an array, or a dict[str, …] of bytes,
ints, strings or arrays; a dict's entry travels under "field/key". What a message class does
not declare is refused, as is a missing field or a wrong type (STYLE 9).
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Hashable, Mapping
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
    for field in dataclasses.fields(message):
        value = getattr(message, field.name)
        entries = (
            {f"{field.name}/{key}": v for key, v in value.items()}
            if isinstance(value, dict)
            else {field.name: value}
        )
        for name, entry in entries.items():
            if isinstance(entry, np.ndarray):
                arrays[name] = entry
            else:
                scalars[name] = entry
    return scalars, arrays


def build(cls: type[M], scalars: Mapping[str, Any], arrays: Mapping[str, Array]) -> M:
    """(scalars, arrays) -> message. Raises ProtocolError on anything unexpected."""
    kinds = _field_kinds(cast("Hashable", cls))
    values: dict[str, Any] = {name: {} for name, (is_dict, _) in kinds.items() if is_dict}
    for name, value in [*scalars.items(), *arrays.items()]:
        field, _, key = name.partition("/")
        is_dict, kind = kinds.get(field, (None, None))
        if kind is None or is_dict != bool(key):
            raise ProtocolError(f"{cls.__name__}: unknown field. Run the same version everywhere.")
        if type(value) is not kind and not (kind is np.ndarray and isinstance(value, np.ndarray)):
            raise ProtocolError(
                f"{cls.__name__}.{field}: wrong type. Run the same version everywhere."
            )
        if is_dict:
            values[field][key] = value
        else:
            values[field] = value
    if missing := sorted(set(kinds) - set(values)):
        raise ProtocolError(f"{cls.__name__}: {', '.join(missing)} missing. The message is cut.")
    return cls(**values)


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


@cache
def _field_kinds(cls: Hashable) -> dict[str, tuple[bool, type]]:
    """Field name -> (is a dict, exact type of the value or of the dict's values)."""
    return {name: _kind(hint) for name, hint in get_type_hints(cast("Any", cls)).items()}


def _kind(hint: Any) -> tuple[bool, type]:
    origin = get_origin(hint)
    if origin is dict:
        return True, _kind(get_args(hint)[1])[1]
    # From numpy 2.5 on NDArray is a type alias: its __value__ is what it stands for.
    if np.ndarray in (origin, get_origin(getattr(origin, "__value__", None))):
        return False, np.ndarray
    assert hint in (str, int, float, bool, bytes), hint
    return False, hint
