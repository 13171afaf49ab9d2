"""Sums of the parties' vectors that show nobody a single one.

`masking` (this package's first protocol): who learns what.

| who | learns |
|---|---|
| server | who took part in a round, the vectors' length, the sum; a masked vector is uniform |
| a party | nothing of the others' vectors; shares of self-masks, too few to restore one |
| server and `colluding` parties | the sum of the others' vectors (see below) |
| outsider | nothing (the transport's encryption, and the masks) |

Even a server that tells parties different survivors opens no sum of fewer than
`Plan.honest_in_any_sum` honest parties: two or more under the derived threshold, unless all
but one collude.

Not hidden: the sum itself. With two parties it is, minus one's own part, the other's: so every
update has differential privacy of its own, and `check_collusion` refuses a sum without it that
would show one party's part. Not defended: a party that lies about its values or its shares; the
sum is then wrong, and where masks do not cancel, refused.

Messages, for R rounds: `deal` rides on any reply before the first round and `accept` on the
first request; a round is one upload, and, where dropouts can be recovered, one small request
and answer (32 bytes a neighbour). Two parties, and any plan that needs everyone, need no second
message.
"""

from __future__ import annotations

from twinweave.protocols.secure_sum.fixed_point import FixedPoint
from twinweave.protocols.secure_sum.graph import graph_seed
from twinweave.protocols.secure_sum.interface import (
    Revealed,
    RevealRequest,
    SumParty,
    SumServer,
    Upload,
)
from twinweave.protocols.secure_sum.masking import MaskingParty, MaskingServer, Progress
from twinweave.protocols.secure_sum.packing import Mean, pack, unpack
from twinweave.protocols.secure_sum.plan import Plan, check_collusion

__all__ = [
    "FixedPoint",
    "MaskingParty",
    "MaskingServer",
    "Mean",
    "Plan",
    "Progress",
    "RevealRequest",
    "Revealed",
    "SumParty",
    "SumServer",
    "Upload",
    "check_collusion",
    "graph_seed",
    "pack",
    "unpack",
]
