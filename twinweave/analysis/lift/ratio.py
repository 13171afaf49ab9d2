"""Do the arms' sizes agree with the ratio that was declared? Noise included."""

from __future__ import annotations

import numpy as np
from scipy.stats import chi2

from twinweave.analysis.lift.estimate import Counts
from twinweave.analysis.lift.match import SUSPICIOUS
from twinweave.analysis.lift.results import SampleRatio
from twinweave.workload.analyses import CONTROL


def sample_ratio(counts: Counts, declared: dict[str, float] | None) -> SampleRatio | None:
    """Chi-square test of the arms' sizes against the expected ratios to the control's.

    None without them, with an arm that noise has emptied, or where a design effect is declared:
    it does not tell how large clusters are, by which sizes vary.
    """
    arms = list(counts.conf.all_arms)
    n, noise = np.array([counts.size(arm) for arm in arms]).T
    if declared is None or np.any(n <= 0) or counts.conf.design_effect is not None:
        return None
    weights = np.array([{**declared, CONTROL: 1.0}[arm] for arm in arms])
    share, total = weights / weights.sum(), n.sum()
    excess = n - share * total
    # Of n with its noise: multinomial sampling, and what the noise in each arm does to all.
    away = np.eye(len(n)) - share[:, None]
    # Clusters that are assigned as wholes move the sizes as if their users were the same.
    sampling = (
        counts.effects.of_sizes.at(1 - SUSPICIOUS)
        * total
        * (np.diag(share) - np.outer(share, share))
    )
    cov = sampling + away @ np.diag(noise) @ away.T
    statistic = float(excess[:-1] @ np.linalg.solve(cov[:-1, :-1], excess[:-1]))
    p = float(chi2.sf(statistic, len(n) - 1))
    return SampleRatio(
        declared=declared,
        observed={arm: float(size / n[-1]) for arm, size in zip(arms[:-1], n[:-1], strict=True)},
        chi2=statistic,
        p_value=p,
        suspicious=p < SUSPICIOUS,
    )
