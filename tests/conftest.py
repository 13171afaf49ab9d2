"""What every test needs before Flower is imported."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests import postgres
from twinweave.environment import prepare

prepare()
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# A machine that is busy with other tests is no fault of an example.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of a PostgreSQL database, password included."""
    if why := postgres.missing():
        pytest.skip(why)
    with postgres.running() as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same, in the environment variable SHOP_URL."""
    monkeypatch.setenv("SHOP_URL", postgres_server)
    return postgres_server
