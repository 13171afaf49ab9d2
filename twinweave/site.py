"""What a party itself configures: its table, its identity, its pinned peers, its guard.

Nothing that a server or a peer sends can change it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from twinweave.errors import BudgetError, ConfigError, ProtocolError
from twinweave.generators.conf import GeneratorConf
from twinweave.parsing import Parsed, check_positive
from twinweave.privacy.guard import MOST_DELTA, MOST_EPSILON, GuardConf
from twinweave.tables.column import Column
from twinweave.tables.holdout import check_key
from twinweave.tables.schema import Schema
from twinweave.tables.sources import Source
from twinweave.workload.audit import AuditPlan

PARTY_LOG = "party.log"
"""In the party's private folder: what cleaning changed, what went wrong. Nobody else reads it."""


@dataclass(frozen=True, kw_only=True)
class Site(Parsed):
    """A party's own settings, which nothing that the server sends can change.

    party: this party's name.
    dataset: the party's own name of its table; what is released about the table adds up under it,
    whatever its rows are.
    identity: file of this party's Ed25519 key. pins: peer -> public key, hex.

    pools: the pools that this party agreed to be in, as their members; a specification that
    pools it with anybody else is refused.
    max_epsilon, max_delta: the most that one run may cost, guard on or off.
    max_rows: the most rows that all parties of a run may have together; what a party needs of
    memory and time grows with it.
    holdout_key: 64 hex digits that all parties share and the server lacks; which users are set
    aside for the audit follows from it. None: this party sets nobody aside.
    verdicts: whether this party tells its exact word on synthetic tables, if a run asks for it.
    unsafe: whether this party takes part in runs that train without noise (`privacy.unsafe`).
    checkpoint: folder of the party's own copy of a language model, for runs that train one; the
    run's specification names it by its hash.
    work: private folder for the party's own record of its runs.
    simulated: written for a simulation, from the run's own configuration.
    """

    party: str
    dataset: str
    columns: tuple[Column, ...]
    source: Source
    identity: str
    pins: dict[str, str]
    guard: GuardConf
    pools: tuple[tuple[str, ...], ...] = ()
    max_epsilon: float = MOST_EPSILON
    max_delta: float = MOST_DELTA
    max_rows: int = 20_000_000
    holdout_key: str | None = field(default=None, repr=False)
    verdicts: bool = False
    unsafe: bool = False
    checkpoint: str | None = None
    work: str = field(default=".twinweave")
    simulated: bool = False

    def __post_init__(self) -> None:
        check_positive("site", self, "max_epsilon", most=MOST_EPSILON)
        check_positive("site", self, "max_delta", most=MOST_DELTA)
        check_positive("site", self, "max_rows")
        self.guard.check_delta("site.guard.delta")
        if self.holdout_key is not None:
            check_key("site.holdout_key", self.holdout_key)

    def placed(self, generator: GeneratorConf) -> GeneratorConf:
        """The generator of a run as this party builds it. Raises ConfigError (`placed`)."""
        return generator if self.simulated else generator.placed(self.checkpoint)

    def check_budget(self, epsilon: float, delta: float) -> None:
        """Raise BudgetError where a run's (epsilon, delta) is more than this party allows one."""
        for name, asked in (("max_epsilon", epsilon), ("max_delta", delta)):
            if asked > getattr(self, name):
                raise BudgetError(
                    f"site {name!r}: the run asks for {asked:g}, above this party's limit of "
                    f"{getattr(self, name):g} for one run. Ask for less, or raise it in the site "
                    "file."
                )

    def check_rows(self, rows: int) -> None:
        """Raise ProtocolError where the parties of a run have more rows than this one allows."""
        if rows > self.max_rows:
            raise ProtocolError(
                f"site 'max_rows': the parties say they have {rows} rows together, above this "
                f"party's limit of {self.max_rows}. Raise it in the site file if they do."
            )

    def check_audit(self, plan: AuditPlan) -> None:
        """Raise ConfigError or ProtocolError where this party does not take part in an audit."""
        if plan.holdout and self.holdout_key is None:
            raise ConfigError(
                "site.holdout_key",
                "is missing, and the run sets users aside for its audit",
                "Agree on a key with the other parties, not with the server (`openssl rand -hex "
                "32` makes one), or run with audit=off.",
            )
        if plan.verdict and not self.verdicts:
            raise ProtocolError(
                "the run asks for this party's exact word on the synthetic tables (audit.gate="
                "parties), a bit outside (epsilon, delta). Set `verdicts: true` in the site file "
                "to allow it, or run with audit.gate=counts."
            )

    def check_unsafe(self, unsafe: bool) -> None:
        """Raise ConfigError where a run trains without noise and this party did not agree to it;
        BudgetError where its guard is on, for epsilon is then infinite."""
        if not unsafe:
            return
        if not self.unsafe:
            raise ConfigError(
                "site.unsafe",
                "is false, and the run trains on this party's rows without noise (privacy.unsafe): "
                "what it releases of them has no guarantee at all",
                "Run without privacy.unsafe; or set `unsafe: true` in the site file, if the rows "
                "are nobody's secret.",
            )
        if self.guard.mode == "on":
            raise BudgetError(
                "privacy budget: the run trains without noise (privacy.unsafe), its epsilon is "
                f"infinite, and no limit allows that. Turn the guard off ({self.guard_setting}), "
                "in as many words, or run without privacy.unsafe."
            )

    @property
    def schema(self) -> Schema:
        return Schema(party=self.party, columns=self.columns)

    @property
    def guard_setting(self) -> str:
        """Where the guard is configured: the setting that has effect."""
        return "privacy.guard" if self.simulated else "this party's site file: guard"
