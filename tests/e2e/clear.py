"""The oracle: every table of a run, computed from the joined plaintext by pandas alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tests.statistics import p_mean, p_variance, plausible
from tests.whole_run import Ran
from twinweave.config import RunConf
from twinweave.privacy.events import SharedBinomial
from twinweave.tables.column import MISSING, VALUE_UNITS, Column
from twinweave.tables.loading import load_cleaned
from twinweave.workload.plan import PlannedQuery
from twinweave.workload.queries import Query, Side


class Clear:
    """The parties' cleaned tables, side by side: what no one in a run ever holds."""

    def __init__(self, conf: RunConf) -> None:
        self.schema = conf.data.schema
        self.labels, self.amounts = {}, {}
        self._known: dict[tuple[Query, bool], NDArray[Any]] = {}
        for party in conf.data.parties:
            assert party.source
            frame = load_cleaned(party.source, party.schema, party.name).frame
            users = frame[party.schema.key.name]
            self.labels[party.name] = pd.DataFrame(
                {c.name: _labels(c, frame[c.name]) for c in party.schema.data_columns}
            ).set_index(users)
            self.amounts[party.name] = pd.DataFrame(
                {c.name: frame[c.name] for c in party.schema.data_columns if c.role == "value"},
                index=frame.index,
            ).set_index(users)

    def table(self, query: Query) -> NDArray[Any]:
        """Exact table of a query, float64, [absent, absent] zero; weighted in value units, of
        which an amount may have a fraction."""
        return self._found(query, dither=False)

    def dither(self, query: Query) -> NDArray[Any]:
        """What rounding to whole units adds to the variance of every cell; 0 for counts."""
        if query.weight is None:
            return np.zeros_like(self.table(query))
        return self._found(query, dither=True)

    def _found(self, query: Query, dither: bool) -> NDArray[Any]:
        if (query, dither) not in self._known:
            self._known[query, dither] = self._table(query, dither)
        return self._known[query, dither]

    def _table(self, query: Query, dither: bool) -> NDArray[Any]:
        if query.is_cross:
            return self._cross(query, dither)
        side = query.sides[0]
        cells = self._side(side)
        weights = self._weights(side, dither)
        counted = cells.map(lambda _: 1) if weights is None else weights
        table = counted.groupby(cells).sum().reindex(self._positions(side), fill_value=0)
        sizes = [len(self.schema.column(c).labels) for c in side.columns]
        return table.to_numpy(np.float64).reshape(sizes)

    def _cross(self, query: Query, dither: bool) -> NDArray[Any]:
        one, two = query.sides
        joined = pd.merge(
            self._side(one).rename("one"),
            self._side(two).rename("two"),
            left_index=True,
            right_index=True,
            how="outer",
        ).fillna("absent")
        weighted = next((s for s in query.sides if s.weight), None)
        amount = None
        if weighted is not None:
            amount = self._weights(weighted, dither).reindex(joined.index, fill_value=0)
        summed: dict[str, Any] = {} if amount is None else {"values": amount, "aggfunc": "sum"}
        table = pd.crosstab(joined["one"], joined["two"], **summed)
        rows, columns = ([*self._positions(s), "absent"] for s in query.sides)
        table = table.reindex(index=rows, columns=columns).fillna(0)
        if weighted is two:
            return table[self._positions(two)].to_numpy(np.float64)
        if weighted is one:
            return table.loc[self._positions(one)].to_numpy(np.float64)
        return table.to_numpy(np.float64)

    def _side(self, side: Side) -> pd.Series:
        """Combined label of every user at the party."""
        frame = pd.concat([self.labels[p] for p in side.members])
        combined = pd.Series("", index=frame.index)
        for name in side.columns:
            combined = combined + "|" + frame[name]
        return combined

    def _positions(self, side: Side) -> list[str]:
        names = [""]
        for column in side.columns:
            names = [f"{n}|{v}" for n in names for v in self.schema.column(column).labels]
        return names

    def _weights(self, side: Side, dither: bool) -> pd.Series | None:
        if side.weight is None:
            return None
        amounts = pd.concat([self.amounts[p] for p in side.members])[side.weight]
        low, high = self.schema.column(side.weight).span
        high = high if side.clip is None else side.clip
        units = (amounts.astype(float).fillna(0).clip(low, high) - low) / (high - low) * VALUE_UNITS
        return (units % 1) * (1 - units % 1) if dither else units


def mechanism_of(planned: PlannedQuery) -> str:
    """Which noise a table got: the kinds that are tested apart."""
    where = "pooled " if planned.query.is_pooled else ""
    where += "cross" if planned.query.is_cross else "local"
    if isinstance(planned.event.mechanism, SharedBinomial) and planned.query.weight is None:
        return f"{where} coins" if planned.query.is_pooled else "coins"
    if planned.query.weight is not None:
        if isinstance(planned.event.mechanism, SharedBinomial):
            return f"{where} sums with coins"
        return f"{where} sums{'' if planned.query.clip is None else ', clipped'}"
    return f"{where} gaussian"


def deviations(ran: Ran, clear: Clear) -> dict[str, NDArray[Any]]:
    """mechanism -> (measured - exact) / sd of every measured cell, of noise and dither."""
    found: dict[str, list[NDArray[Any]]] = {}
    for planned, measured in zip(ran.spec.plan, ran.findings.measurements, strict=True):
        assert measured.query == planned.query
        exact = clear.table(planned.query)
        assert measured.values.shape == exact.shape
        variance = measured.variance + clear.dither(planned.query)
        z = ((measured.values - exact) / np.sqrt(variance)).ravel()
        if planned.query.is_cross and planned.query.weight is None:
            assert measured.values[-1, -1] == 0  # nobody is absent at both
            z = z[:-1]
        found.setdefault(mechanism_of(planned), []).append(z)
    return {kind: np.concatenate(parts) for kind, parts in found.items()}


def assert_exact(ran: Ran, clear: Clear) -> None:
    """Every cell of a run without noise is the plaintext's; a sum's but for its dither."""
    for planned, measured in zip(ran.spec.plan, ran.findings.measurements, strict=True):
        exact, name = clear.table(planned.query), planned.query.name
        if planned.query.weight is None:
            np.testing.assert_array_equal(measured.values, exact, err_msg=name)
        else:
            np.testing.assert_array_equal(measured.values % 1, 0, err_msg=name)
            spread = 6.5 * np.sqrt(clear.dither(planned.query)) + 1e-6
            assert (np.abs(measured.values - exact) <= spread).all(), name


def assert_noise(ran: Ran, clear: Clear) -> dict[str, NDArray[Any]]:
    """Every mechanism's noise has mean 0 and the published variance. Returns `deviations`."""
    found = deviations(ran, clear)
    for kind, z in found.items():
        assert plausible(p_mean(z)), kind
        assert plausible(p_variance(z)), kind
    return found


def _labels(column: Column, cells: pd.Series) -> pd.Series:
    if not column.is_numeric:
        return cells.astype(object).where(cells.notna(), MISSING)
    numbers = cells.astype("Float64").astype(float)
    low, high = column.span
    names = [name for name in column.labels if name != MISSING]
    bins = [low, *column.edges, np.nextafter(high, np.inf)]
    cut = pd.cut(numbers, bins=bins, right=False, labels=names)
    return cut.astype(object).where(numbers.notna(), MISSING)
