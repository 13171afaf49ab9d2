"""Byte strings that must not occur in a transcript, and how often one occurs by chance.

What the server reads is public, or it is one of two kinds that nobody could foresee:

- *uniform bytes*: sealed messages, tags, shares and masked updates. At one place n given bytes
  occur with chance 2**(-8 n).
- *numbers with noise* (`Numbers`): tables of a party's own, counts plus noise, and opened shares
  in fewer bytes than their words have. A needle that starts anywhere covers some numbers wholly.
  Each is the one that the needle asks for with a chance of at most 2**-bits, whatever lies under
  the noise, and independently of the others; or never, where it would be beyond the limit.

So a needle of few numbers, or of small ones, may well occur where nothing leaks: one 01 and
nineteen zero bytes are the noisy cells 1, 0 and 0, or a 1 before zeros of whatever comes next,
and one run of the default campaign in nine shows them. `needle` therefore takes rows of a matrix
until they are at least ENTRIES numbers of ENTROPY bits (not near-constant) that noise shows at
one place with a chance below 2**-STRENGTH; and `chance` adds up what remains, over all needles
and places. Needles are sought in hexadecimal and base64 too, which adds next to nothing: these
forms are longer, and no number with noise looks like text.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ENTRIES = 16
ENTROPY = 16.0
STRENGTH = 60.0
SEPARATOR = bytes.fromhex("b7e151628aed2a6abf7158809cf4f3c7")
"""Between two fields: 16 bytes of the binary expansion of e, of which no needle has any."""


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """Numbers with noise in the transcript.

    size: bytes of one. limit: of its absolute value, but for a negligible chance. bits: no value
    of one is likelier than 2**-bits. places: where one may start, in all.
    """

    size: int
    limit: int
    bits: float
    places: int


def with_noise(sd: float, places: int) -> Numbers:
    """Counts in int64 plus discrete Gaussian noise, whose likeliest value has 1 / (sd sqrt(2 pi)).

    The sum over all integers k of exp(-k**2 / (2 sd**2)) is at least sd sqrt(2 pi) (Poisson
    summation). A count and its noise stay below 2**40: noise beyond would be 2**40 / sd sds away.
    """
    assert sd < 2**30
    return Numbers(size=8, limit=2**40, bits=np.log2(sd * np.sqrt(2 * np.pi)), places=places)


def in_words(size: int, width: int, places: int) -> Numbers:
    """Uniform numbers of `width` bytes in words of `size`."""
    return Numbers(size=size, limit=2 ** (8 * width), bits=8.0 * width, places=places)


def strength(needle: bytes, numbers: Numbers) -> float:
    """-log2 of a bound on the chance that numbers with noise hold the needle at one place."""
    found = np.inf
    for at in range(numbers.size):
        whole = (len(needle) - at) // numbers.size
        if whole <= 0:
            return 0.0
        asked = np.frombuffer(needle, f"<i{numbers.size}", whole, at)
        if (np.abs(asked.astype(np.float64)) <= numbers.limit).all():
            found = min(found, whole * numbers.bits)
    return float(found)


def entropy(entries: NDArray[np.generic]) -> float:
    """Bits of Shannon entropy of the entries, all together, as draws from their own frequencies."""
    _, counts = np.unique(entries, return_counts=True)
    return float(counts @ np.log2(entries.size / counts))


def needle(
    rows: NDArray[np.generic], dtype: str, noisy: Sequence[Numbers], start: int = 0
) -> bytes | None:
    """Bytes of as many rows from `start` on as make a needle; None where all of them make none."""
    rows = np.ascontiguousarray(rows.reshape(len(rows), -1), dtype=dtype)
    width = max(rows.shape[1], 1)
    stop = start + -(-ENTRIES // width)
    while stop <= len(rows):
        part = rows[start:stop]
        if entropy(part) >= ENTROPY:
            found = part.tobytes()
            if len(found) >= ENTRIES and all(strength(found, n) >= STRENGTH for n in noisy):
                return found
        stop += max(1, (stop - start) // 2)
    return None


def needles_of(
    rows: NDArray[np.generic],
    dtypes: Iterable[str],
    noisy: Sequence[Numbers],
    starts: Iterable[int] = (0,),
) -> list[bytes]:
    """The needles that start at these rows, in every format."""
    starts = list(starts)
    found = (needle(rows, dtype, noisy, start) for dtype in dtypes for start in starts)
    return [n for n in found if n is not None]


def parts_of(vector: NDArray[np.generic], *dtypes: str) -> list[bytes]:
    """Needles of a long vector, such as an update: from 200 places, one every ENTRIES numbers."""
    rows = vector[: len(vector) // ENTRIES * ENTRIES].reshape(-1, ENTRIES)
    return needles_of(rows, dtypes, (), range(min(len(rows), 200)))


def chance(wanted: Iterable[bytes], places: int, noisy: Sequence[Numbers]) -> float:
    """Bound on the chance that any of these occurs where nothing leaks.

    places: bytes of the transcript. noisy: none, where the needles are themselves uniform bytes.
    """
    total = 0.0
    for one in wanted:
        total += places * 2.0 ** (-8 * len(one))
        total += sum(n.places * 2.0 ** -strength(one, n) for n in noisy)
    return 1.001 * total


def search(fields: Sequence[bytes], wanted: dict[str, list[bytes]]) -> set[str]:
    """Names of the needles that occur in a field: as they are, in hex, or in base64."""
    text = SEPARATOR.join([*fields, b""])
    words = [np.frombuffer(text, "<u8", (len(text) - at) // 8, at) for at in range(8)]
    found = set()
    for name, plain in wanted.items():
        forms = {f for one in plain for f in _forms(one)}
        keys: dict[int, list[tuple[bytes, int]]] = {}
        for form in forms:
            at = _telling(form)
            keys.setdefault(int.from_bytes(form[at : at + 8], "little"), []).append((form, at))
        sought = np.array(sorted(keys), np.uint64)
        if not len(sought):
            continue
        for shift, view in enumerate(words):
            place = np.minimum(np.searchsorted(sought, view), len(sought) - 1)
            for hit in np.flatnonzero(sought[place] == view):
                for form, at in keys[int(view[hit])]:
                    start = 8 * int(hit) + shift - at
                    if text[max(start, 0) : start + len(form)] == form:
                        found.add(name)
    return found


def _forms(plain: bytes) -> Iterable[bytes]:
    assert len(plain) >= 8
    yield plain
    if len(plain) <= 64:
        yield plain.hex().encode()
        yield base64.b64encode(plain).rstrip(b"=")


def _telling(form: bytes) -> int:
    """Where its least repetitive eight bytes start: zeros are everywhere."""
    if len(set(form[:8])) > 5:
        return 0
    starts = range(min(len(form) - 7, 256))
    return max(starts, key=lambda at: len(set(form[at : at + 8])))
