"""What a pretrained language model brings, and what each part of it does, by whole runs.

    python -m scripts.studies.pretrained checkpoint=smollm2 data=german_credit data.root=data

Each line is a run (alignment, secure tables, format stage, training, decoding, raking, under one
epsilon) in this process, on a GPU where torch sees one: mean 2-way TVD, AUC of models trained on
the synthetic rows, both to held-out rows, or to the parties' own where the dataset holds none out;
CPU and wall seconds. `schema` is generator=llm. The other lines change one thing of `whole`.
`valid` is the chance that a row of the same trained model would be valid if every token could be
chosen, a mean over synthetic rows: what constrained decoding saves. --fraction takes that part of
the users. Further words are overrides of all runs, generator.* of the pretrained ones alone.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from scripts.studies.datasets import CODES, Data, aucs, coded, load, mean_tvd
from scripts.studies.quality import made_everywhere
from twinweave.config import RunConf, compose
from twinweave.generators import registry
from twinweave.generators.union import UnionLayout
from twinweave.rundir import WEIGHTS

PARTS: dict[str, list[str]] = {
    "whole": [],
    "no private steps": ["generator.rounds=0"],
    "no format stage": ["generator.format_steps=0"],
    "format: uniform": ["generator.format_rows=uniform"],
    "loss: values": ["generator.loss=values"],
    "loss: all": ["generator.loss=all"],
    "no raking": ["synthesis.rake.steps=0"],
}
SCHEMA = "schema"
PRIOR = 64
"""Rows that the chance of a valid row is a mean over."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One run. valid: None of the schema backend, whose vocabulary is the schema's."""

    part: str
    epsilon: float
    seed: int
    tvd: float
    boosting: float
    logistic: float
    valid: float | None
    cpu_seconds: float
    seconds: float

    def __str__(self) -> str:
        valid = "     -" if self.valid is None else f"{self.valid:6.3f}"
        scores = "   ".join(f"{x:.4f}" for x in (self.tvd, self.boosting, self.logistic))
        spent = f"{self.cpu_seconds:8.0f}{self.seconds:8.0f}"
        return f"{self.part:<18}{self.epsilon:>5g}{self.seed:>5}   {scores}   {valid}{spent}"


HEADER = (
    f"{'':<18}{'eps':>5}{'seed':>5}   {'TVD':<6}   {'HGB':<6}   {'LR':<6}    valid   CPU s  wall s"
)


def line(part: str, epsilon: float, seed: int, data: Data, asked: Sequence[str]) -> Line:
    """A run as a user starts it, its joint table read back from the run directory."""
    from scripts.engines.inprocess import run_in_process

    fixed = ["audit=off", "privacy=public", f"privacy.epsilon={epsilon}", f"seed={seed}"]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        conf = RunConf.parse(compose([*fixed, "protocol.alignment=prf", *asked, f"output={out}"]))
        cpu, wall = time.process_time(), time.monotonic()
        run_in_process(conf)
        cpu, wall = time.process_time() - cpu, time.monotonic() - wall
        codes, _ = coded(made_everywhere(out, data), data)
        valid = None if part == SCHEMA else chance_of_valid(conf, data.layout, out, codes)
    test = data.union.codes if data.holdout is None else data.holdout
    boosting, logistic = aucs(codes, test, data.layout)
    return Line(
        part=part,
        epsilon=epsilon,
        seed=seed,
        tvd=mean_tvd(codes, test, data.layout.sizes),
        boosting=boosting,
        logistic=logistic,
        valid=valid,
        cpu_seconds=cpu,
        seconds=wall,
    )


def chance_of_valid(conf: RunConf, layout: UnionLayout, out: Path, codes: CODES) -> float:
    """Mean over rows of the share that valid tokens have of all, multiplied along the row.

    The likelihood of a row among all texts over that among valid rows.
    """
    import torch

    network: Any = registry.build(conf.generator, layout)  # type: ignore[arg-type]
    network.weights = np.load(out / WEIGHTS)
    rows = torch.from_numpy(codes[(codes >= 0).all(axis=1)][:PRIOR].astype(np.int64))
    everyone = torch.ones(len(rows), len(layout.parties))
    written = network.pieces.write(rows, everyone, network.template.order)
    tokens = written.mask[:, written.value_slots()].sum(dim=1)
    nats = {}
    for loss, times in (("allowed", rows.shape[1]), ("values", tokens)):
        network.conf = replace(network.conf, loss=loss)
        with torch.no_grad():
            eights = zip(torch.split(rows, 8), torch.split(everyone, 8), strict=True)
            parts = [network.loss(*eight) for eight in eights]
        nats[loss] = torch.cat(parts) * times
    return float((nats["allowed"] - nats["values"]).exp().mean())


def some(overrides: Sequence[str], fraction: float) -> list[str]:
    """The overrides, with a fraction of the users, the same at every party."""
    if fraction == 1:
        return list(overrides)
    parties = RunConf.parse(
        compose(["output=x", "privacy=public", "privacy.epsilon=1", *overrides])
    ).data.parties
    cut = f"present={{fraction: {fraction}, salt: study}}"
    return [*overrides, *(f"++data.parties.{i}.source.{cut}" for i in range(len(parties)))]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="+", metavar="NAME=VALUE")
    parser.add_argument("--epsilon", type=float, nargs="+", default=[1.0, 8.0])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--parts", nargs="+", default=[SCHEMA, *PARTS], choices=[SCHEMA, *PARTS])
    parser.add_argument("--fraction", type=float, default=1.0, help="of the users")
    parser.add_argument("--out", type=Path, help="append every line as JSON")
    options = parser.parse_args()
    folder = next((w.partition("=")[2] for w in options.words if w.startswith("checkpoint=")), "")
    if not folder:
        parser.error("name the model's folder: checkpoint=FOLDER")
    words = [w for w in options.words if not w.startswith("checkpoint=")]
    own = [w for w in words if w.startswith("generator.")]
    pretrained = ["generator=llm_pretrained", f"generator.checkpoint={folder}", *own]
    print(HEADER, flush=True)
    common = some([w for w in words if w not in own], options.fraction)
    data = load(common)
    asked = itertools.product(range(options.seeds), options.epsilon, options.parts)
    for seed, epsilon, part in asked:
        kind = ["generator=llm"] if part == SCHEMA else [*pretrained, *PARTS[part]]
        found = line(part, epsilon, seed, data, [*common, *kind])
        print(found, flush=True)
        if options.out:
            with options.out.open("a") as file:
                print(json.dumps(asdict(found)), file=file)


if __name__ == "__main__":
    main()
