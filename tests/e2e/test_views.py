"""What a curious server, a curious party, and both together learn from a whole run.

The server's view is compared with one that is made without the parties' data. A party's view is
searched for what belongs to the other; both together do get the other's rows, and the page says so.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.campaigns import configure
from tests.e2e.clear import Clear
from tests.e2e.leaks import SEARCH, SHARP, _hashes, _matrices, _secrets, _uniformity
from tests.e2e.needles import Numbers, chance, needles_of, search
from tests.statistics import plausible
from tests.whole_run import NODES, Ran, readable, run
from twinweave.protocols.alignment import ristretto
from twinweave.protocols.alignment.tags import Ristretto
from twinweave.protocols.channel import keys as channel
from twinweave.protocols.channel import party as setup
from twinweave.protocols.channel.keys import SEGMENT_BYTES, TAG_BYTES, Hello
from twinweave.protocols.channel.messages import SetupReply
from twinweave.protocols.keystream import Keystream, encode_context
from twinweave.protocols.products import dealt
from twinweave.protocols.products.opening import coins_of, reconstruct
from twinweave.protocols.products.pair import product_of
from twinweave.protocols.ring import dtype_of, next_words

P, A = "publisher", "advertiser"
OTHER = {P: A, A: P}
BLIND, SHARE, OPEN = "query.blind", "query.share", "query.open"
View = Mapping[tuple[str, str, str], bytes]
"""(phase, party, field) -> what the server reads of it."""


def ran_in(folder: Path, alignment: str = "ristretto") -> Ran:
    return run(configure(folder, "protocol.coin_limit=10_000", f"protocol.alignment={alignment}"))


# --- the server --------------------------------------------------------------------------


def view(ran: Ran) -> View:
    found = {}
    for message in ran.messages:
        node = message.metadata.src_node_id
        for where, data in readable([message]) if node else ():
            party = next(name for name, number in NODES.items() if number == node)
            found[message.metadata.message_type, party, where.rsplit(" ", 1)[1]] = data
    return found


def pattern(seen: View) -> NDArray[np.int64]:
    """Which tags are equal: for each, of the publisher and then of the advertiser, the number of
    the first that equals it."""
    own = {key[2].partition("/")[2]: data for key, data in seen.items() if "tags/" in key[2]}
    tags = np.frombuffer(own[P] + own[A], f"V{WIDTHS[_alignment(seen)]}")
    _, first, inverse = np.unique(tags, return_index=True, return_inverse=True)
    return first[inverse].astype(np.int64)


def _alignment(seen: View) -> str:
    """With `prf` each party hands its own tags to the server, else the other's."""
    return "prf" if ("query.match", P, f"arrays.tags/{P}") in seen else "ristretto"


WIDTHS = {"ristretto": 32, "prf": 16}
"""Bytes of a tag."""


