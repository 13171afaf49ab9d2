"""Fairness costs no privacy: the same events, and nothing to release anything with."""

from __future__ import annotations

import pytest

from tests.source import imports, modules
from twinweave.config import RunConf, compose
from twinweave.parsing import canonical_json
from twinweave.planning import plan

GERMAN = ("data=german_credit", "data.root=x", "output=x", "privacy=public", "privacy.epsilon=1")
WAYS = {"rake": "tvae", "fit": "ctgan", "decode": "llm"}


@pytest.mark.parametrize("way", WAYS)
def test_the_parties_accept_the_same_specification(way: str) -> None:
    """Every event of a ledger follows from it: tables, noise, budget, training."""
    asked = [*GERMAN, f"generator={WAYS[way]}"]
    fair = [*asked, "fairness.constraint=demographic_parity", f"fairness.enforce={way}"]
    without, with_it = (RunConf.parse(compose(c)) for c in (asked, fair))
    assert with_it.enforcement is not None
    assert canonical_json(plan(without, "ab" * 16)) == canonical_json(plan(with_it, "ab" * 16))


def test_another_way_with_the_wrong_generator_is_refused() -> None:
    from twinweave.errors import ConfigError

    fair = [*GERMAN, "fairness.constraint=demographic_parity"]
    for wrong in (
        ["generator=llm", "fairness.enforce=fit"],
        ["fairness.enforce=decode"],
        ["generator=none"],
    ):
        with pytest.raises(ConfigError, match="fairness"):
            RunConf.parse(compose([*fair, *wrong]))


def test_nothing_in_it_reads_a_party_or_releases() -> None:
    """It imports no protocol, no mechanism and no source of tables."""
    banned = ("twinweave.protocols", "twinweave.privacy", "twinweave.tables.sources")
    found = [
        (name, imported)
        for name, path in modules("twinweave")
        if name.startswith("twinweave.synthesis.fairness")
        for imported in imports(name, path)
        if imported.startswith(banned)
    ]
    assert not found
