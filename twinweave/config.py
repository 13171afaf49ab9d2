"""The configuration of a run, validated: what Hydra composes from conf/ becomes these types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, prod
from pathlib import Path
from typing import Any, Literal

from twinweave.errors import ConfigError
from twinweave.generators.conf import NamedGenerator
from twinweave.generators.earning import TrainingShare, check_unsafe, training_share
from twinweave.names import check_name
from twinweave.overrides import refused
from twinweave.parsing import Parsed, check_not_negative, check_positive, parse
from twinweave.paths import located
from twinweave.privacy.accountant import check_delta
from twinweave.privacy.events import Stage
from twinweave.privacy.guard import GuardConf
from twinweave.privacy.noise import DEALT_COINS
from twinweave.spec import CrossTables, SecureSum
from twinweave.synthesis.conf import SynthesisConf
from twinweave.synthesis.fairness.conf import EnforceConf, Enforcement, audited, enforcement
from twinweave.tables.campaign import MAX_SPEND, TrueLift, true_lift
from twinweave.tables.column import Column
from twinweave.tables.rules import Implies, Impossible
from twinweave.tables.schema import JointSchema, Schema
from twinweave.tables.sources import Source
from twinweave.workload.analyses import Analyses, FairnessConf, LiftConf, check_fairness, check_lift
from twinweave.workload.audit import AuditConf
from twinweave.workload.selection import SelectionConf
from twinweave.workload.tables import WorkloadConf


@dataclass(frozen=True, kw_only=True)
class PartyConf(Parsed):
    """One party and its table.

    name: of the party. columns: of its table, each with what is public of it.
    source: where the table is; of a simulation only, a deployment's site file says.
    """

    name: str
    columns: tuple[Column, ...]
    source: Source | None = None

    @property
    def schema(self) -> Schema:
        return Schema(party=self.name, columns=self.columns)


@dataclass(frozen=True, kw_only=True)
class DataConf(Parsed):
    """A dataset and its split between the parties (conf/data).

    name: a simulation's guard adds up under it. parties: two or more.
    root: folder at which relative paths of sources start.
    lift: the experiment to analyse; null: none. fairness: whom the audit looks at; null: nobody.
    holdout: sources of public rows, by name, that no run uses: what studies test on.
    pools: groups of parties that hold the same columns of different people, each asked as one
        (see JointSchema). The run ends before anything is released where a person is at two.
    implies: public rules by which one column follows from another; every synthetic row keeps them.
    impossible: levels, by column, that no row has together; no synthetic row has them.
    """

    name: str
    parties: tuple[PartyConf, ...]
    pools: tuple[tuple[str, ...], ...] = ()
    implies: tuple[Implies, ...] = ()
    impossible: tuple[Impossible, ...] = ()
    root: str = "."
    lift: LiftConf | None = None
    fairness: FairnessConf | None = None
    holdout: dict[str, Source] | None = None

    def __post_init__(self) -> None:
        check_name("the dataset", self.name)
        if len(self.parties) < 2:
            raise ConfigError("data.parties", "a run has two parties or more", "Add a party.")
        schema = self.schema
        if self.lift is not None:
            check_lift(schema, self.lift)
        if self.fairness is not None:
            check_fairness(schema, self.fairness)

    @property
    def simulated(self) -> bool:
        """Whether every table is the built-in campaign's."""
        return all(p.source is not None and p.source.campaign is not None for p in self.parties)

    def clips(self, chosen: Mapping[str, float]) -> dict[str, float]:
        """Clips below the upper bound, stated or chosen in the run, by value column."""
        if self.lift is None:
            return {}
        clips = {**self.lift.stated_clips, **chosen}
        return {c: clip for c, clip in clips.items() if clip < self.schema.column(c).span[1]}

    def true_lift(self, chosen: Mapping[str, float]) -> TrueLift | None:
        """The true lift where the data are the simulated campaign and an experiment is analysed.

        chosen: clips chosen in the run, by value column.
        """
        campaigns = (p.source.campaign for p in self.parties if p.source and p.source.campaign)
        campaign = next(campaigns, None) if self.lift is not None else None
        if campaign is None:
            return None
        return true_lift(campaign, self.clips(chosen).get("spend", MAX_SPEND))

    @property
    def schema(self) -> JointSchema:
        return JointSchema(
            schemas=tuple(p.schema for p in self.parties),
            pools=self.pools,
            implies=self.implies,
            impossible=self.impossible,
        )

    @property
    def analyses(self) -> Analyses:
        return Analyses(schema=self.schema, lift=self.lift, fairness=self.fairness)


