"""What is asked of the audit of a run's synthetic tables, and what of it may reach the server.

Each party looks at the synthetic tables beside its own rows, those that the run used and those
that it set aside before (the holdout), and keeps what it finds. The server gets counts with
noise, under the share of the evaluation stage, or nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from twinweave.errors import ConfigError, ProtocolError
from twinweave.parsing import Parsed, check_positive
from twinweave.privacy.events import MOST_NOISE, DiscreteGaussian, Event, Stage

Depth = Literal["off", "quick", "full"]
"""off: no audit, no holdout. quick: in seconds. full: every attack and bound, in minutes."""

MOST_HOLDOUT = 0.5
HOLDOUT_STEP = 5
"""In percent, of the part that is set aside. The server says which part, and is told the exact size
of the rest: could it ask for any part, it would find the keyed hash of every user, one size after
another, and know them again in other tables and runs."""

COUNTED = ("copies",)
"""Attacks whose hits may be counted for the server: whether a row is hit follows from that row
and the synthetic tables alone, so that one user changes one cell of its table by one."""

HIT_CELLS = 4
"""Of an attack's table: rows used and hit, used and missed, set aside and hit, set aside and
missed. A user is in one of them at most."""


EXACT_WORDS = (
    "Exception: each party tells its exact word on the synthetic tables (audit.gate=parties). "
    "These bits are outside epsilon and delta, and in no event."
)
"""What must stand beside the epsilon of a run that asks for them."""


@dataclass(frozen=True, kw_only=True)
class AuditConf(Parsed):
    """conf/audit.

    holdout: part of the users whom every party sets aside before the run, the same ones at every
        party: what attacks and models are held against. Of a run with a generator.
    gate: who says that the tables are withheld. `counts`: what the server knows, noisy counts of
        hits (privacy.shares.evaluation) and the lower bounds of epsilon. `parties`: a word of
        each party too, from its exact findings; that bit is outside (epsilon, delta). `off`:
        nobody; findings are told.
    threshold: an attack may succeed so much more often on rows that were used than on rows that
        were set aside; the tables are withheld where the whole interval lies above.
    quasi_identifiers: columns by which somebody could be found elsewhere. Tables are described
        over them: k-anonymity, l-diversity, t-closeness.
    k: rows that should agree on all of them. suppress: leave out synthetic rows of smaller classes.
    """

    mode: Depth
    holdout: float = 0.1
    gate: Literal["counts", "parties", "off"] = "counts"
    threshold: float = 0.1
    quasi_identifiers: tuple[str, ...] = ()
    k: int = 5
    suppress: bool = False

    def __post_init__(self) -> None:
        check_holdout("audit.holdout", self.holdout)
        check_positive("audit", self, "k")
        if len(set(self.quasi_identifiers)) != len(self.quasi_identifiers):
            raise ConfigError("audit.quasi_identifiers", "columns repeat", "Name each once.")
        if self.suppress and not self.quasi_identifiers:
            raise ConfigError(
                "audit.suppress",
                "is asked for, but no quasi-identifier is named",
                "Name columns in audit.quasi_identifiers, or leave audit.suppress at false.",
            )
        if not 0 < self.threshold < 1:
            raise ConfigError(
                "audit.threshold",
                "must be in (0, 1)",
                "Give the difference of two rates that an attack may reach, 0.1 say.",
            )
        if self.mode != "off" and not self.holdout:
            raise ConfigError(
                "audit.holdout",
                "is 0, and an attack means nothing without rows that were not used",
                "Give a part of the users, 0.1 say, or audit=off.",
            )


@dataclass(frozen=True, kw_only=True)
class AuditPlan(Parsed):
    """The audit as every party accepts it with the run's specification.

    counted: attacks whose hits the server is told, with noise of this multiplier; () and None
        where it is told nothing. verdict: whether it asks for each party's exact word.
    quasi_identifiers, k: over which tables are described.
    """

    mode: Depth
    holdout: float
    threshold: float
    counted: tuple[str, ...] = ()
    noise_multiplier: float | None = None
    verdict: bool = False
    quasi_identifiers: tuple[str, ...] = ()
    k: int = 5

    def __post_init__(self) -> None:
        check_holdout("run specification: holdout", self.holdout)
        if bool(self.counted) != (self.noise_multiplier is not None):
            raise ProtocolError("an audit's counts and their noise come together. Start a new run.")
        if len(set(self.counted)) != len(self.counted) or not set(self.counted) <= set(COUNTED):
            raise ProtocolError("an audit counts what this release does not know. Refused.")
        if self.noise_multiplier is not None:
            check_positive("run specification: audit", self, "noise_multiplier", most=MOST_NOISE)

    def events(self, party: str) -> tuple[Event, ...]:
        """What a party releases of its findings: one table of HIT_CELLS an attack."""
        if self.noise_multiplier is None:
            return ()
        noise = DiscreteGaussian(noise_multiplier=self.noise_multiplier)
        return tuple(
            Event(
                label=f"audit at {party}: {name}",
                stage=Stage.EVALUATION,
                parties=(party,),
                mechanism=noise,
            )
            for name in self.counted
        )


def check_holdout(field: str, part: float) -> None:
    """Raise ConfigError unless a part of the users may be set aside."""
    # One floating-point number for each part: what is next to it is another question.
    if not (0 <= part <= MOST_HOLDOUT and part == round(part, 2)) or (
        round(100 * part) % HOLDOUT_STEP
    ):
        raise ConfigError(
            field,
            f"must be a multiple of {HOLDOUT_STEP / 100:g} between 0 and {MOST_HOLDOUT:g}",
            "Give a part of the users, 0.1 say.",
        )
