"""A simulated advertising campaign with a known truth: the default data of every demo and test.

Two overlapping populations. The publisher randomises its eligible users into test and control;
the advertiser, who holds another set of features, sees who bought. The effect of the campaign
differs between users by features of both sides, and every user's probability of buying with
and without it is known, so the true lift is an exact average, not an estimate (`true_lift`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache
from math import erf, exp, log, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import ConfigError
from twinweave.parsing import Parsed, check_not_negative

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]

REGIONS = ("north", "south", "east", "west", "centre")
MAX_SPEND = 400.0
_SPREAD = 0.8  # of log(spend)


class PartyRole(StrEnum):
    PUBLISHER = "publisher"
    ADVERTISER = "advertiser"


@dataclass(frozen=True, kw_only=True)
class CampaignConf(Parsed):
    """Shape of the campaign.

    users: of the union of both parties.
    publisher_only: about what share of them the publisher alone holds.
    advertiser_only: about what share of them the advertiser alone holds.
    eligible: share of the publisher's users in the experiment; half of them are control.
    base: log-odds of buying of a typical advertiser's user without the campaign.
    effect: what the campaign adds to them; 0 is a campaign without any effect.
    dirty: share of dirty cells in some feature columns.
    household: how alike the users of a household are: the standard deviation between households
        of their users' log-odds of buying, beside all else. The publisher then knows households,
        and assigns them to the arms as wholes. None: no households, users are assigned.
    seed: of the users.
    replicate: of another draw of arms, purchases and dirt for the same users.
    """

    users: int = 20_000
    seed: int = 11
    replicate: int = 0
    publisher_only: float = 0.3
    advertiser_only: float = 0.2
    eligible: float = 0.85
    base: float = -2.75
    effect: float = 0.45
    dirty: float = 0.01
    household: float | None = None

    def __post_init__(self) -> None:
        if self.household is not None:
            check_not_negative("campaign", self, "household")
        if self.users < 50:
            raise ConfigError("campaign.users", "below 50", "Give at least 50 users.")
        shares = (self.publisher_only, self.advertiser_only, self.eligible, self.dirty)
        if not all(0 <= s < 1 for s in shares) or self.publisher_only + self.advertiser_only >= 1:
            raise ConfigError(
                "campaign",
                "shares out of range",
                "Give shares within [0, 1) that leave users to both.",
            )


@dataclass(frozen=True, kw_only=True)
class TrueLift:
    """The truth for the generated users, all in expectation over assignment and purchase.

    An experiment's user whom the advertiser does not hold counts as not converted.
    absolute: difference in the mean probability of buying, treated and not.
    value: difference in mean spend a user, each purchase clipped.
    by: {column: {level: absolute lift}}, by the advertiser's own columns among users it holds.
    """

    absolute: float
    value: float
    by: Mapping[str, Mapping[str, float]]

    @property
    def outcomes(self) -> dict[str, float]:
        """{outcome's column: true absolute lift}."""
        return {"converted": self.absolute, "spend": self.value}

    @property
    def breakdowns(self) -> dict[str, dict[str, Mapping[str, float]]]:
        """{outcome's column: {column: {level: true absolute lift}}}."""
        return {"converted": dict(self.by)}


@dataclass(frozen=True, kw_only=True, eq=False)
class SimulatedUsers:
    """Every user of the union, with what no party knows: p0, p1, and who holds whom.

    All arrays have shape (users,). p0, p1: probability of buying without and with the
    campaign, 0 where the advertiser does not hold the user; log_spend: mean of log(spend).
    household: number of the user's household, or of the user where there are none.
    """

    ids: NDArray[np.object_] = field(repr=False)
    at_publisher: NDArray[np.bool_] = field(repr=False)
    at_advertiser: NDArray[np.bool_] = field(repr=False)
    eligible: NDArray[np.bool_] = field(repr=False)
    p0: Floats = field(repr=False)
    p1: Floats = field(repr=False)
    log_spend: Floats = field(repr=False)
    household: NDArray[np.int64] = field(repr=False)
    features: Mapping[str, NDArray[Any]] = field(repr=False)


def simulated_users(conf: CampaignConf) -> SimulatedUsers:
    """Draw the users: who they are and what they would do, before the experiment."""
    return _simulated_users(replace(conf, replicate=0))


@lru_cache(maxsize=2)
def _simulated_users(conf: CampaignConf) -> SimulatedUsers:
    rng = np.random.default_rng([conf.seed, 1])
    features, affinity = _features(conf.users, rng)
    at_publisher, at_advertiser = _presence(conf, affinity, rng)
    eligible = at_publisher & (rng.random(conf.users) < conf.eligible)
    odds, gain = _log_odds(conf, features, affinity)
    household = np.arange(conf.users)
    if conf.household is not None:
        household, alike = _households(conf.users, np.random.default_rng([conf.seed, 3]))
        odds = odds + conf.household * alike
        features["household"] = np.char.add("house ", household.astype(str)).astype(object)
    held = at_advertiser.astype(float)
    return SimulatedUsers(
        ids=_ids(conf.users, rng),
        at_publisher=at_publisher,
        at_advertiser=at_advertiser,
        eligible=eligible,
        p0=held * _logistic(odds),
        p1=held * _logistic(odds + gain),
        household=household,
        log_spend=3.4 + 0.25 * (features["loyalty"] == "gold") + 0.15 * affinity,
        features=features,
    )


def campaign_frames(conf: CampaignConf) -> dict[str, pd.DataFrame]:
    """{"publisher": ..., "advertiser": ...}: each party's own rows, in its own order.

    publisher: user, gender, region, age, device, tenure_days, sessions, ad_load, interest,
    arm, and household where there are any. advertiser: user, gender, region, past_purchases,
    loyalty, basket, channel, newsletter,
    first_order, converted, spend, loyal.
    """
    people = simulated_users(conf)
    rng = np.random.default_rng([conf.seed, 2, conf.replicate])
    cells = {"user": people.ids, **people.features, **experiment(people, rng)}
    publisher = _PUBLISHER + (" household" if "household" in people.features else "")
    sides = (
        (PartyRole.PUBLISHER, publisher, people.at_publisher),
        (PartyRole.ADVERTISER, _ADVERTISER, people.at_advertiser),
    )
    return {role.value: _frame(cells, names.split(), at, conf, rng) for role, names, at in sides}


def experiment(people: SimulatedUsers, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
    """One draw of "arm" (text), "converted" (0, 1) and "spend" (two decimals), each (users,)."""
    n = len(people.ids)
    treated = (rng.random(n) < 0.5)[people.household]
    arm = np.where(people.eligible, np.where(treated, "test", "control"), "neither")
    chance = np.where(arm == "test", people.p1, people.p0)
    converted = rng.random(n) < chance
    spend = np.exp(people.log_spend + _SPREAD * rng.standard_normal(n))
    return {
        "arm": arm.astype(object),
        "converted": converted.astype(int),
        "spend": np.round(np.where(converted, spend, 0.0), 2),
    }


def true_lift(conf: CampaignConf, clip: float = MAX_SPEND) -> TrueLift:
    """Exact finite-population truth: averages of known probabilities over the experiment.

    clip: of each purchase's spend.
    """
    people = simulated_users(conf)
    inside = people.eligible
    p0, p1 = people.p0[inside], people.p1[inside]
    amount = clipped_lognormal_mean(people.log_spend[inside], _SPREAD, clip)
    held = people.at_advertiser[inside]
    by = {
        name: _by(people.features[name][inside], p1 - p0, held | (name in _SHARED))
        for name in (*_SHARED, "loyalty", "channel")
    }
    return TrueLift(
        absolute=float((p1 - p0).mean()),
        value=float(((p1 - p0) * amount).mean()),
        by=by,
    )


_SHARED = ("gender", "region")
"""Columns that both parties hold."""


def _by(levels: NDArray[np.object_], lift: Floats, among: NDArray[np.bool_]) -> dict[str, float]:
    at = {str(level): among & (levels == level) for level in np.unique(levels.astype(str))}
    return {level: float(lift[inside].mean()) for level, inside in at.items() if inside.any()}


def clipped_lognormal_mean(mu: Floats, sigma: float, cap: float) -> Floats:
    """E[min(X, cap)] for log X ~ N(mu, sigma**2)."""
    z = (log(cap) - mu) / sigma
    phi = np.vectorize(lambda t: 0.5 * (1 + erf(t / sqrt(2))), otypes=[float])
    mean = np.exp(mu) * exp(sigma**2 / 2) * phi(z - sigma) + cap * phi(-z)
    return np.asarray(mean, dtype=np.float64)


_PUBLISHER = "user gender region age device tenure_days sessions ad_load interest arm"
_ADVERTISER = (
    "user gender region past_purchases loyalty basket channel newsletter first_order converted "
    "spend loyal"
)


def _features(n: int, rng: np.random.Generator) -> tuple[dict[str, NDArray[Any]], Floats]:
    """Correlated, skewed features of both sides around one hidden affinity to the brand."""
    affinity = rng.standard_normal(n)
    gender = _pick(rng, n, ("female", "male"), (0.52, 0.48))
    woman = gender == "female"
    age = np.clip(18 + rng.gamma(3.2, 8.0, n), 18, 90).astype(int)
    mobile = 1.2 - 0.035 * (age - 30)
    device = np.where(
        rng.random(n) < _logistic(mobile),
        "mobile",
        _pick(rng, n, ("desktop", "tablet", "tv"), (0.62, 0.22, 0.16)),
    )
    purchases = rng.poisson(rng.gamma(1.1, 1.0, n) * np.exp(0.6 * affinity - 0.1))
    tier = np.digitize(purchases + rng.normal(0, 0.8, n), (1.0, 3.0, 6.0))
    loyal = rng.random(n) < _logistic(-1.1 + 0.55 * tier + 0.5 * affinity + 0.7 * woman)
    start = np.datetime64("2020-01-01")
    features: dict[str, NDArray[Any]] = {
        "gender": gender,
        "region": _pick(rng, n, REGIONS, (0.28, 0.24, 0.2, 0.16, 0.12)),
        "age": age,
        "device": device.astype(object),
        "tenure_days": np.minimum(rng.exponential(500, n) * (0.6 + age / 90), 3650).astype(int),
        "sessions": np.minimum(rng.negative_binomial(1.3, 0.09, n), 200),
        "ad_load": np.round(rng.beta(2, 5, n), 4),
        "interest": _pick(
            rng, n, ("news", "sports", "home", "travel", "tech"), (0.3, 0.25, 0.2, 0.15, 0.1)
        ),
        "past_purchases": np.minimum(purchases, 60),
        "loyalty": np.array(("none", "bronze", "silver", "gold"), dtype=object)[tier],
        "basket": np.round(np.exp(3.3 + 0.3 * affinity + 0.7 * rng.standard_normal(n)), 2),
        "channel": _pick(rng, n, ("web", "store", "app"), (0.5, 0.32, 0.18)),
        "newsletter": rng.random(n) < _logistic(-0.4 + 0.6 * affinity),
        "first_order": start + (1460 * rng.beta(1.6, 1.0, n)).astype("timedelta64[D]"),
        "loyal": np.where(loyal, "yes", "no").astype(object),
    }
    return features, affinity


def _households(n: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], Floats]:
    """Every user's household, of one to five users, and a standard normal number of its own."""
    sizes = rng.choice(np.arange(1, 6), n, p=(0.35, 0.33, 0.15, 0.12, 0.05))
    household = np.repeat(np.arange(n), sizes)[:n]
    return household, rng.standard_normal(n)[household]


def _presence(
    conf: CampaignConf, affinity: Floats, rng: np.random.Generator
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Publisher only, advertiser only, both: a multinomial logit that leans on affinity."""
    both = 1 - conf.publisher_only - conf.advertiser_only
    shares = np.array((conf.publisher_only, conf.advertiser_only, both))
    lean = np.array((-0.3, 0.2, 0.1))
    with np.errstate(divide="ignore"):
        utility = np.log(shares)[:, None] + lean[:, None] * affinity
    choice = (utility + rng.gumbel(size=utility.shape)).argmax(axis=0)
    return choice != 1, choice != 0


def _log_odds(
    conf: CampaignConf, features: Mapping[str, NDArray[Any]], affinity: Floats
) -> tuple[Floats, Floats]:
    """Log-odds of buying without the campaign, and what the campaign adds to them."""
    mobile = features["device"] == "mobile"
    bought = np.minimum(features["past_purchases"], 6) / 3
    odds = (
        conf.base
        + 0.45 * bought
        + 0.25 * affinity
        + 0.3 * mobile
        + 0.2 * (features["channel"] == "app")
        - 0.3 * features["ad_load"]
    )
    young = features["age"] < 35
    north = features["region"] == "north"
    # Works best on the young on mobile, hardly on those who buy a lot anyway: both sides matter.
    weight = 1.0 + 0.5 * young + 0.3 * mobile + 0.4 * north - 0.5 * bought
    return odds, conf.effect * weight


def _ids(n: int, rng: np.random.Generator) -> NDArray[np.object_]:
    first = _pick(rng, n, ("anna", "ben", "chloe", "david", "eva", "finn", "gita", "hugo"))
    last = _pick(rng, n, ("weber", "silva", "tanaka", "novak", "okafor", "larsen", "khan"))
    host = _pick(rng, n, ("mail.example", "post.example", "inbox.example"), (0.6, 0.3, 0.1))
    number = rng.permutation(n).astype(str).astype(object)
    return np.asarray(first + "." + last + number + "@" + host, dtype=object)


def _frame(
    cells: Mapping[str, NDArray[Any]],
    names: Sequence[str],
    held: NDArray[np.bool_],
    conf: CampaignConf,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """One party's rows, shuffled, with some dirty cells."""
    import pandas as pd

    rows = rng.permutation(np.flatnonzero(held))
    frame = pd.DataFrame({name: cells[name][rows] for name in names})
    for name, spoil in _DIRT.items():
        if name in names:
            at = rng.random(len(rows)) < conf.dirty
            own = frame[name].astype(object).to_numpy(dtype=object)
            own[at] = [spoil(cell) for cell in own[at]]
            frame[name] = own
    return frame


_DIRT: Mapping[str, Any] = {
    "user": lambda cell: f" {cell.upper()} ",  # the same id, spelled by hand
    "device": lambda cell: cell.upper(),  # stray spelling
    "age": lambda _: 117,  # out of range
    "tenure_days": lambda _: None,
    "loyalty": lambda _: None,
    "basket": lambda _: None,
}


def _pick(
    rng: np.random.Generator, n: int, values: tuple[str, ...], p: tuple[float, ...] | None = None
) -> NDArray[np.object_]:
    drawn = rng.choice(len(values), n, p=p)
    return np.asarray(np.array(values, dtype=object)[drawn], dtype=object)


def _logistic(x: Any) -> Floats:
    return np.asarray(1 / (1 + np.exp(-x)), dtype=np.float64)
