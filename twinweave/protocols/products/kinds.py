"""The products by name (`protocol.cross_tables`), and what each of them is for."""

from __future__ import annotations

import logging

from twinweave.errors import ConfigError
from twinweave.protocols import lattice
from twinweave.protocols.products import bfv
from twinweave.protocols.products.dealt import DealtParty, DealtServer
from twinweave.protocols.products.encrypted import EncryptedParty, EncryptedServer
from twinweave.protocols.products.opening import coins_of
from twinweave.protocols.products.pair import product_of
from twinweave.protocols.products.state import Pass
from twinweave.spec import CrossTables, RunSpec
from twinweave.workload.queries import Query

log = logging.getLogger("twinweave.run")


PartyEnd = DealtParty | EncryptedParty
"""One kind of product, seen from one party in one pass."""

ServerEnd = DealtServer | EncryptedServer
"""One kind of product over all pairs of parties, in one pass."""


def party_end(here: Pass) -> PartyEnd:
    """This party's end, as the specification says."""
    encrypted = here.spec.cross_tables == "homomorphic"
    return EncryptedParty(here) if encrypted else DealtParty(here)


def server_end(spec: RunSpec, n_slots: int, step: int, secret: bytes) -> ServerEnd:
    """The server's end, as the specification says. Raises ConfigError as `check_sizes`.

    secret: 32 bytes of the server in this run, which what it deals follows from.
    """
    check_sizes(spec, n_slots)
    if spec.cross_tables == "homomorphic":
        return EncryptedServer(spec=spec, n_slots=n_slots, step=step)
    return DealtServer(spec=spec, n_slots=n_slots, step=step, secret=secret)


def check_installed(kind: CrossTables) -> None:
    """Raise ConfigError where what the kind needs is missing here."""
    if kind == "homomorphic":
        lattice.available(bfv.FIELD)


def check_sizes(spec: RunSpec, n_slots: int) -> None:
    """Raise ConfigError, or ProtocolError, where a product is too large for its kind.

    Sizes are known since setup.
    """
    for first, second in spec.tables.pairs():
        pair = product_of(spec, first, second, n_slots)
        if spec.cross_tables == "homomorphic":
            bfv.check(pair)
        else:
            coins_of(pair, spec.tables.crossing(first, second))


def can_select(kind: CrossTables) -> bool:
    """Whether this kind can select features, which takes many tables across parties."""
    return kind != "homomorphic"


def measurable(kind: CrossTables, queries: tuple[Query, ...]) -> tuple[Query, ...]:
    """Those of the queries that this kind of product is for; says which it leaves out.

    Raises ConfigError where homomorphic finds tables across parties, and none with priority, or
    where TenSEAL is missing.
    """
    if kind != "homomorphic":
        return queries
    check_installed(kind)
    kept = tuple(q for q in queries if q.priority or not q.is_cross)
    left_out = len(queries) - len(kept)
    if left_out and not any(q.is_cross for q in kept):
        raise ConfigError(
            bfv.FIELD,
            "homomorphic measures the priority tables alone, and none of them crosses the parties",
            "Use protocol.cross_tables=secret_sharing.",
        )
    if left_out:
        log.info(
            "homomorphic: priority tables alone; %d other tables across parties are left out "
            "(protocol.cross_tables=secret_sharing measures them)",
            left_out,
        )
    return kept
