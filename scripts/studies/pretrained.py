"""What a pretrained language model brings, and what each part of it does.

    python -m scripts.studies.pretrained checkpoint=smollm2 data=german_credit data.root=data

First whole runs (alignment, secure tables, format stage, training, decoding, raking, under one
epsilon) in this process, on a GPU where torch sees one: `schema` is generator=llm, `whole` the
pretrained one. Mean 2-way TVD and AUC, to held-out rows, of models trained on the synthetic rows;
CPU seconds of the run, wall seconds, CPU seconds of the format stage and of writing candidates.
Nothing is trained twice: `no raking` are the candidates of `whole` as they were written, `one-way`
as many candidates with independent columns, of the same noisy one-way tables, raked to the same
tables: what is left of `whole` over it is the model's.

Then what the models know: nats a column of held-out rows, a mean over --rows of them, after each
stage, of the same runs; and `valid`, the chance that such a row's values would be valid texts if
every token could be chosen, in powers of ten: what constrained decoding saves. --stages adds
format stages of other kinds and `real rows`, which learns from the parties' rows in the clear:
as much as steps of that number can bring, without any privacy.

Further words are overrides of all runs, generator.* of the pretrained ones alone.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, cast
from unittest import mock

import numpy as np
from numpy.typing import NDArray

import twinweave
from scripts.studies.datasets import CODES, Data, aucs, coded, load, mean_tvd
from scripts.studies.quality import made_everywhere
from twinweave.config import RunConf
from twinweave.generators import registry
from twinweave.generators.base import Generator
from twinweave.generators.union import Rows
from twinweave.rundir import WEIGHTS
from twinweave.synthesis import synthesise
from twinweave.synthesis.synthesise import Task
from twinweave.tables.contingency import ABSENT
from twinweave.workload.measurement import one_way_tables

SCHEMA, WHOLE = "schema", "whole"
STAGES: dict[str, dict[str, Any]] = {
    "format: uniform": {"format_rows": "uniform"},
    "format, loss: values": {"loss": "values"},
    "format, loss: all": {"loss": "all"},
    "real rows": {},
}
"""Format stages by themselves: what they change. `real rows` has other rows."""


@dataclass(kw_only=True)
class Seen:
    """What a run in this process had at hand. first: weights after the format stage."""

    task: Task | None = None
    first: NDArray[np.float32] | None = None
    candidates: Rows | None = None
    format_seconds: float = 0.0
    writing_seconds: float = 0.0


@contextmanager
def seen(kind: type[Generator]) -> Iterator[Seen]:
    """Looks over the shoulder of a run: nothing of it changes."""
    found, begin, write = Seen(), synthesise.first_weights, kind.sample

    def first_weights(conf: Any, task: Task) -> NDArray[np.float32]:
        found.task, started = task, time.process_time()
        found.first = begin(conf, task)
        found.format_seconds = time.process_time() - started
        return found.first

    def sample(self: Any, presence: NDArray[np.bool_], generator: Any) -> Rows:
        started = time.process_time()
        found.candidates = write(self, presence, generator)
        found.writing_seconds = time.process_time() - started
        return found.candidates

    with (
        mock.patch.object(synthesise, "first_weights", first_weights),
        mock.patch.object(kind, "sample", sample),
    ):
        yield found


@dataclass(frozen=True, kw_only=True)
class Ran:
    """A whole run. weights: as trained. codes: synthetic rows present everywhere."""

    conf: RunConf
    seen: Seen
    weights: NDArray[np.float32] = field(repr=False)
    codes: CODES = field(repr=False)
    cpu: float
    wall: float

    @property
    def task(self) -> Task:
        assert self.seen.task is not None
        return self.seen.task


def run(data: Data, epsilon: float, seed: int, asked: Sequence[str], keep: Path | None) -> Ran:
    """As a user starts it; its joint table is read back from the run directory."""
    from scripts.engines.inprocess import run_in_process

    fixed = ["audit=off", "privacy=public", f"privacy.epsilon={epsilon}", f"seed={seed}"]
    with tempfile.TemporaryDirectory() as temporary:
        folder = keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        out = folder / "run"
        overrides = [*fixed, "protocol.alignment=prf", *asked, f"output={out}"]
        conf = data.configured(overrides, folder)
        assert conf.generator is not None
        kind = type(registry.build(conf.generator, data.layout))
        cpu, wall = time.process_time(), time.monotonic()
        with seen(kind) as noticed:
            run_in_process(conf)
        cpu, wall = time.process_time() - cpu, time.monotonic() - wall
        codes, _ = coded(made_everywhere(out, data), data)
        weights = np.load(out / WEIGHTS)
        epsilon_spent = twinweave.load(out).ledger["epsilon"]
    assert epsilon_spent <= epsilon * (1 + 1e-6)
    return Ran(conf=conf, seen=noticed, weights=weights, codes=codes, cpu=cpu, wall=wall)


@dataclass(frozen=True, kw_only=True)
class Score:
    """Of a table of rows. The seconds are those of its run, where it took one."""

    what: str
    epsilon: float
    seed: int
    rows: int
    tvd: float
    boosting: float
    logistic: float
    cpu_seconds: float | None = None
    seconds: float | None = None
    format_seconds: float | None = None
    writing_seconds: float | None = None

    def __str__(self) -> str:
        scores = "   ".join(f"{x:.4f}" for x in (self.tvd, self.boosting, self.logistic))
        times = (self.cpu_seconds, self.seconds, self.format_seconds, self.writing_seconds)
        spent = "".join(f"{'-' if x is None else round(x):>8}" for x in times)
        return f"{self.what:<14}{self.epsilon:>5g}{self.seed:>5}{self.rows:>7}   {scores}{spent}"


SCORES = (
    f"{'':<14}{'eps':>5}{'seed':>5}{'rows':>7}   {'TVD':<6}   {'HGB':<6}   {'LR':<6}"
    f"{'CPU s':>8}{'wall s':>8}{'format':>8}{'write':>8}"
)


class Independent:
    """In a generator's place: columns drawn one by one from the noisy one-way tables."""

    soft: ClassVar[None] = None

    def __init__(self, task: Task, most_candidates: int | None) -> None:
        self.task, self.most_candidates = task, most_candidates

    def sample(self, presence: NDArray[np.bool_], generator: Any) -> Rows:
        layout, tables = self.task.layout, one_way_tables(self.task.measurements)
        rng = np.random.default_rng(generator.initial_seed())
        codes = np.full((len(presence), len(layout.sizes)), ABSENT, dtype=np.int32)
        for column, name in enumerate(layout.names):
            codes[:, column] = rng.choice(
                layout.sizes[column], len(presence), p=shares(tables[name])
            )
        codes[~layout.visible(presence)] = ABSENT
        return Rows(codes=codes, presence=presence)


