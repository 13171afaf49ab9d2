"""Noise for every release of a run, such that all of them together meet one (epsilon, delta).

Precision is the currency: a release with noise multiplier s costs 1 / s**2 of mu**2, the
parameter of Gaussian DP (Dong, Roth, Su 2022), which adds up under composition. A stage gets
its share of mu**2, a query its share of its stage's. One number, mu, is then scaled until the
accountant says that the exact composition meets epsilon: Gaussian DP chooses the proportions,
the accountant decides the cost.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

from twinweave.errors import BudgetError, ConfigError
from twinweave.parsing import check_positive
from twinweave.privacy import accountant
from twinweave.privacy.events import MOST_COINS, DiscreteGaussian, Event, PoissonSgd, Stage
from twinweave.privacy.noise import OWN_COINS, DealtCoins, Noise, OwnCoins, OwnGaussian

TOLERANCE = 1e-3  # of epsilon, left unspent at most (more only where coins are a handful)
_STEP = 1.05  # noise multipliers within a stage differ by powers of this, so that many are equal
_SGD_STEP = 1.02  # grid of noise multipliers at which SGD is accounted for
_SGD_GRID = range(-160, 466)  # powers of it: noise multipliers 0.04 to 10,000
_COARSE = 16
LARGE = 0.1  # of the coin limit
MIN_COINS = 40  # a unit of sensitivity: fewer have a worse tail (mass 2**-coins gives a user away)


@dataclass(frozen=True, kw_only=True)
class WorkItem:
    """One table to be measured with noise.

    name: unique; becomes the event's label. cells: of the table. parties: whose users it counts.
    sensitivity: units by which one user changes one cell (1 for counts, VALUE_UNITS for sums).
    coins: shared binomial coins instead of a discrete Gaussian.
    unknown: each party draws coins of its own, and so many parties' are unknown to a reader; 0
        where a dealer deals the coins, which is what `coin_limit` bounds.
    importance: factor on its share of the budget: what a report stands on gets more than 1.
    """

    name: str
    cells: int
    parties: tuple[str, ...]
    stage: Stage = Stage.MEASUREMENT
    priority: bool = False
    sensitivity: int = 1
    coins: bool = False
    importance: float = 1.0
    unknown: int = 0

    def __post_init__(self) -> None:
        check_positive(f"workload.{self.name}", self, "importance", "cells", "sensitivity")
        if self.unknown and self.sensitivity != 1:
            raise ConfigError(
                "workload",
                f"the sum {self.name!r} asks for coins of a pool",
                "Use Gaussian noise for it.",
            )


@dataclass(frozen=True, kw_only=True)
class SgdItem:
    """DP-SGD at one party: everything public but the noise, which `calibrate` chooses.

    also: further members of its pool: a user is at one of them, so that they cost what one
    does; sampling_rate is then the largest.
    """

    party: str
    sampling_rate: float
    steps: int
    also: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """The noise of a run before any of it is drawn.

    noise: of each item, in their order. training: noise multiplier of each SgdItem, in theirs.
    events: what both will release; a table's is labelled with its item's name.
    epsilon: of these and the `fixed` events together, at the delta asked.
    """

    noise: tuple[Noise, ...]
    training: tuple[float, ...]
    events: tuple[Event, ...]
    epsilon: float


def calibrate(
    *,
    epsilon: float,
    delta: float,
    shares: Mapping[Stage, float],
    priority_share: float,
    items: Sequence[WorkItem],
    sgd: Sequence[SgdItem] = (),
    fixed: Sequence[Event] = (),
    coin_limit: int | None = None,
) -> Allocation:
    """Noise of every item and training, composing to at most epsilon and at least 99.9% of it.

    shares: of mu**2, by stage; only proportions matter, and a stage without work leaves its
        share to the others. Parties' trainings divide their stage's share equally (a user may
        sit in every party's table, so they compose).
    priority_share: the least part that goes to priority items, of the measurement stage and of the
        selection stage, whose priority tables clips are chosen from.
    fixed: events already settled, of any stage; they count against epsilon.
    coin_limit: coins in all (coins a cell, times cells). Items that ask for coins get them in
        turn, priority items first and of these the one that takes fewest, where they fit into
        what is left; the others, and those that need fewer than MIN_COINS a unit, get discrete
        Gaussian noise of the same multiplier. None: no limit.

    Within a stage, an item's share is proportional to importance * cells**(2/3), which (at
    importance 1) minimises the summed L1 error of the tables (PrivSyn: Zhang et al. 2021,
    section 4.2). Raises ConfigError for work in a stage whose share is 0, BudgetError if
    `fixed` leaves nothing.
    """
    spent = accountant.epsilon(fixed, delta)
    if not items and not sgd:
        return Allocation(noise=(), training=(), events=(), epsilon=spent)
    if spent >= epsilon:
        raise BudgetError(
            f"privacy budget: what is settled already spends epsilon {epsilon:.4g} or more. "
            "Raise privacy.epsilon or drop earlier stages."
        )
    stages = _stage_weights(shares, {i.stage for i in items}, with_training=bool(sgd))
    weights = _item_weights(stages, priority_share, items)
    training_weight = stages.get(Stage.TRAINING, 0.0)

    def build(mu: float) -> Allocation:
        noise = _table_noise(items, weights, mu, coin_limit)
        training = _training_noise(sgd, mu * math.sqrt(training_weight), delta)
        events = (*_table_events(items, noise), *_training_events(sgd, training))
        total = accountant.epsilon((*fixed, *events), delta)
        return Allocation(noise=noise, training=training, events=events, epsilon=total)

    return _largest(build, accountant.gaussian_mu(epsilon, delta), epsilon)


def calibrate_within(
    reserved: DiscreteGaussian,
    *,
    priority_share: float,
    items: Sequence[WorkItem],
    coin_limit: int | None,
    delta: float,
    fits: Callable[[Sequence[Event]], bool],
) -> Allocation:
    """Noise of the measurement's tables, chosen in view of earlier results: the least at which
    they show together no more than `reserved` does, a release fixed before those results.

    fits: a further condition on their events, which more noise meets. The epsilon of what is
    found is at `delta`. Raises BudgetError where no noise is enough.
    """
    weights = _item_weights({Stage.MEASUREMENT: 1.0}, priority_share, items)

    def build(part: float) -> Allocation | None:
        """Tables of so large a part of the reserved mu, if that is little enough."""
        noise = _table_noise(items, weights, part / reserved.noise_multiplier, coin_limit)
        events = tuple(_table_events(items, noise))
        if not accountant.dominated([n.mechanism for n in noise], reserved) or not fits(events):
            return None
        return Allocation(
            noise=noise, training=(), events=events, epsilon=accountant.epsilon(events, delta)
        )

    less, part = TOLERANCE, 1.0
    while (found := build(1 - less)) is None:
        part, less = 1 - less, 2 * less
        if less > 0.95:
            raise BudgetError(
                "privacy budget: the tables chosen by the selection cost more than is reserved "
                "for them. Raise privacy.epsilon or privacy.shares.measurement."
            )
    low = 1 - less
    while part - low > TOLERANCE:
        middle = (low + part) / 2
        better = build(middle)
        low, part, found = (middle, part, better) if better else (low, middle, found)
    return found


# --- proportions ------------------------------------------------------------------------------


def _stage_weights(
    shares: Mapping[Stage, float], with_tables: set[Stage], *, with_training: bool
) -> dict[Stage, float]:
    """Shares of the stages that have work, adding up to 1."""
    used = with_tables | ({Stage.TRAINING} if with_training else set())
    for stage in sorted(used):
        if not shares.get(stage, 0.0) > 0:
            raise ConfigError(
                f"privacy.shares.{stage.value}",
                "is 0, but the stage has work",
                "Give the stage a share above 0, or take its work out.",
            )
    total = sum(shares[s] for s in used)
    return {s: shares[s] / total for s in used}


def _item_weights(
    stages: Mapping[Stage, float], priority_share: float, items: Sequence[WorkItem]
) -> list[float]:
    """Part of the run's mu**2 that each item gets."""
    if len({i.name for i in items}) != len(items):
        raise ConfigError("workload", "table names repeat", "Ask each table once.")
    raw = [_quantised(i.importance * i.cells ** (2 / 3)) for i in items]
    sums: dict[tuple[Stage, bool], float] = {}
    for item, r in zip(items, raw, strict=True):
        key = (item.stage, item.priority)
        sums[key] = sums.get(key, 0.0) + r
    weights = []
    for item, r in zip(items, raw, strict=True):
        tables = item.stage in (Stage.SELECTION, Stage.MEASUREMENT)
        least = priority_share if tables else 0.0
        first, rest = sums.get((item.stage, True), 0.0), sums.get((item.stage, False), 0.0)
        part = 1.0 if rest == 0 else 0.0 if first == 0 else max(least, first / (first + rest))
        group = part if item.priority else 1 - part
        weights.append(stages[item.stage] * group * r / sums[(item.stage, item.priority)])
    if any(w <= 0 for w in weights):
        raise ConfigError(
            "privacy.priority_share",
            "leaves nothing to the other tables",
            "Give less than 1, or measure the priority tables alone.",
        )
    return weights


