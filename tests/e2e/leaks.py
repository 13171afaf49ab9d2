"""The checker of transcripts: does what the server can read hold anything it must not?

`leaks` looks for exact byte strings (ids, tags blinded once, matrices, secrets) in every field
of every message, and for statistics that must not be there (counts without noise, shares or
sealed messages that are not uniform). It knows all the parties' secrets.

Where nothing leaks it reports something less than once in 10**9 runs (`FALSE_ALARM`). It works
out the chance that a byte string occurs all the same (needles.py) and refuses to answer above
SEARCH; and it makes at most CHECKS statistical checks at SHARP, each of which has a true chance
below 40 SHARP (statistics.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.e2e.clear import Clear, deviations
from tests.e2e.needles import Numbers, chance, in_words, needles_of, search, with_noise
from tests.statistics import p_levels, p_variance, plausible
from tests.whole_run import Ran, readable
from twinweave.protocols.alignment import ristretto
from twinweave.protocols.alignment.tags import Ristretto
from twinweave.protocols.channel import keys as channel
from twinweave.protocols.channel.identity import Identity
from twinweave.protocols.keystream import encode_context, hkdf
from twinweave.protocols.party import Party
from twinweave.protocols.products import dealt
from twinweave.protocols.products.coins import Coins
from twinweave.protocols.products.opening import _cells
from twinweave.protocols.products.pair import product_of
from twinweave.protocols.products.state import Pass
from twinweave.tables.column import VALUE_UNITS
from twinweave.workload.plan import PlannedQuery

GIVEN = {  # what a party may send: everything else is a leak by its name alone
    "query.setup": {"scalars.hello", "scalars.guard"},
    "query.blind": {"scalars.sealed/*"},
    "query.match": {"scalars.sealed/*", "arrays.tags/*", "arrays.noise"},
    "query.agree": {"scalars.sealed/*"},
    "query.share": {"scalars.sealed/*", "arrays.tables/*"},
    "query.open": {"arrays.shares/*", "scalars.sealed/*", "scalars.dealt/*"},
    "train.generator": {"arrays.words", "scalars.sealed/*", "scalars.secrets/*"},
    "train.reveal": {"arrays.words", "scalars.secrets/*"},
}


FORMATS = ("u1", "<i4", "<i8", "<f4", "<f8")
SHARP = 1e-13
CHECKS = 100
SEARCH = 5e-10
FALSE_ALARM = CHECKS * 40 * SHARP + SEARCH


def leaks(ran: Ran, clear: Clear) -> set[str]:
    """Names of what the server could read and should not; empty for a sound run."""
    fields = list(readable(ran.messages))
    checks = [
        *_uniformity(fields, words=_summing(ran) == "masking"),
        *((f"noise: {kind}", p_variance(z)) for kind, z in deviations(ran, clear).items()),
        *((f"shares: {what}", p) for what, p in readable_shares(ran)),
    ]
    assert len(checks) <= CHECKS
    found = {name for name, p_value in checks if not plausible(p_value, SHARP)}
    return found | _unknown_fields(fields) | _occurring(ran, clear, fields)


# --- byte strings ------------------------------------------------------------------------

RANDOM = ("hash of an id", "tag blinded once", "masked matrix", "secret")
"""Needles that are uniform bytes themselves: no number with noise is likelier to be one."""


def _occurring(ran: Ran, clear: Clear, fields: list[tuple[str, bytes]]) -> set[str]:
    """Names of the needles that occur."""
    noisy = _noisy(ran, fields)
    wanted = needles(ran, clear, noisy)
    places = sum(len(data) for _, data in fields)
    by_chance = sum(
        chance(some, places, () if name in RANDOM else noisy) for name, some in wanted.items()
    )
    assert by_chance < SEARCH
    return search([data for _, data in fields], wanted)


def _noisy(ran: Ran, fields: list[tuple[str, bytes]]) -> list[Numbers]:
    """The numbers with noise that the server reads: own tables, and shares of tables with coins.

    All other shares are uniform in every byte of their words.
    """
    places = {"arrays.tables": 0, "arrays.shares": 0}
    for where, data in fields:
        kind = where.rsplit(" ", 1)[1].split("/")[0]
        if kind in places:
            places[kind] += len(data)
    own = [p for p in ran.spec.plan if not p.query.is_cross and not p.query.is_pooled]
    found = [with_noise(min(p.variance for p in own) ** 0.5, places["arrays.tables"])]
    n_slots = sum(ran.findings.rows.values())
    for width in {w.width for p in ran.spec.plan if (w := _words(p, 1, n_slots))}:
        found.append(in_words(4, width, places["arrays.shares"]))
    return found


def _words(planned: PlannedQuery, cells: int, n_slots: int) -> Coins | None:
    """The words that a table with dealt coins is opened from."""
    if planned.coins is None:
        return None
    most = n_slots * (VALUE_UNITS if planned.query.weight else 1)
    return Coins.of(cells=cells, rounds=planned.coins, most=most)


def needles(ran: Ran, clear: Clear, noisy: list[Numbers]) -> dict[str, list[bytes]]:
    """What must not occur, by name."""
    passes = [ran.party(name) for name in ran.spec.parties]
    parties = [here.party for here in passes]
    found: dict[str, list[bytes]] = {
        "id": [],
        "hash of an id": [],
        "tag blinded once": [],
        "matrix": [],
        "masked matrix": [],
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
        found["matrix"] += _matrices(here, noisy)
        found["masked matrix"] += _masked(here)
        found["secret"] += _secrets(here)
    for planned in ran.spec.plan:
        exact = clear.table(planned.query)
        for whole in (exact, exact.T):
            found["exact table"] += needles_of(
                whole.reshape(1, -1), ("<i8", "<i4", "<f8", "<f4"), noisy
            )
    return found


def _hashes(ids: list[bytes]) -> list[bytes]:
    names = ("md5", "sha1", "sha256", "sha512", "blake2b", "sha3_256")
    found = [hashlib.new(name, one).digest() for name in names for one in ids]
    for size in (8, 16, 32):
        found += [hashlib.blake2b(one, digest_size=size).digest() for one in ids]
    return found


def _tags(
    parties: list[Party], ids: NDArray[np.object_], raw: list[bytes], run: str
) -> list[bytes]:
    """H(id), and H(id) under one party's key alone, either party's."""
    domain = encode_context("twinweave ristretto alignment 1", run)
    uniform = b"".join(hashlib.sha512(domain + one).digest() for one in raw)
    bare = ristretto.from_uniform(np.frombuffer(uniform, np.uint8).reshape(-1, 64))
    found = [row.tobytes() for row in bare]
    for party in parties:
        once = Ristretto(run_id=run).start(ids, party.secret)[1]
        found += [row.tobytes() for row in once]
    return found


def _matrices(here: Pass, noisy: list[Numbers]) -> list[bytes]:
    """Rows of X for every peer, in the party's order and in the spine's; the codes behind it."""
    found: list[bytes] = []
    party, state = here.party, here.state
    for peer in here.peers:
        pair = here.pair(peer)
        spine = here.blocks(pair).dense(pair.bits).astype(np.int64)
        found += needles_of(spine[state.slots], FORMATS, noisy, range(40))
        found += needles_of(spine, FORMATS, noisy, state.slots[:40])
    codes = party.table.codes
    for order in (slice(None), state.aligned.order, np.argsort(state.slots)):
        rows = codes[order]
        for column in rows.T:
            found += needles_of(column, FORMATS, noisy, (0, 64, 128))
        found += needles_of(rows, FORMATS, noisy, range(0, 128, 16))
    return found


def _masked(here: Pass) -> list[bytes]:
    """Rows of X + R for every peer, where there is a dealer, who knows R."""
    if not here.state.seeds:
        return []
    return [row.tobytes() for peer in here.peers for row in dealt.DealtParty(here).masked(peer)]


def _secrets(here: Pass) -> list[bytes]:
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


def _uniformity(fields: list[tuple[str, bytes]], *, words: bool) -> Iterator[tuple[str, float]]:
    """(what it would be, p-value) of sealed messages and final tags: noise, byte by byte.

    words: so are the words of an update (they are no ciphertexts, whose format is not uniform).
    What the server only passes on is the same bytes once more.
    """
    seen: set[bytes] = set()
    for where, data in fields:
        name = where.rsplit(" ", 1)[1]
        if data in seen:
            continue
        seen.add(data)
        if name.startswith(("scalars.sealed/", "scalars.dealt/")):
            header = 6 + int.from_bytes(data[4:6], "big")
            body = np.frombuffer(data[header:], np.uint8)
            yield "a message that is not sealed", p_levels(body, 256) * (data[:4] == b"TWS1")
        elif words and where.startswith("train.generator from node") and name == "arrays.words":
            sent = np.frombuffer(data, "<u4")
            yield "an update that is not masked", p_levels(sent >> np.uint32(28), 16)
            yield "an update that is not masked", p_levels(sent & np.uint32(15), 16)
        elif name.startswith("arrays.tags/"):
            tags = np.frombuffer(data, np.uint8).reshape(-1, 16)
            # Of a ristretto encoding the lowest bit and the highest are fixed.
            yield "a tag that is not uniform", p_levels(tags[:, 4:12], 256)


def readable_shares(ran: Ran) -> Iterator[tuple[str, float]]:
    """(what it would be, p-value) of opened shares.

    They must be uniform alone, and also to a dealer, if any, who knows R and r.
    """
    for first, second in ran.spec.tables.pairs():
        alone, known = [], []
        exact = _exact_shares(ran, first, second)
        for name in (first, second):
            opened = ran.shares(name)
            for place, (index, planned) in enumerate(
                ran.spec.tables.crossing(first, second).items()
            ):
                share = opened[str(index)]
                alone.append(_nibbles(ran, share, planned))
                if exact:
                    own = exact[name][place].astype(share.dtype)
                    known.append(_nibbles(ran, share - own, planned))
        yield "not uniform alone", p_levels(np.concatenate(alone), 16)
        if known:
            yield "not masked against the dealer", p_levels(np.concatenate(known), 16)


def _nibbles(ran: Ran, share: NDArray[Any], planned: PlannedQuery) -> NDArray[Any]:
    """The four highest bits that mean something."""
    n_slots = sum(ran.findings.rows.values())
    bits = share.dtype.itemsize * 8
    if (words := _words(planned, share.size, n_slots)) is not None:
        bits, share = 8 * words.width, share & words.low_bits
    return (share >> np.uint64(bits - 4).astype(share.dtype)).astype(np.int64)


def _exact_shares(ran: Ran, first: str, second: str) -> dict[str, list[NDArray[Any]]]:
    """party -> its share s of every table before noise, as `open_shares` cuts it.

    Empty where nobody deals: shares then follow from the parties' own randomness alone.
    """
    one, two = ran.party(first), ran.party(second)
    if not one.state.seeds:
        return {}
    pair = product_of(ran.spec, first, second, one.state.n_slots)
    left = dealt.finish_first(pair, one.state.seeds[second], dealt.DealtParty(two).masked(first))
    correction = ran.request("query.open", second).corrections[first]
    masked = dealt.DealtParty(one).masked(second)
    right = dealt.finish_second(pair, two.blocks(pair), correction, masked)
    queries = [p.query for p in ran.spec.tables.crossing(first, second).values()]
    return {
        name: [_cells(pair, share, query) for query in queries]
        for name, share in ((first, left), (second, right))
    }
