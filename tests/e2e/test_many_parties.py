"""More than two parties: vertical, pooled, mixed; every table against the plaintext."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from strategies import records
from tests import messages as m
from tests.campaigns import GUARD_OFF, OFFICES, TRAINING, horizontal, mixed, training, vertical
from tests.e2e.clear import Clear, assert_exact, assert_noise, deviations
from tests.e2e.plans import silent, table
from tests.statistics import assert_scale, p_mean, p_share, p_variance, plausible
from tests.whole_run import Deployment, Ran, guard_rows, run, run_of, spec_of
from twinweave.analysis.lift.analysis import analyse
from twinweave.config import RunConf
from twinweave.errors import ConfigError, ProtocolError, RunError, SchemaError
from twinweave.generators.conf import TvaeConf
from twinweave.parsing import parse
from twinweave.privacy.events import PoissonSgd, Stage
from twinweave.privacy.guard import Receipt
from twinweave.privacy.noise import OwnCoins, OwnGaussian
from twinweave.protocols.party import Party
from twinweave.protocols.pools import party as pools
from twinweave.protocols.products import party as products
from twinweave.protocols.ring import to_ring, to_signed
from twinweave.tables.column import VALUE_UNITS
from twinweave.workload.plan import PlannedQuery
from twinweave.workload.queries import Side


def exact_everywhere(conf: RunConf) -> int:
    """Run the planned workload with next to no noise: every cell equals the plaintext's."""
    plan = silent(spec_of(conf).plan)
    assert_exact(run_of(conf, plan), Clear(conf))
    return len(plan)


def test_three_parties_of_different_columns(tmp_path: Path) -> None:
    conf = vertical(tmp_path)
    assert exact_everywhere(conf) > 20
    pairs = spec_of(conf).tables.pairs()
    assert len(pairs) == 3
    spec = spec_of(conf)
    assert {len(p.query.parties) for p in spec.plan} == {1, 2}


def test_three_parties_align_in_a_ring(tmp_path: Path) -> None:
    conf = vertical(tmp_path, "protocol.alignment=ristretto", "workload.pairs=false")
    assert exact_everywhere(conf) > 5


def test_five_parties_of_the_same_columns(tmp_path: Path) -> None:
    conf = RunConf.parse(horizontal(tmp_path, GUARD_OFF))
    assert all(p.query.is_pooled and not p.query.is_cross for p in spec_of(conf).plan)
    assert exact_everywhere(conf) > 20


@pytest.mark.parametrize("advertisers", [1, 2])
def test_pooled_publishers_with_one_advertiser_or_a_pool_of_them(
    tmp_path: Path, advertisers: int
) -> None:
    """Cross tables between a pool and a party, and between two pools: absent rows, sums of
    values included."""
    conf = mixed(tmp_path, advertisers=advertisers)
    crossing_ = [p.query for p in spec_of(conf).plan if p.query.is_cross]
    assert any(q.weight == "spend" for q in crossing_)
    assert {len(q.parties) for q in crossing_} == {2 + advertisers}
    assert exact_everywhere(conf) > 20


# --- noise ---------------------------------------------------------------------------------

PUBLISHERS: dict[str, Any] = {"party": "north", "pool": ("north", "south")}
WIDE = ("age", "device", "region", "arm")  # 600 cells


def many_cells() -> tuple[PlannedQuery, ...]:
    wide = Side(columns=WIDE, **PUBLISHERS)
    small = Side(party="shop0", columns=("region", "loyalty"))
    spend = Side(party="shop0", weight="spend")
    sums = OwnGaussian(noise_multiplier=0.05, sensitivity=VALUE_UNITS)
    return (
        table(wide, noise=OwnCoins(coins=61, unknown=1)),
        table(replace(wide, columns=WIDE[:3]), noise=OwnGaussian(noise_multiplier=3.0)),
        table(small, wide, noise=OwnCoins(coins=90, unknown=2)),
        table(
            wide,
            replace(small, columns=("loyalty",)),
            noise=OwnGaussian(noise_multiplier=3.0),
        ),
        table(spend, wide, noise=sums),
    )