def shares(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of a noisy one-way table, none below a hundredth of an even part."""
    clipped = np.maximum(table.ravel(), 0.01 * table.sum() / table.size)
    found: NDArray[np.float64] = clipped / clipped.sum()
    return found


def scores(data: Data, ran: Ran, what: str, epsilon: float, seed: int) -> Iterator[Score]:
    """Of a run, and of what it takes no second one for."""
    real = data.union.codes if data.holdout is None else data.holdout

    def of(what: str, codes: CODES, **spent: float) -> Score:
        boosting, logistic = aucs(codes, real, data.layout, data.positive)
        tvd = mean_tvd(codes, real, data.layout.sizes)
        common = {"what": what, "epsilon": epsilon, "seed": seed, "rows": len(codes)}
        return Score(**common, tvd=tvd, boosting=boosting, logistic=logistic, **spent)  # type: ignore[arg-type]

    yield of(
        what,
        ran.codes,
        cpu_seconds=ran.cpu,
        seconds=ran.wall,
        format_seconds=ran.seen.format_seconds,
        writing_seconds=ran.seen.writing_seconds,
    )
    if what == WHOLE:
        assert ran.seen.candidates is not None
        yield of("no raking", whole(ran.seen.candidates.codes))
        assert ran.conf.generator is not None
        control = cast("Generator", Independent(ran.task, ran.conf.generator.most_candidates))
        yield of("one-way", whole(synthesise.synthesise(control, ran.task).rows.codes))


def whole(codes: CODES) -> CODES:
    """Those that have every column."""
    kept: CODES = codes[(codes != ABSENT).all(axis=1)]
    return kept


@dataclass(frozen=True, kw_only=True)
class Known:
    """nats: a column of held-out rows. error: its standard error. valid: log10 of the chance."""

    what: str
    epsilon: float
    nats: float
    error: float
    valid: float | None = None

    def __str__(self) -> str:
        valid = "     -" if self.valid is None else f"{self.valid:6.1f}"
        return f"{self.what:<34}{self.epsilon:>5g}   {self.nats:.4f} +- {self.error:.4f}   {valid}"


KNOWN = f"{'':<34}{'eps':>5}   nats a column      valid"


def known(what: str, epsilon: float, network: Any, rows: CODES) -> Known:
    """What a network that writes rows column by column knows of these, each whole."""
    import torch

    network.eval()
    codes = torch.from_numpy(rows.astype(np.int64))
    everyone = torch.ones(len(rows), len(network.layout.parties))
    valid = None
    with torch.no_grad():
        if not hasattr(network, "losses"):
            each = network.loss(codes, everyone)
        else:
            parts = zip(torch.split(codes, 8), torch.split(everyone, 8), strict=True)
            found = [torch.stack(network.losses(*part, "allowed", "values")) for part in parts]
            each, tokens = torch.cat(found, dim=1).unbind()
            text = network.pieces.write(codes, everyone, network.template.order)
            counts = text.mask[:, text.value_slots()].sum(dim=1)
            inside = each * rows.shape[1] - tokens * counts
            valid = float(torch.logsumexp(inside.double(), 0) - np.log(len(rows))) / np.log(10)
    error = float(each.std()) / len(rows) ** 0.5
    return Known(what=what, epsilon=epsilon, nats=float(each.mean()), error=error, valid=valid)


def of_tables(
    what: str, epsilon: float, tables: Sequence[NDArray[np.float64]], rows: CODES
) -> Known:
    """What one-way tables know: columns are independent."""
    logs = [-np.log(shares(table))[rows[:, c]] for c, table in enumerate(tables)]
    each = np.mean(logs, axis=0)
    error = float(each.std(ddof=1)) / len(rows) ** 0.5
    return Known(what=what, epsilon=epsilon, nats=float(each.mean()), error=error)


def knowledge(ran: Ran, what: str, epsilon: float, rows: CODES) -> Iterator[Known]:
    """After each stage of a run."""
    conf, layout = ran.conf.generator, ran.task.layout
    assert conf is not None
    if what == WHOLE:
        one_way = one_way_tables(ran.task.measurements)
        yield of_tables("noisy one-way tables", epsilon, [one_way[n] for n in layout.names], rows)
        started = registry.build(conf, layout, seed=ran.task.seed)
        yield known("as published", epsilon, started, rows)
    assert ran.seen.first is not None
    yield known(
        f"{what}: after the format stage",
        epsilon,
        registry.load(conf, layout, ran.seen.first),
        rows,
    )
    if ran.conf.trains and conf.steps and not np.array_equal(ran.weights, ran.seen.first):
        trained = registry.load(conf, layout, ran.weights)
        yield known(f"{what}: after the private steps", epsilon, trained, rows)


def stage(name: str, ran: Ran, rows: Rows | None) -> Any:
    """A network after a format stage of another kind; on rows of the run's tables where none are
    given."""
    conf = replace(cast("Any", ran.conf.generator), **STAGES[name])
    network = registry.build(conf, ran.task.layout, seed=ran.task.seed)
    network.learn_format(
        lambda: synthesise.synthesise(None, ran.task).rows if rows is None else rows,
        seed=ran.task.seed,
    )
    return network


def study(data: Data, options: argparse.Namespace, asked: Asked) -> Iterator[Score | Known]:
    """Every line, as it is found."""
    real = data.union.codes if data.holdout is None else data.holdout
    sizes = data.layout.sizes
    rows = whole(real)
    rows = rows[np.random.default_rng(0).choice(len(rows), options.rows, replace=False)]
    yield of_tables("every value alike", np.inf, [np.ones(size) for size in sizes], rows)
    counts = [
        np.bincount(c[c != ABSENT], minlength=len_)
        for c, len_ in zip(data.union.codes.T, sizes, strict=True)
    ]
    yield of_tables("exact one-way tables", np.inf, [c.astype(float) for c in counts], rows)
    for seed in range(options.seeds):
        for epsilon in options.epsilon:
            for what in options.runs:
                keep = options.keep and options.keep / f"{what}-{epsilon:g}-{seed}"
                ran = run(data, epsilon, seed, asked.of(what), keep)
                yield from scores(data, ran, what, epsilon, seed)
                yield from knowledge(ran, what, epsilon, rows)
                if what == WHOLE:
                    for name in options.stages:
                        taught = data.union if name == "real rows" else None
                        yield known(name, epsilon, stage(name, ran, taught), rows)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Overrides of runs. common: of all. own: of the pretrained model's."""

    common: tuple[str, ...]
    own: tuple[str, ...]

    def of(self, what: str) -> list[str]:
        return ["generator=llm"] if what == SCHEMA else ["generator=llm_pretrained", *self.own]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="+", metavar="NAME=VALUE")
    parser.add_argument("--epsilon", type=float, nargs="+", default=[1.0, 8.0])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--runs", nargs="+", default=[SCHEMA, WHOLE], choices=[SCHEMA, WHOLE])
    parser.add_argument("--stages", nargs="*", default=[], choices=list(STAGES))
    parser.add_argument("--rows", type=int, default=64, help="held-out rows for nats")
    parser.add_argument(
        "--hold-out", type=float, default=0.3, help="of users, where the dataset has no test split"
    )
    parser.add_argument("--keep", type=Path, help="run directories stay there")
    parser.add_argument("--out", type=Path, help="append every line as JSON")
    options = parser.parse_args()
    folder = next((w.partition("=")[2] for w in options.words if w.startswith("checkpoint=")), "")
    if not folder:
        parser.error("name the model's folder: checkpoint=FOLDER")
    words = [w for w in options.words if not w.startswith("checkpoint=")]
    own = [w for w in words if w.startswith("generator.")]
    asked = Asked(
        common=tuple(w for w in words if w not in own),
        own=(f"generator.checkpoint={folder}", *own),
    )
    before: type | None = None
    for found in study(load(asked.common, options.hold_out), options, asked):
        if type(found) is not before:
            print(f"\n{SCORES if isinstance(found, Score) else KNOWN}", flush=True)
        before = type(found)
        print(found, flush=True)
        if options.out:
            with options.out.open("a") as file:
                print(json.dumps(asdict(found)), file=file)


if __name__ == "__main__":
    main()
