"""What fair labels cost: models trained on synthetic tables with and without a constraint.

    python -m scripts.studies.fairness data=adult data.root=data --sensitive sex

One line a table: accuracy of a model trained on it, and its demographic parity, equalised odds and
equal opportunity differences by fairlearn's definitions, on the held-out real rows; where there are
none, on the parties' own. Measurements are simulated in the clear with a run's own noise, as in
`scripts.studies.synthesis`; synthesis and constraint are a run's own. Beside it, what no thresholds
by group fall short of, of a model trained on the real rows or on the table as measured, with the
judged rows' own labels in hand: the least accuracy that parity costs. --svg draws the means over
the seeds against the strength.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.studies.datasets import CODES, Data, load
from scripts.studies.synthesis import measure
from twinweave.config import RunConf, compose
from twinweave.report.curve import curves_svg
from twinweave.synthesis.synthesise import Task, made_fair, synthetic_rows
from twinweave.tables.contingency import ABSENT
from twinweave.workload.analyses import FairnessConf

MODELS = ("boosting", "logistic", "tree")
Bools = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Line:
    """A model on the judged rows. before: the same model trained on rows without a constraint.

    parity, odds, opportunity: of the first sensitive column named.
    """

    data: str
    seed: int
    what: str
    strength: float
    model: str
    accuracy: float
    loss: float
    parity: float
    odds: float
    opportunity: float
    label_parity: float

    def __str__(self) -> str:
        shown = (self.loss, self.parity, self.odds, self.opportunity, self.label_parity)
        return (
            f"{self.data:<14}{self.seed:>3}  {self.what:<22}{self.strength:>5g}  {self.model:<9}"
            f"{self.accuracy:8.4f}" + "".join(f"{v:9.4f}" for v in shown)
        )


HEADER = f"{'':<14}{'':>3}  {'':<22}{'':>5}  {'':<9}" + "".join(
    f"{name:>9}" for name in ("accuracy", "loss", "parity", "odds", "opport.", "labels")
)


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Rows that models are judged on, and whom of them a pair of columns speaks."""

    data: Data
    pair: FairnessConf
    judged: CODES

    def split(self, codes: CODES) -> tuple[CODES, Bools, NDArray[np.int32]]:
        """Features, label and first sensitive column of the rows that have every column."""
        names, whole = self.data.layout.names, codes[(codes != ABSENT).all(axis=1)]
        label = names.index(self.pair.label)
        positive = self.data.schema.column(self.pair.label).labels.index(self.pair.positive)
        group = whole[:, names.index(self.pair.sensitive[0])]
        return np.delete(whole, label, axis=1), whole[:, label] == positive, group

    def scores(self, model: str, codes: CODES) -> NDArray[np.float64]:
        """Chance of a positive label that a model trained on these rows gives the judged ones."""
        from sklearn.ensemble import HistGradientBoostingClassifier
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import OneHotEncoder
        from sklearn.tree import DecisionTreeClassifier

        x, y, _ = self.split(codes)
        asked, _, _ = self.split(self.judged)
        learners: dict[str, Any] = {
            "boosting": HistGradientBoostingClassifier(random_state=0),
            "logistic": make_pipeline(
                OneHotEncoder(handle_unknown="ignore"), LogisticRegression(max_iter=300)
            ),
            "tree": DecisionTreeClassifier(random_state=0),
        }
        return np.asarray(learners[model].fit(x, y).predict_proba(asked)[:, 1])

    def differences(self, decided: Bools) -> tuple[float, float, float, float]:
        """Accuracy, parity, odds and opportunity differences of decisions about the judged rows."""
        from fairlearn.metrics import (
            demographic_parity_difference,
            equal_opportunity_difference,
            equalized_odds_difference,
        )

        _, actual, group = self.split(self.judged)
        found = [
            of(actual, decided, sensitive_features=group)
            for of in (
                demographic_parity_difference,
                equalized_odds_difference,
                equal_opportunity_difference,
            )
        ]
        return float((decided == actual).mean()), *map(float, found)  # type: ignore[return-value]

    def label_parity(self, codes: CODES) -> float:
        _, positive, group = self.split(codes)
        return float(np.ptp([positive[group == g].mean() for g in np.unique(group)]))

    def least_loss(self, scores: NDArray[np.float64], gap: float) -> float:
        """Accuracy below that of threshold 1/2, of the best thresholds by group whose positive
        rates differ by `gap` at most: no rule on these scores that is as even is better."""
        _, actual, group = self.split(self.judged)
        shares, right = np.linspace(0, 1, 401), []
        for g in np.unique(group):
            order = actual[group == g][np.argsort(-scores[group == g], kind="stable")]
            hits = np.concatenate([[0], np.cumsum(order)])
            taken = np.rint(shares * len(order)).astype(int)
            right.append(hits[taken] + (len(order) - taken) - (hits[-1] - hits[taken]))
        reach = max(int(gap / (shares[1] - shares[0])), 0)
        best = max(
            sum(r[max(i, 0) : i + reach + 1].max() for r in right) for i in range(len(shares))
        )
        return float((((scores > 0.5) == actual).sum() - best) / len(actual))


