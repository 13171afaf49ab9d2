"""A Flower Grid in this very process: the same two apps, without an engine around them.

For tests and quick sweeps. Messages are serialised and parsed on the way, as any transport
would, so nothing passes here that would not pass there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from uuid import uuid4

from twinweave.environment import prepare

prepare()  # before Flower is imported

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from twinweave.config import RunConf
from twinweave.errors import RunError
from twinweave.parsing import canonical_json

Tap = Callable[[Message], None]


def run_in_process(conf: RunConf) -> None:
    """A whole simulation. Raises the run's own AppError."""
    from clients.app import app as client_app
    from server.app import app as server_app
    from server.lifecycle import unmarked

    if conf.federation.mode == "deployment":
        raise RunError("engine=inprocess plays every party. Use engine=flower for a deployment.")
    grid = InProcessGrid(client_app, nodes=len(conf.data.parties))
    with unmarked():
        server_app(grid, _context(0, {}, config=canonical_json(conf)))


def _context(node: int, node_config: Mapping[str, Any], **run_config: str) -> Context:
    state = RecordDict()
    return Context(1, node, dict(node_config), state=state, run_config=dict(run_config))


class InProcessGrid(Grid):
    """Runs a ClientApp for each node, one message after the other.

    tap: sees every message in both directions, as the server or an observer of it would.
    node_configs: one a node, as of SuperNodes in a deployment; None: those of a simulation.
    """

    def __init__(
        self,
        client_app: ClientApp,
        nodes: int,
        *,
        tap: Tap | None = None,
        node_configs: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        configs = node_configs or [
            {"partition-id": i, "num-partitions": nodes} for i in range(nodes)
        ]
        self._app = client_app
        self._tap = tap
        self._contexts = {node: _context(node, configs[node - 1]) for node in range(1, nodes + 1)}
        self._replies: dict[str, Message] = {}
        # Flower builds a Message inside a task only; this process is the task.
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 0, 0

    def set_run(self, run: Run) -> None:
        """Nothing to set: there is one run."""

    @property
    def run(self) -> Run:
        return Run.create_empty(1)

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        return [self._deliver(message) for message in messages]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return [self._replies.pop(i) for i in message_ids if i in self._replies]

    def send_and_receive(
        self,
        messages: Iterable[Message],
        *,
        timeout: float | None = None,  # noqa: ARG002 (nothing here can be late)
    ) -> Iterable[Message]:
        return self.pull_messages(self.push_messages(messages))

    def _deliver(self, message: Message) -> str:
        name = str(uuid4())
        message.metadata.__dict__["_message_id"] = name
        arrived = _over_the_wire(message)
        self._see(arrived)
        try:
            reply = self._app(arrived, self._contexts[arrived.metadata.dst_node_id])
        except Exception as error:
            reply = Message(Error(code=0, reason=type(error).__name__), reply_to=arrived)
        reply = _over_the_wire(reply)
        self._see(reply)
        self._replies[name] = reply
        return name

    def _see(self, message: Message) -> None:
        if self._tap is not None:
            self._tap(message)


def _over_the_wire(message: Message) -> Message:
    arrived: Any = message_from_proto(message_to_proto(message))
    assert isinstance(arrived, Message)
    return arrived
