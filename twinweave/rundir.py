"""A run directory's files: written by the server, read by a notebook through `import twinweave`."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from twinweave import durable, folder
from twinweave.analysis.audit.results import gate_of
from twinweave.config import RunConf
from twinweave.errors import ConfigError, SourceError
from twinweave.generators.union import UnionLayout
from twinweave.names import slugs
from twinweave.parsing import canonical_json, parse, to_plain
from twinweave.spec import RunSpec
from twinweave.tables.contingency import grouped_labels
from twinweave.tables.schema import JointSchema
from twinweave.tables.sdv_metadata import TIME_FORMAT
from twinweave.workload.measurement import Measurement
from twinweave.workload.queries import Query, cells_of

if TYPE_CHECKING:
    import pandas as pd

    from twinweave.synthesis.decode import SyntheticTables
    from twinweave.synthesis.draw import Source
    from twinweave.synthesis.given import Given
    from twinweave.synthesis.infer import Inference, Statistic

CONFIGURATION = "configuration.json"
STATUS = folder.STATUS
LOG = "run.log"
SPEC = "spec.json"
LEDGER = "ledger.json"
MEASUREMENTS = "measurements.parquet"
FIRST_PASS = "first_pass.parquet"
WEIGHTS = "generator.npy"
MIXTURE = "mixture.npz"
SYNTHETIC = "synthetic"
ORIGINAL = "original"
"""In `SYNTHETIC`: the tables as measured, where others are fair."""

FINE_TUNED = "fine-tuned"
"""Checkpoint of a language model that was trained without noise."""

REPORT = "report.json"
PAGE = "report.html"

_NO_TABLES = "The run had no generator, or ended without it. Run with one."

JOINT = "joint"
"""Name of the synthetic table that has all parties' columns."""


def write_json(path: Path, value: Any) -> None:
    """Readable JSON of plain values or dataclasses; refuses NaN and infinity."""
    text = json.dumps(to_plain(value), indent=2, allow_nan=False) + "\n"
    durable.write_whole(path, text.encode(), durable.COMMON)


def write_text(path: Path, text: str) -> None:
    """As UTF-8."""
    durable.write_whole(path, text.encode(), durable.COMMON)


