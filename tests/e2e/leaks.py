"""The checker of transcripts: does what the server can read hold anything it must not?

`leaks` looks for exact byte strings (ids, tags blinded once, matrices, secrets) in every field
of every message, and for statistics that must not be there (counts without noise, shares or
sealed messages that are not uniform). It knows all the parties' secrets.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable

import numpy as np
from scipy import stats

from tests.e2e.clear import Clear, deviations
from tests.statistics import FALSE_ALARM, p_variance
from tests.whole_run import Ran, readable
from twinweave.protocols.alignment import ristretto
from twinweave.protocols.alignment.tags import Ristretto
from twinweave.protocols.channel import keys as channel
from twinweave.protocols.channel.identity import Identity
from twinweave.protocols.keystream import encode_context, hkdf
from twinweave.protocols.products import cross_tables as ct
from twinweave.protocols.products.coins import modulus_mask, word_bytes
from twinweave.protocols.products.dealt import DealtParty
from twinweave.protocols.products.pair import openings, product_of

GIVEN = {  # what a party may send: everything else is a leak by its name alone
    "query.setup": {"scalars.hello", "scalars.guard"},
    "query.blind": {"scalars.sealed/*"},
    "query.match": {"scalars.sealed/*", "arrays.tags/*"},
    "query.share": {"scalars.sealed/*", "arrays.tables/*"},
    "query.open": {"arrays.shares/*", "scalars.sealed/*", "scalars.dealt/*"},
    "train.generator": {"arrays.words", "scalars.sealed/*", "scalars.secrets/*"},
    "train.reveal": {"arrays.words", "scalars.secrets/*"},
}


def leaks(ran: Ran, clear: Clear) -> set[str]:
    """Names of what the server could read and should not; empty for a sound run."""
    fields = list(readable(ran.messages))
    found = _unknown_fields(fields) | _not_uniform(fields, words=_summing(ran) == "masking")
    found |= search([data for _, data in fields], needles(ran, clear))
    found |= {f"noise: {kind}" for kind in _wrong_noise(ran, clear)}
    found |= {f"shares: {what}" for what in _readable_shares(ran)}
    return found


# --- byte strings ------------------------------------------------------------------------


def needles(ran: Ran, clear: Clear) -> dict[str, list[bytes]]:
    """What must not occur, by name; at least eight bytes each."""
    passes = [ran.party(name) for name in ran.spec.parties]
    parties = [here.party for here in passes]
    found: dict[str, list[bytes]] = {
        "id": [],
        "hash of an id": [],
        "tag blinded once": [],
        "matrix": [],
        "secret": [],
        "exact table": [],
    }
    for here in passes:
        party, joined = here.party, here.party.state.joined
        ids = [str(i).encode() for i in party.table.ids]
        found["id"] += ids
        found["hash of an id"] += _hashes(ids)
        for digest in (joined.fingerprint, joined.contents):
            found["hash of an id"].append(bytes.fromhex(digest))
        found["tag blinded once"] += _tags(parties, party.table.ids, ids, ran.spec.run)
        found["matrix"] += _matrices(here)
        found["secret"] += _secrets(here)
    for planned in ran.spec.plan:
        exact = clear.table(planned.query)
        if np.count_nonzero(exact) > 6:
            found["exact table"] += _as(exact, "<i8", "<i4", "<u4", "<f8", "<f4")
            found["exact table"] += _as(exact.T, "<i8", "<f8")
    return found


def search(fields: list[bytes], wanted: dict[str, list[bytes]]) -> set[str]:
    """Names of the needles that occur in a field: as they are, in hex, or in base64."""
    text = b"\0\0\0\0".join(fields) + bytes(16)
    words = [np.frombuffer(text, "<u8", (len(text) - at) // 8, at) for at in range(8)]
    found = set()
    for name, plain in wanted.items():
        forms = {f for needle in plain for f in _forms(needle)}
        keys: dict[int, list[tuple[bytes, int]]] = {}
        for form in forms:
            at = _telling(form)
            keys.setdefault(int.from_bytes(form[at : at + 8], "little"), []).append((form, at))
        sought = np.array(sorted(keys), np.uint64)
        for shift, view in enumerate(words):
            place = np.minimum(np.searchsorted(sought, view), len(sought) - 1)
            for hit in np.flatnonzero(sought[place] == view):
                for form, at in keys[int(view[hit])]:
                    start = 8 * int(hit) + shift - at
                    if text[max(start, 0) : start + len(form)] == form:
                        found.add(name)
    return found


def _forms(needle: bytes) -> Iterable[bytes]:
    assert len(needle) >= 8
    yield needle
    if len(needle) <= 64:
        yield needle.hex().encode()
        yield base64.b64encode(needle).rstrip(b"=")


def _telling(form: bytes) -> int:
    """Where its least repetitive eight bytes start: zeros are everywhere."""
    if len(set(form[:8])) > 5:
        return 0
    starts = range(min(len(form) - 7, 256))
    return max(starts, key=lambda at: len(set(form[at : at + 8])))


def _hashes(ids: list[bytes]) -> list[bytes]:
    names = ("md5", "sha1", "sha256", "sha512", "blake2b", "sha3_256")
    found = [hashlib.new(name, one).digest() for name in names for one in ids]
    for size in (8, 16, 32):
        found += [hashlib.blake2b(one, digest_size=size).digest() for one in ids]
    return found


def _tags(parties, ids, raw: list[bytes], run: str) -> list[bytes]:
    """H(id), and H(id) under one party's key alone, either party's."""
    domain = encode_context("twinweave ristretto alignment 1", run)
    uniform = b"".join(hashlib.sha512(domain + one).digest() for one in raw)
    bare = ristretto.from_uniform(np.frombuffer(uniform, np.uint8).reshape(-1, 64))
    found = [row.tobytes() for row in bare]
    for party in parties:
        once = Ristretto(run_id=run).start(ids, party.secret)[1]
        found += [row.tobytes() for row in once]
    return found


def _matrices(here) -> list[bytes]:
    """Rows of X and, with a dealer, of X + R for every peer; the codes that X is made of."""
    found: list[bytes] = []
    party, state = here.party, here.state
    for peer in here.peers:
        pair = here.pair(peer)
        if state.seeds:
            found += [row.tobytes() for row in DealtParty(here).masked(peer)]
        dense = here.blocks(pair).dense(pair.bits)
        own = dense[state.slots[:40]].astype(np.int64)
        for row in own:
            found += _as(row, "u1", "<i4", "<i8", "<f4", "<f8")
    codes = party.table.codes
    for order in (slice(None), state.aligned.order, np.argsort(state.slots)):
        rows = codes[order]
        for column in rows.T:
            found += _as(column[:64], "u1", "<i4", "<i8")
        found += _as(rows[:16], "u1", "<i4", "<i8")
    return found


def _secrets(here) -> list[bytes]:
    party, run = here.party, here.party.run
    private, _ = party._own_key
    found = [
        party.secret,
        private.private_bytes_raw(),
        Identity.load(party.site.identity)._key.private_bytes_raw(),
        channel.make_group_key(party.secret, run),
        hkdf(party.secret, "alignment scalar", run),
        hkdf(party.secret, "alignment order", run),
        Ristretto(run_id=run)._scalar(party.secret),
        hkdf(party.secret, "secure sums"),
    ]
    for peer in here.peers:
        keys = party.keys(peer)
        found.append(hkdf(party.secret, "bfv", peer, str(here.state.step)))
        found += [keys.root, channel.pair_secret(keys, "open cross tables")]
    return found


def _as(array: np.ndarray, *dtypes: str) -> list[bytes]:
    made = [np.ascontiguousarray(array, dtype=d).tobytes() for d in dtypes]
    return [m for m in made if len(m) >= 8]


# --- names and uniformity ----------------------------------------------------------------


def _unknown_fields(fields: list[tuple[str, bytes]]) -> set[str]:
    found = set()
    for where, _ in fields:
        phase, _, sender, *_, name = where.split(" ")
        general = name.split("/")[0] + ("/*" if "/" in name else "")
        if sender == "node" and general not in GIVEN[phase]:
            found.add(f"unknown field {general}")
    return found


def _summing(ran: Ran) -> str:
    return ran.spec.training.secure_sum if ran.spec.training else ""


def _not_uniform(fields: list[tuple[str, bytes]], *, words: bool) -> set[str]:
    """Sealed messages and final tags look like noise, byte by byte.

    words: so do the words of an update (they are no ciphertexts, whose format is not uniform).
    """
    found = set()
    for where, data in fields:
        name = where.rsplit(" ", 1)[1]
        if name.startswith(("scalars.sealed/", "scalars.dealt/")):
            header = 6 + int.from_bytes(data[4:6], "big")
            if data[:4] != b"TWS1" or not uniform(np.frombuffer(data[header:], np.uint8), 256):
                found.add("a message that is not sealed")
        elif words and where.startswith("train.generator from node") and name == "arrays.words":
            sent = np.frombuffer(data, "<u4")
            if not uniform(sent >> np.uint32(28), 16) or not uniform(sent & np.uint32(15), 16):
                found.add("an update that is not masked")
        elif name.startswith("arrays.tags/"):
            tags = np.frombuffer(data, np.uint8).reshape(-1, 16)
            # Of a ristretto encoding the lowest bit and the highest are fixed.
            if not uniform(tags[:, 4:12], 256):
                found.add("a tag that is not uniform")
    return found


def uniform(values: np.ndarray, levels: int) -> bool:
    counts = np.bincount(values.ravel(), minlength=levels)
    return counts.sum() < 5 * levels or stats.chisquare(counts).pvalue > FALSE_ALARM


# --- noise and shares --------------------------------------------------------------------


def _wrong_noise(ran: Ran, clear: Clear) -> list[str]:
    """Kinds of noise whose cells do not have the published variance."""
    return [k for k, z in deviations(ran, clear).items() if p_variance(z) <= FALSE_ALARM]


def _readable_shares(ran: Ran) -> list[str]:
    """Opened shares must be uniform alone, and also to a dealer, if any, who knows R and r."""
    found = []
    for first, second in ran.spec.pairs():
        alone, known = [], []
        exact = _exact_shares(ran, first, second)
        for name in (first, second):
            opened = ran.shares(name)
            for place, (index, planned) in enumerate(ran.spec.crossing(first, second).items()):
                share = opened[str(index)]
                alone.append(_nibbles(ran, share, planned.coins))
                if exact:
                    own = exact[name][place].astype(share.dtype)
                    known.append(_nibbles(ran, share - own, planned.coins))
        if not uniform(np.concatenate(alone), 16):
            found.append("not uniform alone")
        if known and not uniform(np.concatenate(known), 16):
            found.append("not masked against the dealer")
    return found


def _nibbles(ran: Ran, share: np.ndarray, coins: int | None) -> np.ndarray:
    """The four highest bits that mean something."""
    n_slots = sum(ran.findings.rows.values())
    bits = share.dtype.itemsize * 8
    if coins is not None:
        bits = 8 * word_bytes(n_slots, coins)
        share = share & modulus_mask(bits // 8)
    return (share >> np.uint64(bits - 4).astype(share.dtype)).astype(np.int64)


def _exact_shares(ran: Ran, first: str, second: str) -> dict[str, list[np.ndarray]]:
    """party -> its share s of every table before noise, as `open_shares` cuts it.

    Empty where nobody deals: shares then follow from the parties' own randomness alone.
    """
    one, two = ran.party(first), ran.party(second)
    if not one.state.seeds:
        return {}
    pair = product_of(ran.spec, first, second, one.state.n_slots)
    left = ct.finish_first(
        pair, ct.DealFirst(seed=one.state.seeds[second]), DealtParty(two).masked(first)
    )
    dealt = ct.DealSecond(
        seed=two.state.seeds[first],
        correction=ran.request("query.open", second).corrections[first],
    )
    right = ct.finish_second(pair, two.blocks(pair), dealt, DealtParty(one).masked(second))
    plans = openings(ran.spec, first, second)
    return {
        name: [ct._block(pair, s, p.query).ravel()[: ct.open_cells(pair, p.query)] for p in plans]
        for name, s in ((first, left), (second, right))
    }