def _quantised(precision: float) -> float:
    """Round a precision so that noise multipliers are _STEP apart: equal ones compose fast."""
    unit = 2 * math.log(_STEP)
    return math.exp(round(math.log(precision) / unit) * unit)


# --- noise at a given mu ----------------------------------------------------------------------


def _table_noise(
    items: Sequence[WorkItem], weights: Sequence[float], mu: float, coin_limit: int | None
) -> tuple[Noise, ...]:
    sigmas = [_rounded(1 / (mu * math.sqrt(w))) for w in weights]
    with_coins = _coin_items(items, sigmas, coin_limit)
    return tuple(
        _coin_noise(item, sigma)
        if item.name in with_coins
        else OwnGaussian(noise_multiplier=sigma, sensitivity=item.sensitivity)
        for item, sigma in zip(items, sigmas, strict=True)
    )


def _coin_noise(item: WorkItem, sigma: float) -> Noise:
    coins = _coins(item, sigma)
    if item.unknown:
        return OwnCoins(coins=coins, unknown=item.unknown)
    return DealtCoins(coins=coins, sensitivity=item.sensitivity)


def _rounded(sigma: float) -> float:
    """Nine digits: equal shares stay equal in floating point, and files stay readable."""
    return float(f"{sigma:.9g}")


