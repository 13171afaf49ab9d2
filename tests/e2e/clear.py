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
from twinweave.tables.encoding import load_cleaned
from twinweave.workload.plan import PlannedQuery
from twinweave.workload.queries import Query, Side


class Clear:
    """The parties' cleaned tables, side by side: what no one in a run ever holds."""

    def __init__(self, conf: RunConf) -> None:
        self.schema = conf.data.schema
        self.labels, self.units = {}, {}
        self._known: dict[Query, NDArray[Any]] = {}
        for party in conf.data.parties:
            assert party.source
            frame = load_cleaned(party.source, party.schema, party.name).frame
            users = frame[party.schema.key.name]
            self.labels[party.name] = pd.DataFrame(
                {c.name: _labels(c, frame[c.name]) for c in party.schema.data_columns}
            ).set_index(users)
            self.units[party.name] = pd.DataFrame(
                {
                    c.name: _units(c, frame[c.name])
                    for c in party.schema.data_columns
                    if c.role == "value"
                },
                index=frame.index,
            ).set_index(users)

    def table(self, query: Query) -> NDArray[Any]:
        """Exact table of a query, float64, [absent, absent] zero; weighted in value units."""
        if query not in self._known:
            self._known[query] = self._table(query)
        return self._known[query]

    def _table(self, query: Query) -> NDArray[Any]:
        if query.is_cross:
            return self._cross(query)
        side = query.sides[0]
        cells = self._side(side)
        weights = self._weights(side)
        counted = cells.map(lambda _: 1) if weights is None else weights
        table = counted.groupby(cells).sum().reindex(self._positions(side), fill_value=0)
        sizes = [len(self.schema.column(c).labels) for c in side.columns]
        return table.to_numpy(np.float64).reshape(sizes)

    def _cross(self, query: Query) -> NDArray[Any]:
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
            amount = self._weights(weighted).reindex(joined.index, fill_value=0)
        summed: dict[str, Any] = {} if amount is None else {"values": amount, "aggfunc": "sum"}
        table = pd.crosstab(joined["one"], joined["two"], **summed)
        rows, columns = ([*self._positions(s), "absent"] for s in query.sides)
        table = table.reindex(index=rows, columns=columns).fillna(0)
        if weighted is two:
            return table[[""]].to_numpy(np.float64)
        if weighted is one:
            return table.loc[[""]].to_numpy(np.float64)
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

    def _weights(self, side: Side) -> pd.Series | None:
        if side.weight is None:
            return None
        units = pd.concat([self.units[p] for p in side.members])[side.weight]
        return units if side.power == 1 else (units**2 / VALUE_UNITS).round()


def mechanism_of(planned: PlannedQuery) -> str:
    """Which noise a table got: the kinds that are tested apart."""
    where = "pooled " if planned.query.is_pooled else ""
    where += "cross" if planned.query.is_cross else "local"
    if isinstance(planned.event.mechanism, SharedBinomial):
        return f"{where} coins" if planned.query.is_pooled else "coins"
    if planned.query.weight is not None:
        return f"{where} sums to the power {planned.query.weight[1]}"
    return f"{where} gaussian"


def deviations(ran: Ran, clear: Clear) -> dict[str, NDArray[Any]]:
    """mechanism -> (measured - exact) / sd of every measured cell."""
    found: dict[str, list[NDArray[Any]]] = {}
    for planned, measured in zip(ran.spec.plan, ran.findings.measurements, strict=True):
        assert measured.query == planned.query
        exact = clear.table(planned.query)
        assert measured.values.shape == exact.shape
        z = ((measured.values - exact) / np.sqrt(measured.variance)).ravel()
        if planned.query.is_cross and planned.query.weight is None:
            assert measured.values[-1, -1] == 0  # nobody is absent at both
            z = z[:-1]
        found.setdefault(mechanism_of(planned), []).append(z)
    return {kind: np.concatenate(parts) for kind, parts in found.items()}


def assert_exact(ran: Ran, clear: Clear) -> None:
    """Every cell of a run without noise is the plaintext's."""
    for planned, measured in zip(ran.spec.plan, ran.findings.measurements, strict=True):
        exact = clear.table(planned.query)
        np.testing.assert_array_equal(measured.values, exact, err_msg=planned.query.name)


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


def _units(column: Column, cells: pd.Series) -> pd.Series:
    low, high = column.span
    share = (cells.astype(float).clip(low, high) - low) / (high - low)
    return (share.fillna(0) * VALUE_UNITS).round()
