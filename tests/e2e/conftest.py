"""The plaintext of the default small campaign, which several tests compare runs with."""

from __future__ import annotations

import pytest

from tests.campaigns import configure
from tests.e2e.clear import Clear


@pytest.fixture(scope="session")
def clear(tmp_path_factory: pytest.TempPathFactory) -> Clear:
    return Clear(configure(tmp_path_factory.mktemp("clear")))