KINDS = [
    "pooled local coins",
    "pooled local gaussian",
    "pooled cross coins",
    "pooled cross gaussian",
    "pooled cross sums",
]


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> dict[str, NDArray[np.float64]]:
    conf = mixed(tmp_path_factory.mktemp("noise"))
    return deviations(run_of(conf, many_cells()), Clear(conf))


@pytest.mark.parametrize("kind", KINDS)
def test_pooled_noise_has_the_published_variance(
    noise: dict[str, NDArray[np.float64]], kind: str
) -> None:
    z = noise[kind]
    assert z.size >= 199
    assert plausible(p_mean(z))
    assert_scale(z, p_variance, np.sqrt(1 / 3), np.sqrt(3.0))  # of three parties one alone


def test_lift_of_a_pooled_experiment_meets_the_truth(tmp_path: Path) -> None:
    conf = mixed(tmp_path, "privacy.epsilon=20", advertisers=2, users=600)
    ran, clear = run(conf), Clear(conf)
    lift = conf.data.lift
    assert lift
    report = analyse(ran.spec.schema, ran.findings.measurements, lift)
    found = report.conversions[0].overall
    arms = next(p.query for p in ran.spec.plan if p.query.columns == ("arm", "converted"))
    exact = clear.table(arms)
    levels = ran.spec.schema.column("arm").labels
    for arm, level in ((found.test, "test"), (found.control, "control")):
        row = exact[levels.index(level)]
        assert abs(arm.n - row.sum()) < 6.5 * arm.n_noise_sd
        assert abs(arm.total - row[1]) < 6.5 * arm.total_noise_sd
        assert arm.total_noise_sd < 6


# --- nobody's own table is seen ------------------------------------------------------------


def parts(ran: Ran, kind: str, field: str) -> NDArray[np.float64]:
    """Every party's part of every pooled table as the server receives it, signed, in rings."""
    found = []
    for message in ran.messages:
        if message.metadata.message_type == kind and message.metadata.src_node_id:
            reply: Any = records.unpack(m.REPLIES[kind], message.content)
            found += [
                to_signed(a).ravel() / 2.0 ** (8 * a.dtype.itemsize)
                for a in getattr(reply, field).values()
            ]
    return np.concatenate(found)


def p_uniform(found: NDArray[np.float64]) -> float:
    """Two-sided p-value of the share of words in the half of their ring around zero."""
    return p_share((np.abs(found) < 0.25).sum(), found.size, 0.5)


def test_parts_are_uniform(tmp_path: Path) -> None:
    ran = run(mixed(tmp_path))
    for kind, field in (("query.share", "pooled"), ("query.open", "shares")):
        found = parts(ran, kind, field)
        assert found.size > 400
        assert plausible(p_uniform(found))


def test_parts_without_masks_are_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "mask", lambda noisy, **_: to_ring(noisy, 64))
    assert not plausible(p_uniform(parts(run(mixed(tmp_path)), "query.share", "pooled")))


def test_shares_that_leave_one_by_one_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A party that forgets to add up its products would show one pair's table."""
    real = pools.across

    def across(
        party: Party, planned: PlannedQuery, shares: list[NDArray[np.uint32]], receipt: Receipt
    ) -> NDArray[np.uint32]:
        return real(party, planned, shares[:1], receipt)

    monkeypatch.setattr(products, "across", across)
    with pytest.raises(ProtocolError, match="needs a product with every member of the pool"):
        run(mixed(tmp_path))


# --- what makes a pool ---------------------------------------------------------------------


