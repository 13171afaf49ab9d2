"""Quality of synthetic data from real runs, beside the central tools.

    python -m scripts.studies.quality data=adult data.root=data --beside mst aim

Each line is one whole run (alignment, secure tables, a training where asked for, synthesis, under
one epsilon) in this process, against real rows that were never in it: the dataset's own test
split, else users who are held out. Mean 2-way and 3-way TVD, AUC on the real rows of models
trained on the synthetic ones (TSTR), mean Kolmogorov-Smirnov distance of the numbers, CPU seconds.
The tables made in memory are data=xor_across, xor_together and xor_at_one (`exclusive_or.py`).

`--training` runs each share of the budget for the private training. `--beside` adds AIM and MST,
which hold the joined table that nobody should hold, in an environment of their own; `--baselines`
SDV's CTGAN and TVAE, the same without any privacy.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import twinweave
from scripts.studies import central
from scripts.studies.datasets import CODES, Data, aucs, coded, load, mean_ks, mean_tvd, one_way_tvd
from twinweave.tables.contingency import ABSENT
from twinweave.tables.encoding import by_code, decode

if TYPE_CHECKING:
    import pandas as pd

DELTA = 1e-5
MEANS = ("tvd", "triples", "marginal", "boosting", "logistic", "ks", "cpu_seconds")
TRIPLES = 300
"""Three-way tables looked at, at most."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """One table against the held-out real rows; against the parties' own where none are held out.

    tvd, triples: means over column pairs and triples. marginal: the largest one-way TVD, to the
    parties' own rows. boosting, logistic: AUC; None without held-out rows. ks: None without
    numbers.
    """

    what: str
    epsilon: float
    seed: int
    tvd: float
    triples: float
    marginal: float
    boosting: float | None
    logistic: float | None
    ks: float | None
    cpu_seconds: float

    def __str__(self) -> str:
        epsilon = "inf" if np.isinf(self.epsilon) else f"{self.epsilon:g}"
        scores = (self.tvd, self.triples, self.marginal, self.boosting, self.logistic, self.ks)
        shown = "   ".join("-" * 6 if x is None else f"{x:.4f}" for x in scores)
        return f"{self.what:<22}{epsilon:>5}{self.seed:>5}   {shown}   {self.cpu_seconds:6.0f}"


HEADER = f"{'':<22}{'eps':>5}{'seed':>5}   " + "   ".join(
    f"{name:<6}" for name in ("2-way", "3-way", "1-way", "HGB", "LR", "KS", " CPU s")
)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What made a table, and under which budget."""

    what: str
    epsilon: float = np.inf
    seed: int = 0


def score(asked: Asked, codes: CODES, numbers: pd.DataFrame, data: Data, cpu: float) -> Score:
    own, sizes, held = data.union.codes, data.layout.sizes, data.holdout
    real = own if held is None else held
    boosting, logistic = (
        (None, None) if held is None else aucs(codes, held, data.layout, data.positive)
    )
    return Score(
        what=asked.what,
        epsilon=asked.epsilon,
        seed=asked.seed,
        tvd=mean_tvd(codes, real, sizes),
        triples=mean_tvd(codes, real, sizes, ways=3, most=TRIPLES),
        marginal=max(one_way_tvd(codes[:, i], own[:, i], size) for i, size in enumerate(sizes)),
        boosting=boosting,
        logistic=logistic,
        ks=mean_ks(numbers, data.numbers),
        cpu_seconds=cpu,
    )


def one_run(data: Data, generator: str, training: str, epsilon: float, seed: int) -> Score:
    """A run as a user starts it, its joint table read back from the run directory."""
    from scripts.engines.inprocess import run_in_process

    share = [] if training == "auto" else [f"privacy.shares.training={training}"]
    with tempfile.TemporaryDirectory() as folder:
        overrides = [
            f"generator={generator}",
            "audit=off",
            "privacy=public",
            f"privacy.epsilon={epsilon}",
            f"privacy.delta={DELTA}",
            *share,
            f"seed={seed}",
            f"output={folder}/run",
            "protocol.alignment=prf",
        ]
        conf = data.configured(overrides, Path(folder))
        started = time.process_time()
        run_in_process(conf)
        spent = time.process_time() - started
        made = made_everywhere(Path(folder) / "run", data)
    what = generator if training == "auto" else f"{generator}, training {training}"
    return _of_frame(Asked(what=what, epsilon=epsilon, seed=seed), made, data, spent)


def made_everywhere(run: Path, data: Data) -> pd.DataFrame:
    """A run's synthetic rows that are present at every unit of parties.

    The noisy estimate of the overlap may place a few people at one party only.
    """
    joint: pd.DataFrame = twinweave.load(run).synthetic()
    at = [joint[[f"present_{p}" for p in unit]].any(axis=1) for unit in data.schema.units]
    kept: pd.DataFrame = joint.loc[np.logical_and.reduce(at)]
    return kept


