"""What passed between server and parties is counted, and passes unchanged."""

from __future__ import annotations

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from scripts.engines.inprocess import InProcessGrid
from server.traffic import MeteredGrid, content_bytes


def content(numbers: int, text: str) -> RecordDict:
    arrays = ArrayRecord({"x": Array(np.zeros(numbers))})
    return RecordDict({"arrays": arrays, "scalars": ConfigRecord({"text": text, "n": 1})})


def test_a_phase_is_counted_with_its_repeats_and_nothing_is_lost() -> None:
    app = ClientApp()

    @app.query("double")
    def double(message: Message, context: Context) -> Message:
        size = message.content["arrays"]["x"].numpy().size
        return Message(content(2 * size, "é"), reply_to=message)

    grid = MeteredGrid(InProcessGrid(app, nodes=2))
    sent = received = 0
    for numbers in (100, 1000):
        asked = [
            Message(content(numbers, "ask"), dst_node_id=n, message_type="query.double")
            for n in grid.get_node_ids()
        ]
        answers = list(grid.send_and_receive(asked))
        assert [a.content["arrays"]["x"].numpy().size for a in answers] == [2 * numbers] * 2
        sent += sum(content_bytes(m) for m in asked)
        received += sum(content_bytes(m) for m in answers)
    (phase,) = grid.traffic
    assert (phase.phase, phase.requests, phase.answers) == ("query.double", 4, 4)
    assert (phase.bytes_sent, phase.bytes_received) == (sent, received)
    # 8 bytes a number, an array's own header (below 256), 3 and 2 bytes of text, 8 of the integer
    assert 0 <= sent - 2 * (1100 * 8 + 2 * (3 + 8)) < 4 * 256
    assert 0 <= received - 2 * (2200 * 8 + 2 * (2 + 8)) < 4 * 256


def test_an_answer_that_is_an_error_has_no_content() -> None:
    app = ClientApp()
    grid = MeteredGrid(InProcessGrid(app, nodes=1))
    asked = [Message(content(1, ""), dst_node_id=1, message_type="query.unknown")]
    (answer,) = grid.send_and_receive(asked)
    assert answer.has_error()
    assert grid.traffic[0].bytes_received == 0