@dataclass(frozen=True, kw_only=True)
class PrivacyConf(Parsed):
    """The end-to-end budget and how it is shared over stages.

    shares: of the training also `auto`, by the rule of generators/earning.py.
    demo: chosen by nobody, for the built-in campaign.
    unsafe: train the generator without noise: epsilon is infinite. The budget is the tables'.
    """

    epsilon: float
    delta: float
    shares: dict[Stage, float | Literal["auto"]]
    priority_share: float
    k: int
    guard: GuardConf
    demo: bool = False
    unsafe: bool = False

    def __post_init__(self) -> None:
        if not (0 < self.epsilon < 100 and 0 < self.delta < 1e-2):
            raise ConfigError(
                "privacy",
                "epsilon must be in (0, 100) and delta in (0, 0.01)",
                "Common choices are epsilon=1, delta=1e-5.",
            )
        check_delta(self.delta)
        self.guard.check_delta("privacy.guard.delta")
        if any(s == "auto" for stage, s in self.shares.items() if stage is not Stage.TRAINING):
            raise ConfigError(
                "privacy.shares", "only the training's can be auto", "Give the others numbers."
            )
        given = [s for s in self.shares.values() if s != "auto"]
        if not (all(0 <= s < inf for s in given) and sum(given) > 0):
            raise ConfigError(
                "privacy.shares", "must be 0 or more, and some above 0", "Give each stage its part."
            )
        if not 0.25 <= self.priority_share <= 1:
            raise ConfigError(
                "privacy.priority_share",
                "the priority workload gets at least 0.25",
                "Give a share in [0.25, 1].",
            )
        check_not_negative("privacy", self, "k")


@dataclass(frozen=True, kw_only=True)
class ProtocolConf(Parsed):
    """Which protocol computes what, and how long to wait for a party.

    noise: of cross tables; `coins` (variance s^2 + 19/4, nobody knows the noise) as far as
        `coin_limit` dealt words go, `gaussian` (from each party: 2 s^2) beyond. Without a
        dealer (cross_tables: homomorphic) there are no coins.
    colluding: parties that may pool what they know (with each other or the server); above 0
        only where no server deals what masks the tables between parties.
    first_timeout: seconds for the first message: parties may still be starting.
    timeout: seconds for every later one.
    """

    alignment: Literal["ristretto", "prf"]
    cross_tables: CrossTables
    secure_sum: SecureSum
    noise: Literal["coins", "gaussian"]
    coin_limit: int
    colluding: int
    first_timeout: float
    timeout: float

    def __post_init__(self) -> None:
        if self.first_timeout < 300:
            raise ConfigError(
                "protocol.first_timeout",
                "must be at least 300 s",
                "A deployment starts a process at every party first.",
            )
        check_positive("protocol", self, "timeout")
        check_not_negative("protocol", self, "coin_limit", most=DEALT_COINS)


@dataclass(frozen=True, kw_only=True)
class FederationConf(Parsed):
    """Who plays the parties.

    mode: in a `simulation` this machine plays every party; in a `deployment` each has a SuperNode
        with a site file of its own.
    """

    mode: Literal["simulation", "deployment"]


MAX_PATTERNS = 1 << 12
"""Of presence: at which party of each pool, or nowhere. Synthesis weighs every one of them."""


@dataclass(frozen=True, kw_only=True)
class ReportConf(Parsed):
    """How much is printed.

    verbose: all that the page of a run has on the terminal too, and not one screen of it.
    """

    verbose: bool = False


