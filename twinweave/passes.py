"""How a run divides its budget over one pass of tables or two, and whether it needs two."""

from __future__ import annotations

from twinweave.config import RunConf
from twinweave.errors import ConfigError
from twinweave.privacy import accountant
from twinweave.privacy.events import Stage
from twinweave.protocols.products import kinds
from twinweave.workload import adaptive
from twinweave.workload.clip import clip_queries
from twinweave.workload.priority import priority_tables

NEED = 2.0
"""Of k, the noise that a table of an audit alone needs no less than (a standard deviation)."""


def selects(conf: RunConf) -> bool:
    """Whether features are selected, which is for tables of theirs alone.

    Raises ConfigError where a product that cannot select features is told to.
    """
    able = kinds.can_select(conf.protocol.cross_tables)
    if not able and conf.selection.when == "always":
        raise ConfigError(
            "selection.when",
            "homomorphic tables are too few to select features by",
            "Use selection.when=never, or protocol.cross_tables=secret_sharing.",
        )
    workload = conf.settled_workload
    applies = conf.selection.applies(conf.data.analyses, workload.max_pair_columns)
    return able and applies and workload.scope == "all"


def adapts(conf: RunConf) -> bool:
    """Whether tables are asked for in two passes, the second as the first shows their worth.

    Raises ConfigError where a run that cannot is told to.
    """
    workload, columns = conf.settled_workload, len(conf.data.schema.names)
    able = kinds.can_select(conf.protocol.cross_tables) and not selects(conf)
    able &= workload.pairs and columns <= workload.max_pair_columns
    if workload.adaptive == "always" and not able:
        raise ConfigError(
            "workload.adaptive",
            "always, but this run does not choose among all pairs of columns: it selects features, "
            "has more than max_pair_columns, asks for no pairs, or its product is homomorphic",
            "Use workload.adaptive=auto.",
        )
    learnt = conf.generator is not None and columns >= adaptive.FEWEST
    wanted = workload.adaptive == "always" or (workload.adaptive == "auto" and learnt)
    return wanted and able and workload.scope == "all"


def shares_of(conf: RunConf) -> dict[Stage, float]:
    """Of the budget, by stage. The first pass of tables asked for as they are worth is paid from
    the measurement's share, beside what clips are chosen from.

    Raises ConfigError where priority tables leave nothing to it.
    """
    shares = dict(conf.shares)
    if adapts(conf):
        rest = 1 - _priority_share(conf)
        if rest <= 0:
            raise ConfigError(
                "privacy.priority_share",
                "leaves nothing to the other tables",
                "Give less than 1, or measure the priority tables alone.",
            )
        first = adaptive.FIRST * rest * shares[Stage.MEASUREMENT]
        clips = shares[Stage.SELECTION] if clip_queries(conf.data.analyses) else 0.0
        shares[Stage.MEASUREMENT] -= first
        shares[Stage.SELECTION] = first + clips
    return shares


def coins_of(conf: RunConf, stage: Stage) -> int:
    """Coins that a pass may take. Of tables asked for as they are worth the first pass takes its
    part, so that two passes take no longer to deal than one."""
    most = conf.protocol.coin_limit
    if not adapts(conf):
        return most
    first = round(adaptive.FIRST * most)
    return first if stage is Stage.SELECTION else most - first


def least_share(conf: RunConf, stage: Stage) -> float:
    """What priority tables get at least of a stage: where a first pass is paid from the
    measurement's share, as much as they would have got without it."""
    if not adapts(conf):
        return _priority_share(conf)
    own = Stage.SELECTION if stage is Stage.SELECTION else Stage.MEASUREMENT
    part = 1.0 if stage is Stage.SELECTION else _priority_share(conf)
    return min(1.0, part * conf.shares[own] / shares_of(conf)[own])


def _priority_share(conf: RunConf) -> float:
    """What priority tables get at least of the measurement: as configured for a lift.

    An audit's alone need no less noise than NEED times the k users below which nothing is shown.
    """
    share, budget = conf.privacy.priority_share, conf.privacy
    if conf.data.lift is not None or not budget.k:
        return share
    mu = accountant.gaussian_mu(budget.epsilon, budget.delta)
    shares = conf.shares
    others = shares[Stage.TRAINING] if conf.trains else 0.0
    others += shares.get(Stage.EVALUATION, 0.0) if conf.audits else 0.0
    whole = mu**2 * shares[Stage.MEASUREMENT] / (shares[Stage.MEASUREMENT] + others)
    tables = len(priority_tables(conf.data.analyses))
    return min(share, tables / (NEED * budget.k) ** 2 / whole)
