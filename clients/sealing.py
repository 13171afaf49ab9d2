"""What a party seals for a peer and opens from one: bound to run, phase, sender and receiver."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clients.party import Party
from twinweave.protocols.channel import keys as channel


def seal(
    party: Party, peer: str, phase: str, label: str, content: bytes | NDArray[np.generic]
) -> bytes:
    """Content, or an array's bytes, for the peer alone."""
    plain: bytes | memoryview
    plain = content if isinstance(content, bytes) else np.ascontiguousarray(content).data.cast("B")
    return channel.seal(
        plain,
        run=party.session.run,
        phase=phase,
        sender=party.name,
        receiver=peer,
        keys=party.keys(peer),
        label=label,
    )


def unseal(party: Party, peer: str, phase: str, label: str, blob: bytes) -> bytes:
    """Inverse, from the peer. Raises ChannelError."""
    return channel.open_sealed(
        blob,
        run=party.session.run,
        phase=phase,
        sender=peer,
        receiver=party.name,
        keys=party.keys(peer),
        label=label,
    )