@dataclass(frozen=True, kw_only=True)
class RunConf(Parsed):
    """Everything that defines a run.

    generator: what makes synthetic rows; `generator=none` (null) measures only.
    output: the folder of the run, where the server runs; new or empty.
    audit: what synthetic tables are put to before they are handed out.
    superlink: a connection in Flower's configuration; None is its default, a local simulation.
    resume: the folder of an unfinished run to go on with, whose own configuration then holds.
    objective: what a sweep makes small, one or several: `utility`, `noise_ratio`, `fairness`, or
        the path of a number in report.json (lift.conversions.0.overall.mde).
    """

    data: DataConf
    privacy: PrivacyConf
    protocol: ProtocolConf
    workload: WorkloadConf
    selection: SelectionConf
    generator: NamedGenerator | None
    synthesis: SynthesisConf
    federation: FederationConf
    seed: int
    output: str
    audit: AuditConf = field(default_factory=lambda: AuditConf(mode="off"))
    engine: Literal["flower", "inprocess"] = "flower"
    superlink: str | None = None
    resume: str | None = None
    objective: str | tuple[str, ...] = "noise_ratio"
    report: ReportConf = field(default_factory=ReportConf)
    fairness: EnforceConf = field(default_factory=EnforceConf)

    def __post_init__(self) -> None:
        patterns = prod(len(unit) + 1 for unit in self.data.schema.units)
        if self.generator is not None and patterns > MAX_PATTERNS:
            raise ConfigError(
                "generator",
                "too many parties with own columns (12 at most)",
                "Measure only (generator=none), or pool parties that hold the same columns.",
            )
        if self.privacy.demo and not self.data.simulated:
            raise ConfigError(
                "privacy",
                "the group `demo` (epsilon 1, guard off) is for the built-in campaign alone",
                "Choose: add privacy=default privacy.epsilon=1 privacy.delta=1e-5, or for public "
                "data privacy=public privacy.epsilon=1.",
            )
        if self.generator is not None or self.resume is None:  # or it goes on without its own
            check_unsafe(self.generator, self.privacy.unsafe)
        self.settled_workload  # noqa: B018 (raises where it asks for too little)
        self.enforcement  # noqa: B018 (raises where it cannot be)
        self._check_collusion()
        for name in self.audit.quasi_identifiers:
            if name not in self.data.schema.names:
                raise ConfigError(
                    "audit.quasi_identifiers",
                    f"there is no column {name!r}",
                    f"Name columns of: {', '.join(self.data.schema.names)}.",
                )
        if self.federation.mode == "simulation":
            for party in self.data.parties:
                if party.source is None:
                    raise ConfigError(
                        f"data.parties.{party.name}.source",
                        "is missing",
                        "A simulation reads every party's table.",
                    )

    @property
    def settled_workload(self) -> WorkloadConf:
        """`workload` with its scope decided. Raises ConfigError (`WorkloadConf.settled`)."""
        return self.workload.settled(
            self.data.analyses,
            generates=self.generator is not None,
            selects=self.selection.when == "always",
        )

    @property
    def enforcement(self) -> Enforcement | None:
        """What is made fair of the generated rows, None for nothing. Raises ConfigError.

        A run that goes on without its generator has no rows any more.
        """
        if self.generator is None and self.resume is not None:
            return None
        return enforcement(self.data.schema, self.fairness, self.data.fairness, self.generator)

    @property
    def audited_fairness(self) -> FairnessConf | None:
        """Whom the fairness audit looks at: the pair that is enforced, else the data's own."""
        return audited(self.fairness, self.data.fairness)

    @property
    def training(self) -> TrainingShare | None:
        """What the generator's private training gets of the budget, and why; None without one."""
        asked, unsafe = self.privacy.shares.get(Stage.TRAINING, 0.0), self.privacy.unsafe
        return training_share(self.generator, None if asked == "auto" else asked, unsafe=unsafe)

    @property
    def trains(self) -> bool:
        """Whether parties take steps on their rows: private ones, unless the run is unsafe."""
        return self.training is not None and self.training.trains

    @property
    def objectives(self) -> tuple[str, ...]:
        return (self.objective,) if isinstance(self.objective, str) else self.objective

    @property
    def shares(self) -> dict[Stage, float]:
        """`privacy.shares` with the training's decided."""
        given = {stage: s for stage, s in self.privacy.shares.items() if s != "auto"}
        return {**given, Stage.TRAINING: self.training.share if self.training else 0.0}

    def _check_collusion(self) -> None:
        """Raise ConfigError where a dealer would be trusted not to collude with a party."""
        protocol = self.protocol
        dealt = protocol.cross_tables != "homomorphic" and len(self.data.schema.units) > 1
        if protocol.colluding and dealt:
            raise ConfigError(
                "protocol.colluding",
                "above 0, but the server deals the masks of the tables between parties: with one "
                "of them it reads the other's rows",
                "Choose protocol.cross_tables=homomorphic, or leave protocol.colluding at 0.",
            )

    @property
    def audits(self) -> bool:
        """Whether synthetic tables are made, and audited."""
        return self.generator is not None and self.audit.mode != "off"

    @property
    def holdout(self) -> float:
        """Part of the users that is set aside, for an audit."""
        return self.audit.holdout if self.audits else 0.0

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> RunConf:
        """Build from plain nested mappings. Raises ConfigError or SchemaError."""
        return parse(cls, data)


def conf_folder() -> Path:
    """conf/: inside the package in an installed wheel, beside it in a checkout and in a bundle."""
    package = Path(__file__).resolve().parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def compose(overrides: Sequence[str]) -> dict[str, Any]:
    """conf/run.yaml with overrides. Raises ConfigError for what Hydra refuses."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        with initialize_config_dir(config_dir=str(conf_folder()), version_base=None):
            return plain(hydra_compose("run", overrides=list(overrides)))
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise refused(error, overrides, conf_folder()) from None


def plain(config: Any) -> dict[str, Any]:
    """A composed Hydra configuration as plain mappings, resolved, without Hydra's own part."""
    from omegaconf import OmegaConf, open_dict
    from omegaconf.errors import OmegaConfBaseException

    with open_dict(config):
        config.pop("hydra", None)
    try:
        if OmegaConf.select(config, "data.root") is not None:
            config.data.root = str(Path(config.data.root).expanduser().resolve())
        data = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or "overrides"
        first = str(error).splitlines()[0]
        raise ConfigError(str(key), first, "Set it on the command line.") from None
    assert isinstance(data, dict)
    return located({str(key): value for key, value in data.items()})