@pytest.mark.parametrize("alignment", ["prf", "ristretto"])
def test_a_user_at_two_members_ends_the_run_before_anything_is_released(
    tmp_path: Path, alignment: str
) -> None:
    data = horizontal(tmp_path, f"protocol.alignment={alignment}", users=100)
    paths = [tmp_path / f"{name}.csv" for name in ("office1", "office3")]
    row = paths[0].read_text().splitlines()[1]
    paths[1].write_text(paths[1].read_text() + row + "\n")
    deployment = Deployment(data, tmp_path)
    with pytest.raises(
        RunError,
        match=r"'office1' and 'office3' are pooled, but hold people in "
        r"common\. Keep each",
    ):
        deployment.start()
    assert guard_rows(deployment.sites) == {name: [] for name in OFFICES}


@pytest.mark.parametrize(
    ("pools", "error"),
    [
        ([["office0"]], "two or more parties"),
        ([["office0", "nobody"]], "two or more parties"),
        ([["office0", "office1"], ["office1", "office2"]], "a party is in two pools"),
    ],
)
def test_pools_that_are_none_are_refused(
    tmp_path: Path, pools: list[list[str]], error: str
) -> None:
    data = horizontal(tmp_path, users=100)
    data["data"]["pools"] = pools
    with pytest.raises(SchemaError, match=error):
        RunConf.parse(data)


def test_members_hold_the_same_columns(tmp_path: Path) -> None:
    data = horizontal(tmp_path, users=100)
    data["data"]["parties"][2]["columns"].pop()
    with pytest.raises(SchemaError, match="their columns differ"):
        RunConf.parse(data)


def test_pooled_tables_across_take_the_dealer(tmp_path: Path) -> None:
    conf = mixed(tmp_path)
    with pytest.raises(ConfigError, match="no sum over a pool"):
        replace(spec_of(conf), cross_tables="homomorphic")


# --- training ------------------------------------------------------------------------------


def test_the_members_trainings_cost_what_one_does(tmp_path: Path) -> None:
    ran = run(RunConf.parse(training(tmp_path)))
    events = [e for e in ran.findings.ledger.events if e.stage is Stage.TRAINING]
    assert [e.parties for e in events] == [OFFICES]
    mechanism = events[0].mechanism
    assert isinstance(mechanism, PoissonSgd)
    rows = ran.findings.rows
    assert mechanism.sampling_rate == min(1.0, 64 / min(rows.values()))
    assert 0.98 * 8 < ran.findings.ledger.epsilon(ran.conf.privacy.delta) <= 8.0001
    assert ran.findings.weights is not None
    assert np.abs(ran.findings.weights).max() > 0


def test_a_pool_beside_another_party_trains_as_two(tmp_path: Path) -> None:
    conf = mixed(tmp_path, "privacy.epsilon=8")
    generator = parse(TvaeConf, TRAINING | {"rounds": 1})
    shares = conf.privacy.shares | {Stage.MEASUREMENT: 0.7, Stage.TRAINING: 0.3}
    conf = replace(conf, generator=generator, privacy=replace(conf.privacy, shares=shares))
    ran = run(conf)
    events = [e for e in ran.findings.ledger.events if e.stage is Stage.TRAINING]
    assert [e.parties for e in events] == [("north", "south"), ("shop0",)]
    assert ran.findings.ledger.epsilon(conf.privacy.delta) <= 8.0001


def test_features_are_selected_over_pools(tmp_path: Path) -> None:
    """Coarse tables first, then the chosen ones; noise as published in the second pass."""
    conf = mixed(tmp_path, "selection.when=always", "privacy.epsilon=8")
    spec = spec_of(conf)
    assert spec.two_passes
    first = spec.plan
    assert all(p.query.sides[0].groups for p in first)
    assert any(p.query.is_cross and p.query.is_pooled for p in first)
    ran = run(conf, spec=spec)
    chosen = replace(ran, spec=ran.findings.spec)
    assert chosen.spec.plan != first
    assert_noise(chosen, Clear(conf))
