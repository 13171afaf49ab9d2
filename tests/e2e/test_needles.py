"""The search for byte strings: it finds what is planted, and noise alone does not look like it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.e2e import leaks
from tests.e2e.leaks import FALSE_ALARM
from tests.e2e.needles import (
    ENTRIES,
    ENTROPY,
    SEPARATOR,
    STRENGTH,
    chance,
    entropy,
    in_words,
    needle,
    needles_of,
    search,
    strength,
    with_noise,
)

SD = 6.0
CELLS = 400
NOISY = (with_noise(SD, 8 * CELLS),)
FORMATS = ("u1", "<i4", "<i8", "<f4", "<f8")
WEAK = b"\1" + bytes(19)


def one_hot(users: int = 60, levels: tuple[int, ...] = (5, 4, 6, 5)) -> NDArray[np.int64]:
    """Rows of a matrix as a product multiplies them."""
    rng = np.random.default_rng(11)
    found: NDArray[np.int64] = np.hstack(
        [np.eye(n, dtype=np.int64)[rng.integers(0, n, users)] for n in levels]
    )
    return found


def tables(rng: np.random.Generator) -> NDArray[np.int64]:
    """Small counts with noise, as a party sends them."""
    counts = rng.poisson(1.0, CELLS)
    noisy: NDArray[np.float64] = counts + np.rint(rng.normal(0, SD, CELLS))
    return noisy.astype(np.int64)


@pytest.mark.parametrize("form", [bytes, lambda b: b.hex().encode(), lambda b: b"x" * 3 + b])
def test_the_search_finds_what_is_planted(form: Callable[[bytes], bytes]) -> None:
    rng = np.random.default_rng(5)
    planted = rng.bytes(32)
    hay = [rng.bytes(5000), rng.bytes(700) + form(planted) + rng.bytes(41), b""]
    assert search(hay, {"planted": [rng.bytes(32), planted], "not": [rng.bytes(16)]}) == {"planted"}
    assert search([hay[0], planted[:31]], {"planted": [planted]}) == set()


@pytest.mark.parametrize("at", range(9))
def test_the_search_finds_the_last_bytes_of_a_field(at: int) -> None:
    planted = bytes(range(100, 120))
    assert search([b"x" * at + planted], {"planted": [planted]}) == {"planted"}


def test_no_needle_goes_from_one_field_to_the_next() -> None:
    """Zeros between the fields would make a needle of a 1 at the end and a table of zeros."""
    fields = [b"\1" + bytes(7), bytes(64)]
    assert search(fields, {"weak": [WEAK]}) == set()
    assert search([b"".join(fields)], {"weak": [WEAK]}) == {"weak"}
    assert len(set(SEPARATOR)) == len(SEPARATOR) == 16


def test_a_near_constant_needle_occurs_by_chance_and_is_none() -> None:
    """Against 400 cells of small counts its chance is a few per cent; the bound says so."""
    rng = np.random.default_rng(13)
    hits = sum(bool(search([tables(rng).tobytes()], {"weak": [WEAK]})) for _ in range(300))
    assert 1 <= hits / 300 * 100 <= 20
    assert chance([WEAK], 8 * CELLS, NOISY) > hits / 300
    row = np.frombuffer(WEAK, np.uint8)[None]
    assert needle(row, "u1", NOISY) is None
    assert entropy(row) < ENTROPY
    assert strength(WEAK, NOISY[0]) < STRENGTH


@pytest.mark.parametrize("dtype", FORMATS)
def test_every_format_of_a_matrix_has_needles_that_are_found_and_never_by_chance(
    dtype: str,
) -> None:
    matrix = one_hot()
    found = needles_of(matrix, [dtype], NOISY, range(40))
    assert len(found) > 30
    assert all(len(n) >= ENTRIES * np.dtype(dtype).itemsize for n in found)
    assert chance(found, 8 * CELLS, NOISY) < 1e-11
    rng = np.random.default_rng(17)
    for _ in range(50):
        assert search([tables(rng).tobytes()], {"matrix": found}) == set()
    sent = matrix.astype(dtype).tobytes()
    assert search([tables(rng).tobytes(), b"head" + sent], {"matrix": found}) == {"matrix"}


def test_the_checker_of_transcripts_raises_a_false_alarm_less_than_once_in_10_to_the_9() -> None:
    assert FALSE_ALARM < 1e-9


def test_the_checker_refuses_to_answer_where_chance_alone_would_show_a_needle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nobody: Any = None
    fields = [("", bytes(8 * CELLS))]
    monkeypatch.setattr(leaks, "_noisy", lambda *_: NOISY)
    sound = needles_of(one_hot(), FORMATS, NOISY, range(40))
    monkeypatch.setattr(leaks, "needles", lambda *_: {"matrix": sound})
    assert leaks._occurring(nobody, nobody, fields) == set()
    sound.append(WEAK)
    with pytest.raises(AssertionError):
        leaks._occurring(nobody, nobody, fields)


def test_constant_rows_make_no_needle() -> None:
    assert needles_of(np.zeros((500, 3)), FORMATS, NOISY) == []
    assert needles_of(np.ones((2, 200)), FORMATS, NOISY) == []


def test_strength_is_the_least_over_all_alignments() -> None:
    bits = NOISY[0].bits
    assert 2**-bits == pytest.approx(1 / (SD * np.sqrt(2 * np.pi)))
    cells = np.arange(1, 11, dtype="<i8")
    assert strength(cells.tobytes(), NOISY[0]) == 9 * bits  # one byte late: 256 times as large
    assert strength(b"\1" * 80, NOISY[0]) == np.inf
    assert strength(bytes(7), NOISY[0]) == 0
    coins = in_words(4, 2, 1000)
    assert strength(np.arange(1, 9, dtype="<u4").tobytes(), coins) == 7 * 16
    assert strength(np.full(8, (1 << 20) + 1, "<u4").tobytes(), coins) == np.inf


def test_the_likeliest_value_of_noise_is_as_likely_as_the_bound_says() -> None:
    k = np.arange(-200, 201)
    for sd in (0.3, 1.0, SD):
        likeliest = 1 / np.exp(-(k**2) / (2 * sd**2)).sum()
        assert likeliest <= 2 ** -with_noise(sd, 1).bits * (1 + 1e-12)
