"""The summary on clusters of users: how alike they are, and what that does to intervals."""

from __future__ import annotations

from twinweave.analysis.lift.results import Clustering, DesignEffect
from twinweave.report.terminal.text import paragraph, rule


def clusters_section(found: Clustering) -> list[str]:
    """Lines of at most WIDTH characters."""
    says = _declared(found) if found.size is None else _measured(found)
    return ["", rule(), *paragraph(says, " ")]


def _measured(found: Clustering) -> str:
    assert found.size is not None
    size = found.size
    effects = "; ".join(_effect(one) for one in found.effects)
    return (
        f"Clusters: users of one {found.column} are alike, so intervals, p and the smallest lift "
        f"found reckon with a design effect: how many times the variance of independent users. "
        f"{effects}. None is above the mean size of a user's own {found.column} within its arm: "
        f"{size.value:.2f} ± {size.standard_error:.2f}, and {size.used:.2f} with its error."
    )


def _effect(one: DesignEffect) -> str:
    if one.estimate is None or one.standard_error is None:
        return f"{one.outcome} {one.used:.2f} (the bound: no table tells more)"
    told = f"{one.estimate:.2f} ± {one.standard_error:.2f}"
    if one.basis == "bound":
        return f"{one.outcome} {one.used:.2f} (the bound: the noise leaves {told} open)"
    return f"{one.outcome} {one.used:.2f} (measured {told}; its error counts too)"


def _declared(found: Clustering) -> str:
    return (
        f"Design effect: declared as {found.effects[0].used:g} in `lift.design_effect`, and "
        "believed: every variance is so many times that of independent users. The arms' sizes are "
        "not held against `lift.ratio`: how far they vary depends on how large clusters are."
    )
