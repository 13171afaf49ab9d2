"""A run's privacy facts in the form of a public registry of deployments, signed by its parties.

The fields follow the epsilon registry that Dwork, Kohli and Mulligan proposed ("Differential
Privacy in Practice: Expose your Epsilons!", Journal of Privacy and Confidentiality 9(2), 2019) and
the headings of the Deployments Registry that grew from it: flavour, privacy loss, model,
accounting, implementation. What only a publisher knows (product, purpose) is theirs to add.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from twinweave import rundir
from twinweave.errors import BudgetError, ChannelError, SourceError
from twinweave.parsing import canonical_json
from twinweave.privacy import accountant
from twinweave.privacy.book import Book, events_of
from twinweave.privacy.guard import path_of
from twinweave.protocols.channel.identity import Identity
from twinweave.report.page.sections.budget import grouped
from twinweave.rundir import Run
from twinweave.site import Site

FORM = 1
_CONTEXT = b"twinweave registry entry 1\n"
_AGREES = 1e-3
"""Relative: by so much may a party's own composition of its charges be above the entry's."""

OUTSIDE = (
    "the parties' table sizes, which are public",
    "the number and the pattern of matching blinded ids, which the server sees exactly",
)

_TRUST = {
    "secret_sharing": "No party and no server sees another's rows. The server deals correlated "
    "randomness and is trusted not to collude with a party.",
    "homomorphic": "No party and no server sees another's rows. Tables across parties are computed "
    "under encryption, without a dealer.",
}


def entry(run: Run) -> dict[str, Any]:
    """The unsigned entry, JSON-ready. Raises SourceError where a file of the run is missing."""
    report, ledger = run.report, run.ledger
    audit = report["audit"]
    return {
        "form": FORM,
        "run": run.spec.run,
        "data": report["data"],
        "curators": {"parties": list(report["sizes"]), "rows": dict(report["sizes"])},
        "drawn": datetime.now(UTC).date().isoformat(),
        "privacy_loss": {
            "flavour": "approximate differential privacy"
            if ledger["epsilon"] is not None
            else "none: a release has no guarantee, and epsilon, null here, is infinite",
            "unit": "user: all rows of one person, at every party",
            "adjacency": "one user added or removed at every party",
            "epsilon": ledger["epsilon"],
            "delta": ledger["delta"],
            "budget": report["privacy"]["budget"],
            "epsilon_by_party": ledger["epsilon_by_party"],
            "epsilon_by_stage": ledger["epsilon_by_stage"],
            "epsilon_if_matches_are_torn": ledger["epsilon_if_matches_are_torn"],
        },
        "model": {
            "name": "distributed: secure computation among the parties, noise inside",
            "trust": _TRUST[run.configuration["protocol"]["cross_tables"]],
            "adversary": "follows the protocol and is curious; docs/security.md has what holds "
            "against one who deviates",
            "outside_the_claim": list(OUTSIDE),
        },
        "mechanisms": [
            {
                "stage": stage,
                "about_users_of": parties,
                "mechanism": mechanism,
                "releases": count,
                "noise_over_sensitivity": noise,
            }
            for stage, parties, mechanism, count, noise in grouped(ledger["events"])
        ],
        "accounting": {
            "accountant": ledger["accountant"],
            "composition": "all releases of the run; a party's runs on the same dataset add up in "
            "its own guard",
            "guards": report["privacy"]["guards"],
            "notes": list(ledger["notes"]),
            "lower_bounds": [] if audit is None else audit["bounds"],
        },
        "implementation": {"software": "Twinweave", "releases": report["versions"]},
        "ledger_sha256": hashlib.sha256((run.path / rundir.LEDGER).read_bytes()).hexdigest(),
        "signatures": {},
    }


def signed(found: Mapping[str, Any], site: Site) -> dict[str, Any]:
    """The entry with this party's signature, once its own book agrees with what the entry says.

    Raises BudgetError where the party's charges of that run compose to more than the entry tells;
    SourceError for a run that it knows nothing of; ChannelError for a key that cannot be read.
    """
    _check_own(found, site)
    identity = Identity.load(site.identity)
    mine = {"key": identity.public_hex, "signature": identity.sign(_signed_part(found)).hex()}
    return {**found, "signatures": {**found["signatures"], site.party: mine}}


def verify(found: Mapping[str, Any], pins: Mapping[str, str]) -> tuple[str, ...]:
    """The parties whose signatures hold. pins: their public keys, where they are known, in hex.

    Raises ChannelError, naming the party, where a signature fails or is by another key.
    """
    part = _signed_part(found)
    for party, given in found["signatures"].items():
        if party in pins and pins[party].lower() != given["key"]:
            raise ChannelError(f"the entry's key of {party!r} is not the pinned one. Ask it.")
        try:
            key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(given["key"]))
            key.verify(bytes.fromhex(given["signature"]), part)
        except (InvalidSignature, ValueError):
            raise ChannelError(
                f"the signature of {party!r} does not hold: the entry was changed after it. "
                "Draw and sign it anew."
            ) from None
    return tuple(found["signatures"])


def _check_own(found: Mapping[str, Any], site: Site) -> None:
    file = path_of(site.guard, site.work)
    rows = Book(path=file).rows() if Path(file).exists() else ()
    own = [s for s in rows if s.party == site.party and s.run == found["run"]]
    if not own:
        raise SourceError(
            f"{site.party!r} has no charge of run {found['run'][:8]} in its book. Give the site "
            "file of a party of that run."
        )
    loss = found["privacy_loss"]
    claimed = loss["epsilon_by_party"].get(site.party, 0.0)
    spent = accountant.epsilon(events_of(own), loss["delta"])
    if claimed is not None and spent > claimed * (1 + _AGREES):
        raise BudgetError(
            f"{site.party!r} released for epsilon {spent:.4f} in that run by its own book; the "
            f"entry says {claimed:.4f}. Do not publish it: its ledger leaves something out."
        )


def _signed_part(found: Mapping[str, Any]) -> bytes:
    """All of it but the signatures, bound to its purpose."""
    bare = {key: value for key, value in found.items() if key != "signatures"}
    return _CONTEXT + canonical_json(bare).encode()
