"""What the priority tables' share of the measurement buys the lift, and costs the synthetic rows.

    python -m scripts.studies.priority data=adult data.root=data --share .25 .35 .5 .65

prints, for each share and seed, noise over sampling error of the lift's outcomes (where there is
a lift), the mean 2-way TVD of the synthetic rows, and the AUC of models trained on them: to
held-out rows where the dataset has some, else (TVD alone) to the rows themselves. Of the campaign,
other users of the same kind are held out. The rows are fitted to measurements simulated in the
clear with the planner's noise, as in `scripts.studies.synthesis`.
"""

from __future__ import annotations

import argparse

from scripts.studies.datasets import CODES, Data, aucs, load, mean_tvd
from scripts.studies.noise import joined, noise_ratios
from scripts.studies.synthesis import synthetic
from twinweave.config import RunConf, compose
from twinweave.tables.contingency import ABSENT


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Raw)
    parser.add_argument("overrides", nargs="+", help="e.g. data=adult data.root=data")
    parser.add_argument("--share", type=float, nargs="+", default=[0.25, 0.35, 0.5, 0.65])
    parser.add_argument("--epsilon", type=float, default=1.0)
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    data = load(options.overrides)
    clear = joined(data.conf) if data.conf.data.lift else None
    print(f"{'share':>5}{'seed':>5}   {'TVD':<6}   {'HGB':<6}   {'LR':<6}   noise over sampling")
    for share in options.share:
        budget = ["privacy=public", f"privacy.epsilon={options.epsilon}"]
        budget += [f"privacy.priority_share={share}"]
        conf = RunConf.parse(compose(["output=none", "audit=off", *budget, *options.overrides]))
        ratios = noise_ratios(conf, clear)[0] if clear else {}
        noise = "   ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items())
        for seed in range(options.seeds):
            codes, _ = synthetic(data, conf, seed)
            told = "   ".join(_scores(data, codes, options.overrides))
            print(f"{share:>5g}{seed:>5}   {told}   {noise}", flush=True)


def _scores(data: Data, codes: CODES, overrides: list[str]) -> list[str]:
    """TVD and both AUC of the synthetic rows, written; no AUC where no rows are held out."""
    held = data.holdout
    if held is None and data.conf.data.simulated:
        held = load([*overrides, "data.parties.0.source.campaign.seed=12"]).union.codes
    real = data.union.codes if held is None else held
    tvd = f"{mean_tvd(codes, real, data.layout.sizes):.4f}"
    if held is None:
        return [tvd, " " * 6, " " * 6]
    whole = held[(held != ABSENT).all(axis=1)]
    return [tvd, *(f"{auc:.4f}" for auc in aucs(codes, whole, data.layout))]


_Raw = argparse.RawDescriptionHelpFormatter

if __name__ == "__main__":
    main()
