"""The Flower ClientApp: one handler a phase, each thin (DESIGN section 4)."""

from __future__ import annotations

import os

# Set before Flower is imported: nothing is installed, reported or looked up at run time.
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")
os.environ.setdefault("FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION", "1")
# Threads that spin while they wait slow down whoever else plays a party on this machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from clients import measuring, training
from clients.handling import begin, go_on
from twinweave.protocols import messages

app = ClientApp()


@app.query("setup")
def setup(message: Message, context: Context) -> Message:
    return begin(message, context, messages.SetupRequest, messages.SetupReply, measuring.setup)


@app.query("blind")
def blind(message: Message, context: Context) -> Message:
    return go_on(message, context, messages.BlindRequest, messages.BlindReply, measuring.blind)


@app.query("match")
def match(message: Message, context: Context) -> Message:
    return go_on(message, context, messages.MatchRequest, messages.MatchReply, measuring.match)


@app.query("share")
def share(message: Message, context: Context) -> Message:
    return go_on(message, context, messages.ShareRequest, messages.ShareReply, measuring.share)


@app.query("open")
def open_tables(message: Message, context: Context) -> Message:
    return go_on(message, context, messages.OpenRequest, messages.OpenReply, measuring.open_)


@app.train("generator")
def train(message: Message, context: Context) -> Message:
    return go_on(message, context, messages.TrainRequest, messages.TrainReply, training.train)


@app.train("reveal")
def reveal(message: Message, context: Context) -> Message:
    return go_on(
        message, context, messages.RevealSumRequest, messages.RevealSumReply, training.reveal
    )
