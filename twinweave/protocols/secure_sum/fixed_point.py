"""Numbers as ring elements: fixed point with a checked range.

A value becomes round(value * 2**fractional_bits) in two's complement, ties to even. Each
party's part of the ring is the whole signed range over the number of parties, so no sum of
values that were all accepted can wrap; a value outside it, a NaN or an infinity is an error.

Rounding is deterministic: the noise of differential privacy is added before, so unbiased
(stochastic) rounding would cost time and protect nothing more. An encoded value is off by at
most 2**-(fractional_bits + 1), a sum of n by n times that (and float64 when it is decoded).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import ProtocolError
from twinweave.parsing import Parsed
from twinweave.protocols.ring import Ring, dtype_of

_CHUNK = 1 << 15  # values encoded at once: the float64 scratch stays in the cache


@dataclass(frozen=True, kw_only=True)
class FixedPoint(Parsed):
    """The encoding that all parties of a sum use. bits: 32 or 64, the size of the ring."""

    bits: Literal[32, 64]
    fractional_bits: int
    n_parties: int

    def __post_init__(self) -> None:
        dtype_of(self.bits)
        if self.n_parties < 1:
            raise ProtocolError("fixed point: a sum has one party or more. Check the parties.")
        if not 0 <= self.fractional_bits <= self.bits - 2 or self._units < 1:
            raise ProtocolError(
                f"fixed point: {self.fractional_bits} fractional bits leave no room for a value "
                f"in {self.bits} bits. Choose fewer."
            )

    @classmethod
    def fitting(cls, bound: float, *, n_parties: int, bits: Literal[32, 64]) -> FixedPoint:
        """The finest encoding that accepts every value of magnitude `bound` or less.

        Raises ProtocolError when not even whole numbers fit.
        """
        if not (math.isfinite(bound) and bound > 0):
            raise ProtocolError("fixed point: the bound is not a positive number. Give one.")
        whole = cls(bits=bits, fractional_bits=0, n_parties=n_parties)
        spare = math.floor(math.log2(whole._units / bound)) if bound <= whole._units else -1
        while spare >= 0 and bound * 2.0**spare + 0.5 > whole._units:
            spare -= 1
        if spare < 0:
            raise ProtocolError(
                f"fixed point: the bound does not fit into {bits} bits for {n_parties} parties. "
                "Use 64 bits or a smaller bound."
            )
        return cls(bits=bits, fractional_bits=min(spare, bits - 2), n_parties=n_parties)

    @property
    def _units(self) -> int:
        return ((1 << (self.bits - 1)) - 1) // self.n_parties

    @property
    def limit(self) -> float:
        """The largest magnitude that one party's value may have."""
        units = float(self._units)
        # float64 has 53 bits: above that the nearest float may lie outside the ring.
        if int(units) > self._units:
            units = math.nextafter(units, 0.0)
        return units * 2.0**-self.fractional_bits

    @property
    def error(self) -> float:
        """The largest rounding error of one party's value."""
        return 2.0 ** -(self.fractional_bits + 1)

    def encode(self, values: NDArray[np.floating[Any]], out: Ring | None = None) -> Ring:
        """Encode float32 or float64 (d,) as uint32 or uint64 (d,), into `out` where given.

        Raises ProtocolError for another dtype or shape and for a value outside +-`limit`, a NaN
        or an infinity; `out` is then of no use.
        """
        if values.ndim != 1 or values.dtype not in (np.float32, np.float64):
            raise ProtocolError("fixed point: not a float32 or float64 vector. Flatten it first.")
        words = np.empty(len(values), dtype_of(self.bits)) if out is None else out
        if words.shape != values.shape or words.dtype != dtype_of(self.bits):
            raise ProtocolError("fixed point: the output has another shape or dtype.")
        signed = words.view(f"i{self.bits // 8}")
        scale, units = 2.0**self.fractional_bits, self.limit * 2.0**self.fractional_bits
        scratch = np.empty(min(_CHUNK, len(values)))
        with np.errstate(over="ignore", invalid="ignore"):
            for start in range(0, len(values), _CHUNK):
                part = values[start : start + _CHUNK]
                scaled = np.multiply(part, scale, out=scratch[: len(part)], dtype=np.float64)
                np.rint(scaled, out=scaled)
                # Written so that a NaN fails it.
                if not (scaled.min() >= -units and scaled.max() <= units):
                    raise ProtocolError(self._refusal())
                np.copyto(signed[start : start + len(part)], scaled, casting="unsafe")
        return words

    def _refusal(self) -> str:
        return (
            f"fixed point: a value is not a number or exceeds {self.limit:.6g} in magnitude "
            f"({self.bits} bits, {self.fractional_bits} of them fractional, {self.n_parties} "
            "parties). Clip closer, use fewer fractional bits, or 64 bits."
        )

    def decode(self, total: Ring) -> NDArray[np.float64]:
        """A sum of at most n_parties encoded vectors, (d,) -> float64 (d,)."""
        if total.dtype != dtype_of(self.bits):
            raise ProtocolError("fixed point: the sum has another dtype. Use the same encoding.")
        decoded = total.view(f"i{self.bits // 8}").astype(np.float64)
        decoded *= 2.0**-self.fractional_bits
        return decoded
