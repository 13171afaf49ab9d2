"""The Flower ClientApp: one handler a phase; the steps are the library's."""

from __future__ import annotations

from twinweave.environment import prepare

prepare()  # before Flower is imported

from flwr.clientapp import ClientApp

from clients.handling import begins, handles
from twinweave.analysis.audit.party import audit
from twinweave.protocols.alignment import messages as alignment
from twinweave.protocols.alignment.party import Aligned, blind, match
from twinweave.protocols.channel.messages import SetupReply, SetupRequest
from twinweave.protocols.channel.party import setup
from twinweave.protocols.evaluation import messages as evaluation
from twinweave.protocols.evaluation.party import evaluating
from twinweave.protocols.party import Introduced, Joined, Released
from twinweave.protocols.products import messages as products
from twinweave.protocols.products.party import agree, open_, share
from twinweave.protocols.products.state import Agreed, Shared
from twinweave.protocols.secure_sum.interface import Revealed, Upload
from twinweave.protocols.training import messages as training
from twinweave.protocols.training.party import Trained, reveal, train

app = ClientApp()

app.query("setup")(begins(SetupRequest, SetupReply(hello="", guard="off"))(setup))
app.query("blind")(handles(alignment.BlindRequest, alignment.BlindReply, Joined)(blind))
app.query("match")(
    handles(alignment.MatchRequest, alignment.MatchReply, Introduced, Aligned)(match)
)
app.query("agree")(handles(products.AgreeRequest, products.AgreeReply, Shared)(agree))
app.query("share")(handles(products.ShareRequest, products.ShareReply, Aligned, Agreed)(share))
app.query("open")(handles(products.OpenRequest, products.OpenReply, Shared)(open_))
app.train("generator")(handles(training.TrainRequest, Upload, Shared, Trained)(train))
app.train("reveal")(handles(training.RevealSumRequest, Revealed, Trained)(reveal))
app.evaluate("synthetic")(
    handles(evaluation.EvaluateRequest, evaluation.EvaluateReply, Released)(evaluating(audit))
)