def tables(
    data: Data, overrides: Sequence[str], seed: int, fair: Sequence[tuple[str, float]]
) -> dict[tuple[str, float], CODES]:
    """Synthetic rows of one set of measurements, by (constraint, strength); ("none", 0) first."""
    base = RunConf.parse(compose([*overrides, f"seed={seed}"]))
    assert base.generator is not None
    task = Task(
        layout=data.layout,
        measurements=measure(data, base, np.random.default_rng(seed)),
        sizes=data.sizes,
        conf=base.synthesis,
        seed=seed,
    )
    measured = synthetic_rows(base.generator, task, weights=None)
    found = {("none", 0.0): measured.rows.codes}
    for constraint, strength in fair:
        named = [f"fairness.constraint={constraint}", f"fairness.strength={strength}"]
        asked = RunConf.parse(compose([*overrides, *named]))
        made = made_fair(measured, replace(task, fairness=asked.enforcement))
        found[constraint, strength] = made.rows.codes
    return found


def study(
    overrides: Sequence[str], sensitive: str | None, wanted: Sequence[tuple[str, float]], seed: int
) -> list[Line]:
    """Lines of one dataset and seed."""
    budget = [
        "privacy=public",
        "privacy.shares.measurement=1",
        "privacy.shares.training=0",
        "generator=tvae",
        "generator.rounds=0",
        "privacy.epsilon=1",
        *([f"fairness.sensitive=[{sensitive}]"] if sensitive else []),
        *overrides,
    ]
    data = load(budget)
    conf = RunConf.parse(compose([*budget, "fairness.constraint=demographic_parity"]))
    pair = conf.audited_fairness
    assert pair is not None
    judge = Judge(
        data=data,
        pair=pair,
        judged=data.union.codes if data.holdout is None else data.holdout,
    )
    made = {
        **({} if data.holdout is None else {("real rows", 0.0): data.union.codes}),
        **{
            ("synthetic" if key[0] == "none" else key[0], key[1]): codes
            for key, codes in tables(data, budget, seed, wanted).items()
        },
    }
    lines: list[Line] = []
    before: dict[str, float] = {}
    for (what, strength), codes in made.items():
        for model in MODELS:
            scores = judge.scores(model, codes)
            accuracy, parity, odds, opportunity = judge.differences(scores > 0.5)
            if not strength and model == "boosting":
                for gap in (0.0, 0.01, 0.03):
                    least = judge.least_loss(scores, gap)
                    print(f"least loss at parity {gap:g}, thresholds of {what}: {least:.4f}")
            before.setdefault(model, accuracy)
            if what == "synthetic":
                before[model] = accuracy
            line = Line(
                data=data.conf.data.name,
                seed=seed,
                what=what,
                strength=strength,
                model=model,
                accuracy=accuracy,
                loss=before[model] - accuracy,
                parity=parity,
                odds=odds,
                opportunity=opportunity,
                label_parity=judge.label_parity(codes),
            )
            print(line, flush=True)
            lines.append(line)
    return lines


def picture(lines: Sequence[Line], constraint: str, model: str) -> str:
    """Means over the seeds against the strength, as SVG."""
    own = [n for n in lines if n.what in ("synthetic", constraint) and n.model == model]
    strengths = sorted({n.strength for n in own})
    mean = {
        name: [
            float(np.mean([getattr(n, name) for n in own if n.strength == s])) for s in strengths
        ]
        for name in ("parity", "odds", "loss", "label_parity")
    }
    named = {"loss": "accuracy lost", "label_parity": "parity of labels"}
    return curves_svg(
        f"{own[0].data}: {constraint.replace('_', ' ')}, {model}",
        "strength",
        strengths,
        {named.get(name, name): values for name, values in mean.items()},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("overrides", nargs="+", help="e.g. data=adult data.root=data")
    parser.add_argument("--sensitive", help="one column; default: all that the data declares")
    parser.add_argument("--parity", type=float, nargs="*", default=[0.25, 0.5, 0.75, 1.0])
    parser.add_argument("--odds", type=float, nargs="*", default=[1.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, help="append every line as JSON")
    parser.add_argument("--svg", type=Path, help="draw the curve of demographic parity")
    arguments = parser.parse_args()
    wanted = [("demographic_parity", s) for s in arguments.parity]
    wanted += [("equalized_odds", s) for s in arguments.odds]
    lines: list[Line] = []
    print(HEADER)
    for seed in arguments.seeds:
        found = study(arguments.overrides, arguments.sensitive, wanted, seed)
        lines += found
        if arguments.out:
            with arguments.out.open("a") as file:
                file.writelines(json.dumps(asdict(line)) + "\n" for line in found)
    if arguments.svg:
        arguments.svg.write_text(picture(lines, "demographic_parity", "boosting"))


if __name__ == "__main__":
    main()