def write_array(path: Path, array: NDArray[np.float32]) -> None:
    """As `numpy.load` reads it."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    durable.write_whole(path, buffer.getvalue(), durable.COMMON)


def _write_frame(path: Path, frame: pd.DataFrame) -> None:
    durable.write_whole(path, frame.to_parquet(index=False), durable.COMMON)


def write_measurements(
    path: Path, schema: JointSchema, measurements: Sequence[Measurement]
) -> None:
    """One row a cell: table (its number), name, position (row-major), cell, value, variance.

    A table's query stands as JSON on each of its rows (dictionary-encoded), so that the file
    alone can be read back.
    """
    import pandas as pd

    frames = []
    for number, measurement in enumerate(measurements):
        cells = cells_of(schema, measurement.query)
        frames.append(
            pd.DataFrame(
                {
                    "table": np.int32(number),
                    "name": measurement.query.name,
                    "position": np.arange(cells.size, dtype=np.int32),
                    "cell": cell_names(schema, measurement.query),
                    "value": cells.flat(measurement.values),
                    "variance": measurement.variance,
                    "query": canonical_json(measurement.query),
                }
            )
        )
    table = pd.concat(frames, ignore_index=True)
    _write_frame(path, table.astype({"name": "category", "query": "category"}))


def read_measurements(path: Path, schema: JointSchema) -> tuple[Measurement, ...]:
    """Inverse of `write_measurements`. Raises SourceError where the file is gone or damaged."""
    import pandas as pd

    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError):
        raise SourceError(
            f"{path}: is missing or damaged. Bring it back from a copy, or start a new run."
        ) from None
    found = []
    for _, cells in frame.groupby("table", sort=True):
        query = parse(Query, json.loads(str(cells["query"].iloc[0])))
        values = cells.sort_values("position")["value"].to_numpy(np.float64)
        found.append(
            Measurement(
                query=query,
                values=cells_of(schema, query).table(values),
                variance=float(cells["variance"].iloc[0]),
            )
        )
    return tuple(found)


def cell_names(schema: JointSchema, query: Query) -> list[str]:
    """Name of every cell, row-major: "segment=test, visit=1"; "publisher: absent"."""
    levels = {
        column: grouped_labels(schema.column(column), side.groups[i])
        if side.groups
        else schema.column(column).labels
        for side in query.sides
        for i, column in enumerate(side.columns)
    }
    return cells_of(schema, query).labels(levels)


def synthetic_names(schema: JointSchema) -> dict[str, str]:
    """{party: name of its synthetic table}: its own, but fit for a file and never `joint`."""
    return slugs(schema.parties, taken=(JOINT,))


def write_synthetic(into: Path, tables: SyntheticTables, *, csv: bool = False) -> dict[str, Path]:
    """`<name>.parquet` and `<name>.metadata.json` (SDV's) for each party and for `joint`.

    csv: the same as CSV too. Returns the Parquet files by name (`synthetic_names`).
    """
    into.mkdir(parents=True, exist_ok=True)
    named = {
        name: (tables.of(party), tables.metadata_of(party))
        for party, name in synthetic_names(tables.schema).items()
    }
    named[JOINT] = tables.joint, tables.joint_metadata
    for name, (table, metadata) in named.items():
        _write_frame(into / f"{name}.parquet", table)
        write_json(into / f"{name}.metadata.json", metadata)
        if csv:
            text = table.to_csv(index=False, date_format=TIME_FORMAT)
            durable.write_whole(into / f"{name}.csv", text.encode(), durable.COMMON)
    return {name: into / f"{name}.parquet" for name in named}


def write_source(into: Path, source: Source) -> None:
    """What more rows are drawn from: the fitted mixture, the weights of a network that samples."""
    if source.network is not None:
        write_array(into / WEIGHTS, source.network.weights)
    if source.mixture is not None:
        latents, buffer = source.mixture.latents, io.BytesIO()
        np.savez_compressed(
            buffer,
            logits=source.mixture.logits,
            presence=latents.presence,
            users=latents.users,
        )
        durable.write_whole(into / MIXTURE, buffer.getvalue(), durable.COMMON)


def read_source(path: Path, conf: RunConf, layout: UnionLayout) -> Source:
    """Inverse of `write_source`. Raises SourceError where the run had no generator."""
    from twinweave.generators import registry
    from twinweave.synthesis.draw import Source
    from twinweave.synthesis.fit import Latents, Mixture

    if conf.generator is None:
        raise SourceError(
            f"{path}: the run had no generator, so that there are no rows to draw. Run with "
            "generator=tvae, ctgan or llm."
        )
    network = registry.build(conf.generator, layout)
    alone = network.soft is None
    part = conf.synthesis.mixture if alone else 1.0
    if part is None and not (path / MIXTURE).exists():  # the network wrote all
        part = 0.0
    needed = [*([WEIGHTS] if alone else []), *([MIXTURE] if part != 0 else [])]
    for name in needed:
        if not (path / name).exists():
            raise SourceError(
                f"{path}: {name} is not there: the run ended without its generator, or is of an "
                "earlier release. Start a new one."
            )
    if alone:
        network.weights = np.load(path / WEIGHTS)
    mixture = None
    if part != 0:
        with np.load(path / MIXTURE) as saved:
            latents = Latents(presence=saved["presence"], users=saved["users"])
            mixture = Mixture(layout=layout, latents=latents, logits=saved["logits"])
    return Source(network=network if alone else None, mixture=mixture, part=part)


@dataclass(frozen=True)
class Run:
    """A run, read lazily from its directory.

    What it has measured is there as soon as it is paid for: report, ledger and measurements of
    a run that did not finish are those of its measurement.
    """

    path: Path

    @property
    def status(self) -> str:
        """How the run stands now: running, finished, failed, or died: cut short, by a crash."""
        return str(folder.status(self.path)["state"])

    @cached_property
    def report(self) -> dict[str, Any]:
        return self._json(REPORT)

    @cached_property
    def ledger(self) -> dict[str, Any]:
        return self._json(LEDGER)

    @cached_property
    def configuration(self) -> dict[str, Any]:
        return self._json(CONFIGURATION)

    @cached_property
    def schema(self) -> JointSchema:
        return parse(JointSchema, self._json(SPEC)["schema"])

    @cached_property
    def spec(self) -> RunSpec:
        """What the parties accepted. Raises ProtocolError for a run of another release."""
        return parse(RunSpec, self._json(SPEC))

    @cached_property
    def measurements(self) -> tuple[Measurement, ...]:
        return read_measurements(self._there(MEASUREMENTS), self.schema)

    def cells(self) -> pd.DataFrame:
        """The measured tables as one data frame, one row a cell."""
        import pandas as pd

        return pd.read_parquet(self._there(MEASUREMENTS)).drop(columns="query")

    def synthetic(self, name: str = JOINT) -> pd.DataFrame:
        """A synthetic table: a party's by its name, or `joint`. Raises SourceError if none."""
        import pandas as pd

        names = synthetic_names(self.schema)
        known = {**names, **{n: n for n in names.values()}, JOINT: JOINT}
        if name not in known:
            raise SourceError(f"no synthetic table {name!r}. Tables: {', '.join(known)}.")
        self._check_handed_out()
        path = self.path / SYNTHETIC / f"{known[name]}.parquet"
        if not path.exists():
            raise SourceError(f"{path}: is not there. {self._why(_NO_TABLES)}")
        return pd.read_parquet(path)

    def sample(self, n: int, seed: int = 0, *, given: Given | None = None) -> pd.DataFrame:
        """n further rows of the joint synthetic table, at no cost in privacy.

        They are new people who meet the measurements as the run's own rows do, and none of them
        is suppressed. given: levels that they must have, {"arm": "test", "region": ["north",
        "south"]}; of a number, its bin as `cells()` writes it. The same seed draws the same rows.
        Raises SourceError for a run without a generator, or where no row has the levels;
        ConfigError for levels that there are not.
        """
        from twinweave.synthesis.decode import decode_rows
        from twinweave.synthesis.given import given_codes
        from twinweave.synthesis.synthesise import Task, more_rows
        from twinweave.tables.encoding import by_code

        if n < 1:
            raise ConfigError("n", "below 1", "Ask for one row or more.")
        self._check_handed_out()
        conf = RunConf.parse(self.configuration)
        layout = UnionLayout.of(self.schema)
        source = read_source(self.path, conf, layout)
        task = Task(
            layout=layout,
            measurements=self.measurements,
            sizes=self.report["sizes"],
            conf=conf.synthesis,
            seed=seed,
            fairness=conf.enforcement,
        )
        drawn = more_rows(source, task, n, given_codes(self.schema, given or {}))
        columns, size = self.schema.columns, sum(self.report["sizes"].values())
        users = by_code(drawn.everyone.codes, columns, size * drawn.weights)
        return decode_rows(self.schema, drawn.rows, seed, users).joint

    def infer(
        self,
        statistic: Statistic,
        *,
        columns: Sequence[str],
        order: int | None = None,
        m: int = 20,
        level: float = 0.95,
        seed: int = 0,
    ) -> Inference:
        """A statistic of the joint table with a valid interval, at no cost in privacy.

        statistic: gets a data frame of the columns, a row a person of the union (NaN, NA, None
        or NaT where none of a column's holders has the person), and gives a number, or numbers
        by name. A function cannot be looked into, so it gets no other columns; and no more than
        what was measured of them: every `order` of them (None: all) must be in one measured
        table. order=2 is enough for what follows from pairs: rates, their differences,
        correlations, a regression without interactions.
        m: populations drawn; the statistic is computed twice for each. Works for runs without a
        generator too. Raises ConfigError naming columns that were not measured together.
        """
        from twinweave.synthesis.infer import infer

        return infer(
            self.schema,
            self.measurements,
            self.report["sizes"],
            statistic,
            columns=columns,
            order=order,
            m=m,
            level=level,
            seed=seed,
            clustered=bool((self.report.get("lift") or {}).get("clusters")),
        )

    def _check_handed_out(self) -> None:
        """Raise SourceError where the run's tables are withheld, with the first reason."""
        gate = gate_of(self.report if (self.path / REPORT).exists() else {})
        if gate.withheld:
            why = gate.reasons[0]
            raise SourceError(
                f"{self.path}: the synthetic tables are withheld. {why.source}: {why.what}. "
                f"{why.remedy}"
            )

    def _json(self, name: str) -> dict[str, Any]:
        data: dict[str, Any] = json.loads(self._there(name).read_text())
        return data

    def _there(self, name: str) -> Path:
        path = self.path / name
        if not path.exists():
            raise SourceError(f"{path}: is not there. {self._why('Give a folder a run wrote.')}")
        return path

    def _why(self, otherwise: str) -> str:
        """Why a file is missing: the run did not finish, or else."""
        told = folder.status(self.path)
        if told["state"] == "finished" or not (self.path / STATUS).exists():
            return otherwise
        return f"The run did not finish: {told.get('error', told['state'])}"


def load(path: str | Path) -> Run:
    """Open a run directory; its `status` says how the run stands. Raises SourceError for others."""
    if not any((Path(path) / name).exists() for name in (STATUS, CONFIGURATION)):
        raise SourceError(f"{path}: not a run directory. Name the folder a run has written.")
    return Run(Path(path))