def _of_frame(asked: Asked, made: pd.DataFrame, data: Data, cpu: float) -> Score:
    codes, numbers = coded(made, data)
    return score(asked, codes, numbers, data, cpu)


def beside(tool: str, data: Data, epsilon: float, seed: int) -> Score:
    """A central tool on the joined table, its numbers drawn within bins as ours are.

    Raises central.UnavailableError.
    """
    codes, columns = data.union.codes, data.schema.columns
    whole = codes[(codes != ABSENT).all(axis=1)]
    made = central.synthesise(
        tool, whole, data.layout.sizes, epsilon=epsilon, delta=DELTA, seed=seed
    )
    rng = np.random.default_rng(seed)
    numbers = decode(columns, made.codes, rng, by_code(made.codes, columns))
    asked = Asked(what=f"{tool}, central", epsilon=epsilon, seed=seed)
    return score(asked, made.codes, numbers, data, made.cpu_seconds)


def baseline(name: str, data: Data, epochs: int) -> Score:
    """SDV's own model on the joined table in the clear, without privacy."""
    from sdv.metadata import Metadata
    from sdv.single_table import CTGANSynthesizer, TVAESynthesizer

    from twinweave.tables.sdv_metadata import to_sdv_metadata

    columns = data.schema.columns
    frame = decode(columns, data.union.codes, np.random.default_rng(0))
    metadata = Metadata.load_from_dict(to_sdv_metadata(columns, None))
    maker = CTGANSynthesizer if name == "ctgan" else TVAESynthesizer
    model = maker(metadata, epochs=epochs, enforce_rounding=True)
    started = time.process_time()
    np.random.seed(0)  # noqa: NPY002 (SDV takes no generator)
    (table,) = metadata.tables
    model.fit({table: frame})
    made = model.sample(len(frame))[table]
    spent = time.process_time() - started
    return _of_frame(Asked(what=f"SDV {name}, not private"), made, data, spent)


def scores(data: Data, options: argparse.Namespace) -> Iterator[Score]:
    """Every line of the study, as it is found."""
    real = data.numbers if data.holdout is None else _numbers(data)
    yield score(Asked(what="real training rows"), data.union.codes, real, data, 0.0)
    for name in ("tvae", "ctgan") if options.baselines else ():
        yield baseline(name, data, options.baselines)
    for seed in range(options.seeds):
        for epsilon in options.epsilon:
            for generator in options.generators:
                for training in options.training:
                    yield one_run(data, generator, training, epsilon, seed)
            for tool in options.beside:
                try:
                    yield beside(tool, data, epsilon, seed)
                except central.UnavailableError as error:
                    print(f"{tool}: skipped. {error}", flush=True)


def _numbers(data: Data) -> pd.DataFrame:
    """Numbers of the training rows within their bins."""
    columns, codes = data.schema.columns, data.union.codes
    return decode(columns, codes, np.random.default_rng(0), by_code(codes, columns))


def means(rows: Sequence[Score]) -> Iterator[Score]:
    """One line for all seeds of what was asked; its seed is how many there were."""

    def mean(found: Sequence[float | None]) -> Any:
        known = [x for x in found if x is not None]
        return float(np.mean(known)) if known else None

    asked = {
        (r.what, r.epsilon): [q for q in rows if (q.what, q.epsilon) == (r.what, r.epsilon)]
        for r in rows
    }
    for (what, epsilon), own in asked.items():
        scores = {name: mean([getattr(r, name) for r in own]) for name in MEANS}
        yield Score(what=what, epsilon=epsilon, seed=len(own), **scores)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("overrides", nargs="+", help="e.g. data=adult data.root=data")
    parser.add_argument("--epsilon", type=float, nargs="+", default=[0.5, 1.0, 3.0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--generators", nargs="*", default=["tvae", "ctgan", "llm"])
    parser.add_argument("--training", nargs="+", default=["auto"], metavar="SHARE")
    parser.add_argument("--beside", nargs="*", default=[], choices=central.TOOLS)
    parser.add_argument("--baselines", type=int, default=0, metavar="EPOCHS")
    parser.add_argument(
        "--hold-out", type=float, default=0.3, help="of users, where the dataset has no test split"
    )
    parser.add_argument("--out", type=Path, help="append every score as a JSON line")
    options = parser.parse_args()
    data = load(options.overrides, options.hold_out)
    rows: list[Score] = []
    for found in scores(data, options):
        rows.append(found)
        print(f"{HEADER}\n{found}", flush=True)
        if options.out:
            with options.out.open("a") as file:
                told = {"data": data.described["name"], **asdict(found)}
                print(json.dumps(told), file=file)
    print("\n".join(["", "means over seeds", HEADER, *(str(r) for r in means(rows))]))


if __name__ == "__main__":
    main()
