"""What Hydra refuses of a command line is one line: the field, the rule, the remedy."""

from __future__ import annotations

import pytest

from twinweave.config import compose
from twinweave.errors import ConfigError


@pytest.mark.parametrize(
    ("overrides", "field", "told"),
    [
        (["privcy.epsilon=1"], "privcy.epsilon", "Did you mean privacy.epsilon?"),
        (["generator.learning_rte=1"], "generator.learning_rte", "mean generator.learning_rate?"),
        (["generator=none", "privacy.epsilom=1"], "privacy.epsilom", "mean privacy.epsilon?"),
        (["epsilon=1", "x=2"], "epsilon", "there is no such field"),
        (["learning_rate=1"], "learning_rate", "Did you mean generator.learning_rate?"),
        (["dat=campaign"], "dat", "Did you mean data?"),
        (["~privacy.nothing"], "privacy.nothing", "there is no such field. Every field:"),
        (["audit=null"], "audit", "null is not the name of a choice. Choose of: full, off, quick."),
        (["audit=of"], "audit", "there is no choice 'of'. Choose of: full, off, quick."),
        (["privacy.epsilon=1,2"], "privacy.epsilon", "several values, but this is one run. For a"),
        (["privacy.epsilon=1,"], "privacy.epsilon", "cannot be read as an override"),
        (["word"], "word", "cannot be read as an override. Write FIELD=VALUE"),
        (["data=hillstrom"], "data.root", "Set it on the command line."),
    ],
)
def test_what_is_wrong_and_what_is_meant(overrides: list[str], field: str, told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        compose(overrides)
    assert str(refused.value).startswith(f"configuration {field!r}: ")
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)
