"""The two ends of a secure sum by name: `protocol.secure_sum` in the configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import get_args

from twinweave.errors import ConfigError
from twinweave.protocols.channel.keys import PairKeys
from twinweave.protocols.secure_sum import homomorphic
from twinweave.protocols.secure_sum.interface import Progress, SumParty
from twinweave.protocols.secure_sum.masking import MaskingParty, MaskingServer
from twinweave.protocols.secure_sum.plan import SumPlan
from twinweave.protocols.secure_sum.secret_sharing import SharingParty, SharingServer
from twinweave.spec import SecureSum

KINDS: tuple[SecureSum, ...] = get_args(SecureSum)

SumServer = MaskingServer | SharingServer | homomorphic.HomomorphicServer
"""The server's end, for one round: `add` each upload, close it by `requests`, `finish`."""

_ENDS: dict[str, tuple[type[SumParty], Callable[..., SumServer]]] = {
    "masking": (MaskingParty, MaskingServer),
    "secret_sharing": (SharingParty, SharingServer),
    "homomorphic": (homomorphic.HomomorphicParty, homomorphic.HomomorphicServer),
}


def check_kind(kind: str, plan: SumPlan) -> None:
    """Raise ConfigError unless this protocol exists, is installed and can carry the plan."""
    if kind not in KINDS:
        raise ConfigError("protocol.secure_sum", "no such protocol", f"Choose {', '.join(KINDS)}.")
    if kind == "homomorphic":
        homomorphic.check(plan)


def peers(kind: str, plan: SumPlan, own: str) -> tuple[str, ...]:
    """Parties that `own` must hold keys with before `party_end`."""
    check_kind(kind, plan)
    return _ENDS[kind][0].peers(plan, own)


def party_end(
    kind: str,
    *,
    plan: SumPlan,
    own: str,
    secret: bytes,
    keys: Mapping[str, PairKeys],
    progress: Progress | None = None,
) -> SumParty:
    """A party's end, as it was when `progress` was stored.

    secret: 32 bytes of this run alone. keys: by peer, with `peers` or more. Raises ConfigError
    as `check_kind`; ProtocolError for a party outside the plan or missing keys.
    """
    check_kind(kind, plan)
    return _ENDS[kind][0](
        plan=plan, own=own, secret=secret, keys=keys, progress=progress or Progress()
    )


def server_end(kind: str, plan: SumPlan, *, round_: int, length: int) -> SumServer:
    """The server's end of one round. length: of the values. Raises ConfigError as `check_kind`."""
    check_kind(kind, plan)
    return _ENDS[kind][1](plan, round_=round_, length=length)
