"""Quality of synthetic data from real runs.

    python -m scripts.studies.quality data=adult data.root=data

Each line is one whole run (alignment, secure tables, training, synthesis, under one epsilon)
in this process: mean 2-way TVD to the held-out real rows, AUC on them of models trained on
synthetic rows (TSTR), CPU seconds. `--baselines` adds SDV's CTGAN and TVAE, trained without
any privacy on the joined table that nobody should hold.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import twinweave
from scripts.studies.datasets import CODES, Data, aucs, load, mean_tvd, one_way_tvd
from twinweave.config import RunConf, compose
from twinweave.tables.encoding import column_codes, decode


@dataclass(frozen=True, kw_only=True)
class Score:
    """One table against the held-out real rows; against the parties' own where none are held out.

    tvd: mean over column pairs. marginal: the largest one-way TVD, to the parties' own rows.
    boosting, logistic: AUC; None without held-out rows.
    """

    what: str
    epsilon: float
    seed: int
    tvd: float
    marginal: float
    boosting: float | None
    logistic: float | None
    cpu_seconds: float

    def __str__(self) -> str:
        epsilon = "inf" if np.isinf(self.epsilon) else f"{self.epsilon:g}"
        scores = (self.tvd, self.marginal, self.boosting, self.logistic)
        shown = "   ".join("-" * 6 if x is None else f"{x:.4f}" for x in scores)
        return f"{self.what:<22}{epsilon:>5}{self.seed:>5}   {shown}   {self.cpu_seconds:6.0f}"


HEADER = f"{'':<22}{'eps':>5}{'seed':>5}   " + "   ".join(
    f"{name:<6}" for name in ("TVD", "1-way", "HGB", "LR", " CPU s")
)


def score(what: str, epsilon: float, seed: int, codes: CODES, data: Data, cpu: float) -> Score:
    own, sizes = data.union.codes, data.layout.sizes
    boosting, logistic = (
        (None, None) if data.holdout is None else aucs(codes, data.holdout, data.layout)
    )
    tvd = mean_tvd(codes, own if data.holdout is None else data.holdout, sizes)
    marginal = max(one_way_tvd(codes[:, i], own[:, i], size) for i, size in enumerate(sizes))
    return Score(
        what=what,
        epsilon=epsilon,
        seed=seed,
        tvd=tvd,
        marginal=marginal,
        boosting=boosting,
        logistic=logistic,
        cpu_seconds=cpu,
    )


def joint_codes(run: Path, data: Data) -> CODES:
    """A run's synthetic rows that are present at every unit of parties.

    The noisy estimate of the overlap may place a few people at one party only.
    """
    joint = twinweave.load(run).synthetic()
    at = [joint[[f"present_{p}" for p in unit]].any(axis=1) for unit in data.schema.units]
    joint = joint[np.logical_and.reduce(at)]
    return np.stack([column_codes(c, joint[c.name]) for c in data.schema.columns], axis=1)


def one_run(data: Data, overrides: list[str], generator: str, epsilon: float, seed: int) -> Score:
    """A run as a user starts it, its joint table read back from the run directory."""
    from scripts.engines.inprocess import run_in_process

    with tempfile.TemporaryDirectory() as folder:
        conf = RunConf.parse(
            compose(
                [
                    f"generator={generator}",
                    "audit=off",
                    "privacy=public",
                    f"privacy.epsilon={epsilon}",
                    f"seed={seed}",
                    f"output={folder}/run",
                    "protocol.alignment=prf",
                    *overrides,
                ]
            )
        )
        started = time.process_time()
        run_in_process(conf)
        spent = time.process_time() - started
        codes = joint_codes(Path(folder) / "run", data)
    return score(generator, epsilon, seed, codes, data, spent)


def baseline(name: str, data: Data, seed: int, epochs: int) -> Score:
    """SDV's own model on the joined table in the clear, without privacy."""
    from sdv.metadata import Metadata
    from sdv.single_table import CTGANSynthesizer, TVAESynthesizer

    from twinweave.tables.sdv_metadata import to_sdv_metadata

    rng = np.random.default_rng(seed)
    columns = data.schema.columns
    frame = decode(columns, data.union.codes, rng)
    metadata = Metadata.load_from_dict(to_sdv_metadata(columns, None))
    maker = CTGANSynthesizer if name == "ctgan" else TVAESynthesizer
    model = maker(metadata, epochs=epochs, enforce_rounding=True)
    started = time.process_time()
    np.random.seed(seed)  # noqa: NPY002 (SDV takes no generator)
    (table,) = metadata.tables
    model.fit({table: frame})
    made = model.sample(len(frame))[table]
    spent = time.process_time() - started
    codes = np.stack([column_codes(c, made[c.name]) for c in columns], axis=1)
    return score(f"SDV {name}, not private", np.inf, seed, codes, data, spent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("overrides", nargs="+", help="e.g. data=adult data.root=data")
    parser.add_argument("--epsilon", type=float, nargs="+", default=[0.5, 1.0, 3.0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--generators", nargs="+", default=["tvae", "ctgan", "llm"])
    parser.add_argument("--baselines", type=int, default=0, metavar="EPOCHS")
    parser.add_argument("--out", type=Path, help="append every score as a JSON line")
    arguments = parser.parse_args()
    data = load(arguments.overrides)
    rows: list[Score] = []

    def keep(found: Score) -> None:
        rows.append(found)
        print(f"{HEADER}\n{found}", flush=True)
        if arguments.out:
            with arguments.out.open("a") as file:
                print(json.dumps(found.__dict__), file=file)

    keep(score("real training rows", np.inf, 0, data.union.codes, data, 0.0))
    for name in ("tvae", "ctgan") if arguments.baselines else ():
        keep(baseline(name, data, 0, arguments.baselines))
    for seed in range(arguments.seeds):
        for epsilon in arguments.epsilon:
            for generator in arguments.generators:
                keep(one_run(data, arguments.overrides, generator, epsilon, seed))
    print("\n".join(["", HEADER, *(str(r) for r in rows)]))


if __name__ == "__main__":
    main()