def simulated(ran: Ran, matching: NDArray[np.int64], rng: np.random.Generator) -> View:
    """The server's view, from the specification, the sizes, which tags match, and the noisy
    tables: nothing else of the parties' data, and none of their secrets."""
    spec, rows, made = ran.spec, ran.findings.rows, dict[tuple[str, str, str], bytes]()
    width, prf = WIDTHS[spec.alignment], spec.alignment == "prf"
    both = np.frombuffer(rng.bytes(width * len(matching)), f"V{width}")[matching]
    tags = {P: both[: rows[P]].tobytes(), A: both[rows[P] :].tobytes()}
    pair = product_of(spec, P, A, sum(rows.values()))
    planned = spec.tables.crossing(P, A)
    coins = coins_of(pair, planned)
    for own, peer in OTHER.items():

        def sealed(phase: str, label: str, size: int, own: str = own, peer: str = peer) -> bytes:
            context = encode_context("twinweave message 1", spec.run, phase, label, own, peer)
            head = b"TWS1" + len(context).to_bytes(2, "big") + context
            return head + rng.bytes(32 + size + TAG_BYTES * -(-size // SEGMENT_BYTES))

        hello = Hello(
            party=own,
            run_id=spec.run,
            spec_hash=spec.digest,
            rows=rows[own],
            public_key=rng.bytes(32),
            signature=rng.bytes(64),
        )
        made["query.setup", own, "scalars.hello"] = hello.dumps().encode()
        made["query.setup", own, "scalars.guard"] = ran.conf.privacy.guard.mode.encode()
        if prf and own == spec.parties[0]:
            made["query.blind", own, f"scalars.sealed/{peer}"] = sealed(BLIND, "group key", 32)
        elif not prf:
            size = width * rows[own]
            made["query.blind", own, f"scalars.sealed/{own}"] = sealed(BLIND, own, size)
        owner = own if prf else peer
        made["query.match", own, f"arrays.tags/{owner}"] = tags[owner]
        scales = [e.mechanism.noise_multiplier for e in spec.tables.counting]
        noise = np.rint(rng.normal(0, scales)).astype(np.int64)  # and so a party draws it
        made["query.match", own, "arrays.noise"] = noise.tobytes()
        matrix = pair.n_slots * pair.layout(own).width * pair.bits // 8
        shown = sum(int(np.prod(c.shown)) for c in coins.values()) if pair.is_first(own) else 0
        made[SHARE, own, f"scalars.sealed/{peer}"] = sealed(SHARE, own, matrix + shown)
        for i in spec.tables.local(own):
            values = ran.findings.measurements[i].values
            made[SHARE, own, f"arrays.tables/{i}"] = values.astype(np.int64).tobytes()
    for i in planned:
        total = opened(ran, i)
        share = next_words(Keystream(rng.bytes(32)), total.shape, 8 * total.dtype.itemsize)
        made[OPEN, P, f"arrays.shares/{i}"] = share.tobytes()
        made[OPEN, A, f"arrays.shares/{i}"] = (total - share).tobytes()
    return made


def opened(ran: Ran, index: int) -> NDArray[Any]:
    """A noisy table across as the words that it opens from: it follows from them, and they from
    it, but for bits that opening drops."""
    first, second = ran.shares(P)[str(index)], ran.shares(A)[str(index)]
    pair = product_of(ran.spec, P, A, sum(ran.findings.rows.values()))
    table = {index: ran.spec.tables.crossing(P, A)[index]}
    total: NDArray[Any] = first + second
    if index in (found := coins_of(pair, table)):
        total &= found[index].low_bits
    nothing = np.zeros_like(total)
    values = reconstruct(pair, table, {index: total}, {index: nothing})[index]
    np.testing.assert_array_equal(values, ran.findings.measurements[index].values)
    return total


def tells_more(ran: Ran) -> set[str]:
    """Fields of the view in which the parties' data show beyond what the simulator was given."""
    real = view(ran)
    made = simulated(ran, pattern(real), np.random.default_rng(17))
    found = {name for *_, name in real.keys() ^ made.keys()}
    found |= {key[2] for key in real.keys() & made.keys() if not _alike(key, real, made)}
    if not np.array_equal(pattern(real), pattern(made)):
        found.add("tags")
    for fields in (real, made):
        named = [(f"{phase} from node {name}", data) for (phase, _, name), data in fields.items()]
        checks = _uniformity(named, words=False)
        found |= {what for what, p_value in checks if not plausible(p_value, SHARP)}
    return found


def _alike(key: tuple[str, str, str], real: View, made: View) -> bool:
    """Whether a field has the same length and the same of everything but uniform bytes."""
    name, one, two = key[2].split("/")[0], real[key], made[key]
    if name == "scalars.hello":
        texts = [json.loads(data) for data in (one, two)]
        for text in texts:
            del text["public_key"], text["signature"]
        return len(one) == len(two) and texts[0] == texts[1]
    if name == "scalars.sealed":
        head = 6 + int.from_bytes(one[4:6], "big")
        return len(one) == len(two) and one[:head] == two[:head]
    if name in ("arrays.shares", "arrays.tags", "arrays.noise"):
        # Of the first two, sums and pattern are compared, and uniformity; the third knows no data.
        return len(one) == len(two)
    return one == two


@pytest.mark.curious("server-view")
@pytest.mark.parametrize("alignment", WIDTHS)
def test_the_servers_view_can_be_made_without_the_parties_data(
    tmp_path: Path, alignment: str
) -> None:
    assert tells_more(ran_in(tmp_path, alignment)) == set()


@pytest.mark.broken("server-view")
def test_a_field_that_says_more_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If only by one byte: of a field in the clear, and of what is sealed."""
    seal, opens = channel.seal, channel.open_sealed

    def more(hello: str, guard: str) -> SetupReply:
        return SetupReply(hello=hello, guard=guard + " ")

    with monkeypatch.context() as patch:
        patch.setattr(setup, "SetupReply", more)
        assert tells_more(ran_in(tmp_path / "guard")) == {"scalars.guard"}
    with monkeypatch.context() as patch:
        patch.setattr(channel, "seal", lambda plain, **told: seal(plain, **told) + b"\0")
        patch.setattr(channel, "open_sealed", lambda sealed, **told: opens(sealed[:-1], **told))
        found = tells_more(ran_in(tmp_path / "seal"))
    assert {name.split("/")[0] for name in found} == {"scalars.sealed"}


# --- a party -----------------------------------------------------------------------------

Opened = dict[str, list[bytes]]
"""party -> what it opened of all that was sealed for it."""


@pytest.fixture
def unsealed(monkeypatch: pytest.MonkeyPatch) -> Opened:
    found: Opened = {P: [], A: []}
    real = channel.open_sealed

    def opens(sealed: Any, **told: Any) -> bytes:
        plain = real(sealed, **told)
        found[told["keys"].own].append(plain)
        return plain

    monkeypatch.setattr(channel, "open_sealed", opens)
    return found


def received(ran: Ran, party: str, unsealed: Opened) -> list[bytes]:
    """All that a party has of others: requests as they came, and what it opened of them."""
    to = [m for m in ran.messages if m.metadata.dst_node_id == NODES[party]]
    return [*(data for _, data in readable(to)), *unsealed[party]]


def of_another(ran: Ran, party: str, clear: Clear) -> dict[str, list[bytes]]:
    """What must not be in a party's view: the other's ids, rows, secrets, and exact tables.

    Its keys with this party are both's, and left out.
    """
    there, here = ran.party(OTHER[party]), ran.party(party)
    ids = [str(i).encode() for i in there.party.table.ids]
    noisy = [_slots(ran, party)]
    domain = encode_context("twinweave ristretto alignment 1", ran.spec.run)
    uniform = b"".join(hashlib.sha512(domain + one).digest() for one in ids)
    bare = ristretto.from_uniform(np.frombuffer(uniform, np.uint8).reshape(-1, 64))
    both = set(_secrets(here))
    tables = [
        needle
        for p in ran.spec.plan
        if OTHER[party] in p.query.parties
        for needle in needles_of(clear.table(p.query).reshape(1, -1), ("<i8", "<i4"), noisy)
    ]
    return {
        "id": ids,
        "hash of an id": _hashes(ids),
        "bare tag": [row.tobytes() for row in bare],
        "row": _matrices(there, noisy),
        "secret": [s for s in _secrets(there) if s not in both],
        "exact table": tables,
    }


def _slots(ran: Ran, party: str) -> Numbers:
    """The numbers in a party's view that are not uniform bytes: its slots, drawn without
    replacement from more than are left at the end."""
    rows, n_slots = ran.findings.rows[party], sum(ran.findings.rows.values())
    bits = float(np.log2(n_slots - rows))
    return Numbers(size=8, limit=2**40, bits=bits, places=8 * rows)


def shows(ran: Ran, party: str, clear: Clear, unsealed: Opened) -> set[str]:
    """Names of what a party's view holds and should not; a sound one none, but once in 10**9."""
    wanted, fields = of_another(ran, party, clear), received(ran, party, unsealed)
    places = sum(map(len, fields))
    random = ("hash of an id", "bare tag", "secret", "id")
    by_chance = sum(
        chance(some, places, () if name in random else (_slots(ran, party),))
        for name, some in wanted.items()
    )
    assert by_chance < SEARCH
    return search(fields, wanted)


@pytest.mark.curious("party")
def test_a_partys_view_holds_nothing_of_the_others_rows(
    tmp_path: Path, clear: Clear, unsealed: Opened
) -> None:
    ran = ran_in(tmp_path)
    assert min(len(unsealed[party]) for party in OTHER) >= 2  # tags, a matrix
    assert {party: shows(ran, party, clear, unsealed) for party in OTHER} == {P: set(), A: set()}


@pytest.mark.broken("party")
def test_matrices_without_masks_are_seen(
    tmp_path: Path, clear: Clear, unsealed: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dealt, "mask", lambda pair, blocks, seed: blocks.dense(pair.bits))
    ran = ran_in(tmp_path)
    assert {party: shows(ran, party, clear, unsealed) for party in OTHER} == {
        P: {"row"},
        A: {"row"},
    }


@pytest.mark.broken("party")
def test_ids_without_blinding_are_seen(
    tmp_path: Path, clear: Clear, unsealed: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = (1).to_bytes(32, "little")
    monkeypatch.setattr(Ristretto, "_scalar", lambda self, secret: one)
    ran = ran_in(tmp_path)
    assert shows(ran, P, clear, unsealed) >= {"bare tag"}


# --- both together -----------------------------------------------------------------------


@pytest.mark.curious("together")
def test_the_server_and_a_party_have_the_others_rows_and_the_overlap(
    tmp_path: Path, unsealed: Opened
) -> None:
    """The dealer knows the masks, and the party what they cover. No defence: the page says so."""
    ran = ran_in(tmp_path)
    there = ran.party(P)
    pair = there.pair(A)
    shape, dtype = (pair.n_slots, pair.layout(P).width), dtype_of(pair.bits)
    size = int(np.prod(shape)) * dtype.itemsize
    (given,) = (plain for plain in unsealed[A] if len(plain) >= size)
    masked = np.frombuffer(given[:size], dtype).reshape(shape)
    masks = next_words(dealt._matrix_stream(there.state.seeds[A]), shape, pair.bits)
    np.testing.assert_array_equal(masked - masks, there.blocks(pair).dense(pair.bits))

    here, others = ran.party(A), set(there.party.table.ids)
    told = set(ran.request(SHARE, P).slots.tolist())  # by the server
    overlap = [int(slot) in told for slot in here.state.slots]
    assert overlap == [one in others for one in here.party.table.ids]
    assert 0 < sum(overlap) < len(overlap)