def _coins(item: WorkItem, sigma: float) -> int:
    """Coins of the variance of a Gaussian with this multiplier, rounded so that the priority
    never gets less than its part."""
    exact = 4 * (sigma * item.sensitivity) ** 2
    return math.floor(exact) if item.priority else math.ceil(exact)


def _coin_items(
    items: Sequence[WorkItem], sigmas: Sequence[float], limit: int | None
) -> frozenset[str]:
    """Names of the items that get coins: of the dealt, priority first, then fewest, as they fit.

    A sum that would take more than LARGE of the limit waits until all others have theirs: the
    same coins are worth more in the many tables of counts.
    """
    wanted = [
        (i, _coins(i, s))
        for i, s in zip(items, sigmas, strict=True)
        if i.coins and MIN_COINS * i.sensitivity <= _coins(i, s) <= MOST_COINS
    ]
    names = [i.name for i, coins in wanted if i.unknown and i.cells * coins <= OWN_COINS]
    left = math.inf if limit is None else limit
    dealt = ((i, DealtCoins(coins=coins).words(i.cells)) for i, coins in wanted if not i.unknown)

    def turn(found: tuple[WorkItem, int]) -> tuple[bool, bool, int, str]:
        item, words = found
        waits = item.sensitivity > 1 and words > LARGE * left
        return waits, not item.priority, words, item.name

    for item, words in sorted(dealt, key=turn):
        if words <= left:
            left -= words
            names.append(item.name)
    return frozenset(names)


