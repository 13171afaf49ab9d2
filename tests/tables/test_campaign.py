"""The simulated campaign: its closed-form truth against Monte Carlo, its dirt, its shape."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from twinweave.errors import ConfigError
from twinweave.tables.campaign import (
    MAX_SPEND,
    REGIONS,
    CampaignConf,
    campaign_frames,
    clipped_lognormal_mean,
    experiment,
    simulated_users,
    true_lift,
)

CONF = CampaignConf(users=4000)


def estimates(conf: CampaignConf, draws: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """(draws, 2): lift in conversion and in clipped spend of simulated experiments; regions."""
    people, rng = simulated_users(conf), np.random.default_rng(3)
    lifts, by_region = np.empty((draws, 2)), np.empty((draws, len(REGIONS)))
    for i in range(draws):
        drawn = experiment(people, rng)
        spend = np.minimum(drawn["spend"], MAX_SPEND)
        test, control = (drawn["arm"] == a for a in ("test", "control"))
        lifts[i] = [x[test].mean() - x[control].mean() for x in (drawn["converted"], spend)]
        for j, region in enumerate(REGIONS):
            here = people.features["region"] == region
            bought = drawn["converted"]
            by_region[i, j] = bought[test & here].mean() - bought[control & here].mean()
    return lifts, by_region


def test_the_truth_in_closed_form_is_the_mean_of_experiments() -> None:
    """500 experiments; 8 assertions at |z| < 6.5: false alarm below 1e-9."""
    truth = true_lift(CONF)
    lifts, by_region = estimates(CONF, 500)
    draws = np.hstack([lifts, by_region])
    told = np.array([truth.absolute, truth.value, *(truth.by["region"][r] for r in REGIONS)])
    error = draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
    assert np.abs((draws.mean(axis=0) - told) / error).max() < 6.5
    # Power: a truth that forgot the users whom the advertiser does not hold would be noticed.
    people = simulated_users(CONF)
    inside = people.eligible & people.at_advertiser
    forgetful = float((people.p1 - people.p0)[inside].mean())
    assert abs(draws[:, 0].mean() - forgetful) / error[0] > 10


def test_clipped_lognormal_mean() -> None:
    rng = np.random.default_rng(4)
    draws = np.minimum(np.exp(3 + 0.8 * rng.standard_normal(400_000)), 60)
    told = clipped_lognormal_mean(np.array([3.0]), 0.8, 60.0)[0]
    assert abs(draws.mean() - told) < 6 * draws.std() / np.sqrt(len(draws))


def test_rates_are_large_enough_to_be_found_and_no_effect_is_none() -> None:
    people, truth = simulated_users(CampaignConf()), true_lift(CampaignConf())
    assert people.p0[people.eligible].mean() == pytest.approx(0.055, abs=0.01)
    assert truth.absolute == pytest.approx(0.035, abs=0.006)
    assert max(truth.by["region"].values()) == truth.by["region"]["north"]
    nothing = true_lift(CampaignConf(effect=0))
    assert nothing.absolute == nothing.value == 0


def test_two_overlapping_populations() -> None:
    frames = campaign_frames(CampaignConf())
    ids = {p: set(f["user"].str.strip().str.lower()) for p, f in frames.items()}
    assert all(len(i) == len(frames[p]) for p, i in ids.items())
    union, both = ids["publisher"] | ids["advertiser"], ids["publisher"] & ids["advertiser"]
    assert len(union) == 20_000
    assert len(ids["publisher"]) / 20_000 == pytest.approx(0.8, abs=0.02)
    assert len(ids["advertiser"]) / 20_000 == pytest.approx(0.7, abs=0.02)
    assert len(both) / 20_000 == pytest.approx(0.5, abs=0.02)


def test_shared_columns_agree_and_the_label_depends_on_the_sensitive_one() -> None:
    frames = {
        p: f.assign(user=f["user"].str.strip().str.lower()).set_index("user")
        for p, f in campaign_frames(CONF).items()
    }
    both = frames["publisher"].join(frames["advertiser"], how="inner", rsuffix="_b")
    assert (both["gender"] == both["gender_b"]).all()
    assert (both["region"] == both["region_b"]).all()
    shop = frames["advertiser"]
    rate = shop["loyal"].eq("yes").groupby(shop["gender"]).mean()
    assert rate["female"] - rate["male"] > 0.08
    assert (shop.loc[shop["converted"] == 0, "spend"] == 0).all()


def test_the_same_seed_gives_the_same_tables_another_replicate_the_same_users() -> None:
    first, again = campaign_frames(CONF), campaign_frames(CONF)
    pd.testing.assert_frame_equal(first["publisher"], again["publisher"])
    other = replace(CONF, replicate=1)
    assert true_lift(other) == true_lift(CONF)
    assert campaign_frames(other)["advertiser"]["spend"].sum() != first["advertiser"]["spend"].sum()


def test_shares_out_of_range_are_refused() -> None:
    for wrong in ({"users": 3}, {"eligible": 1.5}, {"publisher_only": 0.7, "advertiser_only": 0.4}):
        with pytest.raises(ConfigError):
            CampaignConf(**wrong)
