"""What an audit of synthetic tables finds, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from twinweave.analysis.finding import Interval
from twinweave.parsing import parse

LEVEL = 0.95
"""Of every interval here."""


@dataclass(frozen=True, kw_only=True)
class AttackFinding:
    """How one attack did on rows that the run used, beside rows that it had set aside.

    name: of the attack, unique in an audit. success, control: what it reached on rows that were
    used, and on rows that were not (a rate of right guesses; an AUC beside 0.5). interval: of
    success - control, two-sided at LEVEL, sampling and noise in it. threshold: what success -
    control may be. exceeds: whether the whole interval lies above. used, aside: rows attacked.
    detail: one line for a reader, or "".
    """

    name: str
    success: float
    control: float
    interval: Interval
    threshold: float
    used: int = 0
    aside: int = 0
    detail: str = ""
    exceeds: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "exceeds", self.interval[0] > self.threshold)

    @property
    def advantage(self) -> float:
        return self.success - self.control


@dataclass(frozen=True, kw_only=True)
class LowerBound:
    """What canaries prove that one release path gives away, beside what is claimed for it.

    path: of the release ("measured tables: coins", "training: tvae"). claimed: epsilon at the
    run's delta. bound: a lower bound of the true epsilon at that delta, that is wrong with
    probability 1 - confidence at most. ceiling: what the instrument proves, on average,
    of a mechanism that spends exactly what is claimed. exceeds: whether the claim is disproved.
    """

    path: str
    claimed: float
    bound: float
    ceiling: float
    confidence: float
    detail: str = ""
    exceeds: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "exceeds", self.bound > self.claimed)


@dataclass(frozen=True, kw_only=True)
class UtilityFinding:
    """A measure of how like the real rows the synthetic ones are.

    against: the same measure where nothing is left to win: for rows drawn from the real table,
    for a model trained on real rows, of noise alone. None where there is no such figure.
    n: real rows it was measured on. weak: whether it hardly tells good tables from bad ones.
    """

    name: str
    value: float
    interval: Interval | None = None
    against: float | None = None
    n: int = 0
    weak: bool = False
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Why tables are withheld, and what to do. source: "publisher", or "canaries"."""

    source: str
    what: str
    remedy: str


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Whether the synthetic tables are handed out.

    state: `open`; `withheld`, for `reasons`; `off`, where nobody was to decide.
    unseen: what the gate could not look at, in sentences.
    """

    state: Literal["open", "withheld", "off"]
    reasons: tuple[Reason, ...] = ()
    unseen: tuple[str, ...] = ()

    @property
    def withheld(self) -> bool:
        return self.state == "withheld"

    @property
    def why(self) -> str:
        """All reasons in one line, without their remedies."""
        return "; ".join(f"{reason.source}: {reason.what}" for reason in self.reasons)


def gate_of(report: Mapping[str, Any]) -> Gate:
    """Of a run's report as read from its file; `off` where the run had no audit."""
    audit = report.get("audit")
    return parse(Gate, audit["gate"], where="audit.gate") if audit else Gate(state="off")
