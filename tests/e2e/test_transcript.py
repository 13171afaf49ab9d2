"""Over whole runs: nothing the server can read is an id, a tag blinded once, a peer's matrix,
a secret, or a count without noise. Each broken variant must be caught by the same checker.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.campaigns import TRAINING, configure, mapping
from tests.e2e.clear import Clear
from tests.e2e.leaks import leaks
from tests.e2e.needles import parts_of, search
from tests.whole_run import readable, run, silence
from twinweave.config import RunConf
from twinweave.privacy.mechanisms import release_table
from twinweave.protocols.alignment import tags as alignment
from twinweave.protocols.channel import keys as channel
from twinweave.protocols.products import coins, opening, party
from twinweave.protocols.secure_sum import masking
from twinweave.protocols.secure_sum.masking import MaskingParty

COINS_AND_GAUSSIAN = "protocol.coin_limit=10_000"  # two tables of 11 cells with coins


@pytest.mark.curious("server")
@pytest.mark.parametrize("method", ["ristretto", "prf"])
def test_nothing_leaks(tmp_path: Path, clear: Clear, method: str) -> None:
    conf = configure(tmp_path, COINS_AND_GAUSSIAN, f"protocol.alignment={method}")
    assert leaks(run(conf), clear) == set()


def caught(tmp_path: Path, clear: Clear, method: str = "ristretto") -> set[str]:
    conf = configure(tmp_path, COINS_AND_GAUSSIAN, f"protocol.alignment={method}")
    return leaks(run(conf), clear)


@pytest.fixture
def channel_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "seal", lambda plaintext, **_: bytes(plaintext))
    monkeypatch.setattr(channel, "open_sealed", lambda sealed, **_: bytes(sealed))


@pytest.mark.broken("server", "outsider")
def test_channel_off_is_caught(tmp_path: Path, clear: Clear, channel_off: None) -> None:
    found = caught(tmp_path, clear)
    assert {"tag blinded once", "masked matrix", "a message that is not sealed"} <= found


@pytest.mark.broken("server")
def test_channel_off_shows_the_group_key(tmp_path: Path, clear: Clear, channel_off: None) -> None:
    assert {"secret", "masked matrix"} <= caught(tmp_path, clear, "prf")


@pytest.mark.broken("server")
def test_blinding_once_is_caught(
    tmp_path: Path, clear: Clear, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alignment.Ristretto, "hop", lambda self, tags, secret: tags)
    assert "tag blinded once" in caught(tmp_path, clear)


@pytest.mark.broken("server")
def test_hashed_ids_for_tags_are_caught(
    tmp_path: Path, clear: Clear, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keyed hash without its key."""
    import hashlib

    class Unkeyed:
        sha512 = hashlib.sha512

        @staticmethod
        def blake2b(data: Any, digest_size: Any, key: Any) -> Any:
            return hashlib.blake2b(data, digest_size=digest_size)

    monkeypatch.setattr(alignment, "hashlib", Unkeyed)
    assert "hash of an id" in caught(tmp_path, clear, "prf")


@pytest.mark.broken("server")
def test_local_noise_off_is_caught(
    tmp_path: Path, clear: Clear, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(party, "release_table", lambda counts, *_: np.asarray(counts))
    assert {"noise: local gaussian", "exact table"} <= caught(tmp_path, clear)


@pytest.mark.broken("server")
def test_local_noise_of_the_wrong_scale_is_caught(
    tmp_path: Path, clear: Clear, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drawing less than was charged takes a forged receipt."""
    real = release_table

    def weaker(counts: Any, event: Any, receipt: Any) -> Any:
        multiplier = event.mechanism.noise_multiplier / 1.6
        less = replace(event, mechanism=replace(event.mechanism, noise_multiplier=multiplier))
        return real(counts, less, replace(receipt, events=(less,)))

    monkeypatch.setattr(party, "release_table", weaker)
    assert caught(tmp_path, clear) == {"noise: local gaussian"}


@pytest.mark.broken("server", "together-noise")
def test_gaussian_noise_of_one_party_only_is_caught(
    tmp_path: Path, clear: Clear, monkeypatch: pytest.MonkeyPatch
) -> None:
    silence(monkeypatch, "advertiser")
    assert caught(tmp_path, clear) == {"noise: cross gaussian"}


@pytest.mark.broken("server")
def test_coins_off_are_caught(
    tmp_path: Path, clear: Clear, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every cell gets the mean number of heads."""

    def fixed(coins: Any, *_: Any) -> Any:
        return np.full(coins.cells, coins.rounds // 2, np.uint32)

    monkeypatch.setattr(coins, "first_heads", fixed)
    monkeypatch.setattr(coins, "second_heads", lambda c, *_: np.zeros(c.cells, np.uint32))
    assert "noise: coins" in caught(tmp_path, clear)


@pytest.mark.broken("server")
def test_shares_without_the_zero_sharing_are_caught(
    tmp_path: Path, clear: Clear, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dealer could take its own randomness off and read R^T X."""

    monkeypatch.setattr(opening, "_rerandomised", lambda values, key, add: values)
    assert caught(tmp_path, clear) == {"shares: not masked against the dealer"}


# --- training ----------------------------------------------------------------------------


@pytest.fixture
def updates(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every update before it is protected: float32 (parameters,)."""
    seen: list[Any] = []
    real = MaskingParty.protect

    def protect(self: Any, values: Any, round_: int, terms: str) -> Any:
        seen.append((values.copy(), self.plan.encoding))
        return real(self, values, round_, terms)

    monkeypatch.setattr(MaskingParty, "protect", protect)
    return seen


def trained(tmp_path: Path, clear: Clear, updates: list[Any]) -> set[str]:
    """What the checker finds in a run with two rounds of training."""
    once = "workload.adaptive=never"  # one pass of tables, as the search for leaks knows it
    data = mapping(tmp_path, COINS_AND_GAUSSIAN, "privacy.epsilon=8", once)
    data["generator"] = TRAINING
    data["privacy"]["shares"] |= {"measurement": 0.7, "training": 0.3}
    ran = run(RunConf.parse(data))
    assert len(updates) == 4
    parts = []
    for values, encoding in updates:
        assert np.abs(values).max() > 0
        parts += parts_of(values, "<f4", "<f8") + parts_of(encoding.encode(values), "<u4")
    assert parts
    text = [data for _, data in readable(ran.messages)]
    return leaks(ran, clear) | search(text, {"update": parts})


@pytest.mark.curious("server-updates")
def test_training_shows_no_update(tmp_path: Path, clear: Clear, updates: list[Any]) -> None:
    assert trained(tmp_path, clear, updates) == set()


@pytest.mark.broken("server-updates")
def test_masks_off_are_caught(
    tmp_path: Path, clear: Clear, updates: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(masking, "apply_masks", lambda words, plus, minus: None)
    assert trained(tmp_path, clear, updates) == {"update", "an update that is not masked"}
