"""Parties that vanish: recovered, or one clear line; no guard spends twice."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message
from numpy.typing import NDArray

from scripts.engines.inprocess import InProcessGrid
from server.generator import first_weights
from tests import whole_run
from tests.campaigns import OFFICES, horizontal, training
from tests.whole_run import Deployment, guard_rows
from twinweave.config import RunConf
from twinweave.errors import RunError
from twinweave.protocols.secure_sum.interface import Upload
from twinweave.protocols.secure_sum.masking import MaskingParty


class Vanishes(InProcessGrid):
    """A node's replies are lost from one message type on (in its nth message), for good."""

    phase = ""
    nodes: tuple[int, ...] = ()
    from_message = 1

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        names: list[str] = []
        for message in messages:
            kind, node = message.metadata.message_type, message.metadata.dst_node_id
            (name,) = super().push_messages([message])
            if node in self.nodes:
                self.seen[kind] = self.seen.get(kind, 0) + (node == self.nodes[0])
                if kind == self.phase and self.seen[kind] >= self.from_message:
                    self.gone.update(self.nodes)
                if node in self.gone:
                    del self._replies[name]
            names.append(name)
        return names

    @property
    def seen(self) -> dict[str, int]:
        return self.__dict__.setdefault("_seen", {})

    @property
    def gone(self) -> set[int]:
        return self.__dict__.setdefault("_gone", set())


def vanishing(phase: str, *nodes: int, from_message: int = 1) -> type[Vanishes]:
    changes = {"phase": phase, "nodes": nodes, "from_message": from_message}
    return type("OneVanishes", (Vanishes,), changes)


TWO_PASSES = ["query.open", "query.open/1", "query.share", "query.share/1"]


def spends(deployment: Deployment) -> dict[str, list[str]]:
    """Phases that each guard was charged for; every one once."""
    found = {name: [row[1] for row in rows] for name, rows in guard_rows(deployment.sites).items()}
    for rows in found.values():
        assert len(set(rows)) == len(rows)
    return {name: sorted(rows) for name, rows in found.items()}


@pytest.mark.remains("stop", "spent")
@pytest.mark.parametrize(
    "phase", ["query.setup", "query.blind", "query.match", "query.share", "query.open"]
)
@pytest.mark.parametrize("node", [1, 3, 5])
def test_before_the_training_everyone_is_needed_and_whoever_is_missing_is_named(
    tmp_path: Path, phase: str, node: int
) -> None:
    deployment = Deployment(horizontal(tmp_path, users=60), tmp_path)
    who = repr(OFFICES[node - 1])
    with pytest.raises(RunError, match=rf"^{phase}: no answer from {who} within"):
        deployment.start(vanishing(phase, node))
    expected = {"query.share": ["query.share"], "query.open": ["query.open", "query.share"]}
    assert spends(deployment) == dict.fromkeys(OFFICES, expected.get(phase, []))


@pytest.mark.parametrize("node", [1, 4])
@pytest.mark.parametrize(
    ("phase", "from_message"),
    [("train.generator", 1), ("train.generator", 2), ("train.reveal", 1)],
)
def test_training_goes_on_without_one_of_five(
    tmp_path: Path, phase: str, node: int, from_message: int
) -> None:
    deployment = Deployment(training(tmp_path, rounds=3), tmp_path)
    ran = deployment.start(vanishing(phase, node, from_message=from_message))
    assert ran.findings.weights is not None
    asked = [
        msg.metadata.dst_node_id
        for msg in ran.messages
        if msg.metadata.message_type == "train.generator" and msg.metadata.dst_node_id
    ]
    # Once a round, once more when it did not answer, and never again.
    expected = from_message + (phase == "train.generator")
    assert asked.count(node) == expected
    assert all(asked.count(n) == 3 for n in range(1, 6) if n != node)
    rounds = [f"train.generator/{r}" for r in range(3)]
    for name, phases in spends(deployment).items():
        answered = 3 if name != OFFICES[node - 1] else from_message
        assert phases == [*TWO_PASSES, *rounds[:answered]]


def test_too_few_for_the_secure_sum_end_the_run(tmp_path: Path) -> None:
    deployment = Deployment(training(tmp_path, rounds=2), tmp_path)
    with pytest.raises(
        RunError,
        match=r"train.generator: no answer from 'office0', 'office2', "
        r"'office3' within .* At least 4 parties",
    ):
        deployment.start(vanishing("train.generator", 1, 3, 4))
    spends(deployment)


def test_what_the_survivors_trained_is_what_moves_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sum over four is divided by the weight of four."""
    seen = {}
    real = MaskingParty.protect

    def protect(
        self: MaskingParty, values: NDArray[np.float32], round_: int, terms: str
    ) -> tuple[MaskingParty, Upload]:
        seen[self.own, round_] = values.copy()
        return real(self, values, round_, terms)

    monkeypatch.setattr(MaskingParty, "protect", protect)
    first = []

    def begin(conf: RunConf, findings: Any) -> NDArray[np.float32]:
        first.append(first_weights(conf, findings))
        return first[0]

    monkeypatch.setattr(whole_run, "first_weights", begin)
    deployment = Deployment(training(tmp_path, rounds=1), tmp_path)
    ran = deployment.start(vanishing("train.generator", 2))
    rows = ran.findings.rows
    came = [p for p in OFFICES if p != "office1"]
    mean = sum(rows.values()) / len(rows)
    total = np.sum([seen[p, 0].astype(float) for p in came], axis=0)
    expected = total / sum(rows[p] / mean for p in came)
    assert ran.findings.weights is not None
    moved = ran.findings.weights - first[0]
    np.testing.assert_allclose(moved, expected, atol=1e-4)
    assert not np.allclose(moved, total / (sum(rows.values()) / mean), atol=1e-4)
