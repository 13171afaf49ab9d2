"""Every message of a run under one name, and those of each phase, for tests that read them."""

from __future__ import annotations

from twinweave.protocols.alignment.messages import (
    BlindReply,
    BlindRequest,
    MatchReply,
    MatchRequest,
)
from twinweave.protocols.channel.messages import ErrorReply, SetupReply, SetupRequest
from twinweave.protocols.evaluation.messages import EvaluateReply, EvaluateRequest
from twinweave.protocols.products.messages import (
    AgreeReply,
    AgreeRequest,
    OpenReply,
    OpenRequest,
    ShareReply,
    ShareRequest,
)
from twinweave.protocols.secure_sum.interface import Revealed, Upload
from twinweave.protocols.training.messages import RevealSumRequest, TrainRequest

__all__ = [
    "REPLIES",
    "REQUESTS",
    "AgreeReply",
    "AgreeRequest",
    "BlindReply",
    "BlindRequest",
    "ErrorReply",
    "EvaluateReply",
    "EvaluateRequest",
    "MatchReply",
    "MatchRequest",
    "OpenReply",
    "OpenRequest",
    "RevealSumRequest",
    "Revealed",
    "SetupReply",
    "SetupRequest",
    "ShareReply",
    "ShareRequest",
    "TrainRequest",
    "Upload",
]

REQUESTS = {
    "query.setup": SetupRequest,
    "query.blind": BlindRequest,
    "query.match": MatchRequest,
    "query.agree": AgreeRequest,
    "query.share": ShareRequest,
    "query.open": OpenRequest,
    "evaluate.synthetic": EvaluateRequest,
}
REPLIES = {
    "query.setup": SetupReply,
    "query.blind": BlindReply,
    "query.match": MatchReply,
    "query.agree": AgreeReply,
    "query.share": ShareReply,
    "query.open": OpenReply,
    "evaluate.synthetic": EvaluateReply,
}
