"""Configuration of fairness in what is generated: `conf/fairness/*.yaml`. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from twinweave.errors import ConfigError
from twinweave.generators.conf import GeneratorConf
from twinweave.parsing import Parsed, check_positive
from twinweave.tables.schema import JointSchema
from twinweave.workload.analyses import FairnessConf, check_fairness
from twinweave.workload.queries import Query, query_over

Rule = Literal["demographic_parity", "equalized_odds", "conditional_parity"]
Way = Literal["fit", "decode", "rake"]


@dataclass(frozen=True, kw_only=True)
class EnforceConf(Parsed):
    """What is made equal between groups of the synthetic people, how far, and where.

    constraint: `demographic_parity`, the positive rates of all groups; `conditional_parity`, the
        same among people alike in the admissible columns; `equalized_odds`, true and false
        positive rates, by the labels as measured, of a model trained on the table.
    strength: part of the difference that is taken away: 0 none, 1 all.
    enforce: `rake`, a constraint on the weights of candidate rows; `fit`, a penalty on the
        mixture's own output, which is fitted on; `decode`, the llm's label logits moved by
        group, and labels decoded anew.
    sensitive, label, positive: None for those of the data (`data.fairness`).
    intersections: groups are the combinations of all sensitive columns' levels; else those of
        one column at a time, all columns at once.
    admissible: columns that may explain a difference, for `conditional_parity`.
    smallest: synthetic people of a group; smaller ones are put together into one.
    tolerance: how far a difference may be from the one aimed at before the report says so.
    keep_original: write the tables without the constraint too, in synthetic/original.
    """

    constraint: Literal["none"] | Rule = "none"
    strength: float = 1.0
    enforce: Way = "rake"
    sensitive: tuple[str, ...] | None = None
    label: str | None = None
    positive: str | None = None
    intersections: bool = True
    admissible: tuple[str, ...] = ()
    smallest: int = 100
    tolerance: float = 0.01
    keep_original: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise ConfigError(
                "fairness.strength", "not in 0 to 1", "Give 1 to take all of a difference away."
            )
        check_positive("fairness", self, "smallest", "tolerance")
        if (self.constraint == "conditional_parity") != bool(self.admissible):
            raise ConfigError(
                "fairness.admissible",
                "goes with constraint=conditional_parity, and only with it",
                "Name the columns that may explain a difference, or choose demographic_parity.",
            )
        for name in ("sensitive", "admissible"):
            named = getattr(self, name) or ()
            if len(set(named)) < len(named):
                raise ConfigError(f"fairness.{name}", "a column repeats", "Name each once.")
        if (self.label is None) != (self.positive is None):
            raise ConfigError(
                "fairness.positive",
                "a label and its favourable level come together",
                "Give both fairness.label and fairness.positive, or neither.",
            )


@dataclass(frozen=True, kw_only=True)
class Enforcement:
    """An `EnforceConf` settled on a schema. No key, no value of anybody.

    levels: of every column named, by its name. positive: code of the favourable label. queries:
    of groups (and admissible columns) by label, one a grouping, None where no two parties hold
    all of them between them.
    """

    constraint: Rule
    strength: float
    way: Way
    groupings: tuple[tuple[str, ...], ...]
    admissible: tuple[str, ...]
    label: str
    positive: int
    levels: dict[str, tuple[str, ...]]
    smallest: int
    tolerance: float
    queries: tuple[Query | None, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that a row must have for the constraint to speak of it."""
        sensitive = (c for grouping in self.groupings for c in grouping)
        return tuple(dict.fromkeys((self.label, *sensitive, *self.admissible)))


def audited(conf: EnforceConf, declared: FairnessConf | None) -> FairnessConf | None:
    """Whom the audit looks at: the enforced pair where one is named, else what the data declares.

    Raises ConfigError where a constraint has no label or no sensitive column.
    """
    if conf.constraint == "none" or not (conf.sensitive or conf.label):
        if conf.constraint != "none" and declared is None:
            raise ConfigError(
                "fairness.constraint",
                "the data declares no label and no sensitive column",
                "Give fairness.sensitive, fairness.label and fairness.positive.",
            )
        return declared
    sensitive = conf.sensitive or (declared.sensitive if declared else ())
    label = conf.label or (declared.label if declared else None)
    positive = conf.positive or (declared.positive if declared else None)
    if not label or not positive:
        raise ConfigError(
            "fairness.label",
            "the data declares none",
            "Give fairness.label and fairness.positive.",
        )
    return FairnessConf(sensitive=sensitive, label=label, positive=positive)


def enforcement(
    schema: JointSchema,
    conf: EnforceConf,
    declared: FairnessConf | None,
    generator: GeneratorConf | None,
) -> Enforcement | None:
    """What there is to enforce; None for nothing. Raises ConfigError where it cannot be."""
    if conf.constraint == "none":
        return None
    pair = audited(conf, declared)
    assert pair is not None
    check_fairness(schema, pair)
    for name in conf.admissible:
        if name not in schema.names or name in (pair.label, *pair.sensitive):
            raise ConfigError(
                "fairness.admissible",
                f"{name!r} is no column beside the label and the sensitive ones",
                f"Columns: {', '.join(schema.names)}.",
            )
    _check_way(conf.enforce, generator)
    together = conf.intersections or len(pair.sensitive) == 1
    groupings = (pair.sensitive,) if together else tuple((c,) for c in pair.sensitive)
    queries = tuple(query_over(schema, *g, *conf.admissible, pair.label) for g in groupings)
    if conf.enforce == "fit" and None in queries:
        raise ConfigError(
            "fairness.enforce",
            "fit compares the groups in one table, and no two parties hold its columns",
            "Choose fairness.enforce=rake, or fairness.intersections=false.",
        )
    named = (pair.label, *pair.sensitive, *conf.admissible)
    return Enforcement(
        constraint=conf.constraint,
        strength=conf.strength,
        way=conf.enforce,
        groupings=groupings,
        admissible=conf.admissible,
        label=pair.label,
        positive=schema.column(pair.label).labels.index(pair.positive),
        levels={c: schema.column(c).labels for c in named},
        smallest=conf.smallest,
        tolerance=conf.tolerance,
        queries=queries,
    )


def _check_way(way: Way, generator: GeneratorConf | None) -> None:
    if generator is None:
        raise ConfigError(
            "fairness.constraint",
            "there is no generator whose rows it could speak of",
            "Choose generator=tvae, ctgan or llm, or fairness.constraint=none.",
        )
    if way == "decode" and not generator.writes:
        raise ConfigError(
            "fairness.enforce",
            "decode moves the label's logits of a generator that writes it: the llm",
            "Choose generator=llm, or fairness.enforce=rake or fit.",
        )
    if way == "fit" and not generator.soft:
        raise ConfigError(
            "fairness.enforce",
            "fit needs soft output, which this generator has none of",
            "Choose fairness.enforce=rake, or generator=tvae or ctgan.",
        )