def _table_events(items: Sequence[WorkItem], noise: Sequence[Noise]) -> Iterator[Event]:
    for item, drawn in zip(items, noise, strict=True):
        yield Event(
            label=item.name, stage=item.stage, parties=item.parties, mechanism=drawn.mechanism
        )


def _training_noise(sgd: Sequence[SgdItem], mu: float, delta: float) -> tuple[float, ...]:
    part = mu / math.sqrt(max(1, len(sgd)))
    return tuple(sgd_noise_multiplier(part, delta, i.sampling_rate, i.steps) for i in sgd)


def _training_events(sgd: Sequence[SgdItem], noise: Sequence[float]) -> Iterator[Event]:
    for item, multiplier in zip(sgd, noise, strict=True):
        yield Event(
            label=f"training at {item.party}",
            stage=Stage.TRAINING,
            parties=(item.party, *item.also),
            mechanism=PoissonSgd(
                noise_multiplier=multiplier, sampling_rate=item.sampling_rate, steps=item.steps
            ),
        )


def sgd_noise_multiplier(mu: float, delta: float, sampling_rate: float, steps: int) -> float:
    """Noise multiplier at which DP-SGD alone costs what a Gaussian mechanism with `mu` does.

    "Costs" is epsilon at `delta`, to within 1% on a grid of multipliers 2% apart and
    interpolated between; what a run spends is always composed exactly afterwards. Raises
    BudgetError if no multiplier up to 10,000 is enough.
    """
    target = accountant.gaussian_epsilon(mu, delta)

    def cost(j: int) -> float:
        return _sgd_epsilon(j, delta, sampling_rate, steps)

    at = bisect_left(_SGD_GRID, -target, key=lambda j: -cost(j))
    if at == len(_SGD_GRID) or target <= 0:
        raise BudgetError(
            "privacy budget: too little is left for training. Raise privacy.epsilon, the share "
            "of training, or train fewer steps."
        )
    j, back = _SGD_GRID[at], 0.0
    above, below = cost(j - 1), cost(j)
    if math.isfinite(above) and below > 0:
        back = math.log(target / below) / math.log(above / below)
    return _rounded(_SGD_STEP ** (j - back))


@lru_cache(maxsize=1024)
def _sgd_epsilon(j: int, delta: float, sampling_rate: float, steps: int) -> float:
    mechanism = PoissonSgd(noise_multiplier=_SGD_STEP**j, sampling_rate=sampling_rate, steps=steps)
    return accountant.epsilon_of_mechanisms([mechanism], delta, coarse=_COARSE)


# --- search -----------------------------------------------------------------------------------


def _largest(build: Callable[[float], Allocation], start: float, target: float) -> Allocation:
    """The allocation of the largest mu that spends at most `target`, to within TOLERANCE."""
    from scipy.optimize import brentq

    best: Allocation | None = None

    @cache
    def excess(log_mu: float) -> float:
        """Logarithm of what is spent over what is aimed at; 0 where that is near enough."""
        nonlocal best
        found = build(math.exp(log_mu))
        if found.epsilon <= target and (best is None or found.epsilon > best.epsilon):
            best = found
        if target * (1 - TOLERANCE) <= found.epsilon <= target:
            return 0.0
        ratio = found.epsilon / (target * (1 - TOLERANCE / 2))
        return math.log(min(max(ratio, 1e-2), 1e2))

    low = high = math.log(start)
    step = -1.1 * excess(low)  # epsilon is nearly proportional to mu
    while excess(low) * excess(high) > 0 and abs(step) < 30:
        high, step = low + step, 2 * step
    if excess(low) * excess(high) < 0:
        brentq(excess, low, high, xtol=1e-6)
    if best is None:
        raise BudgetError(
            "privacy budget: what is settled leaves nothing to spend. Raise privacy.epsilon."
        )
    return best
