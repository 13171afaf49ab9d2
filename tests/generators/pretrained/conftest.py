"""A checkpoint of every kind, written once; tests that change one copy it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.generators.pretrained.tiny import ARCHITECTURES, write_checkpoint


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("checkpoints")
    return {kind: write_checkpoint(kind, root / kind) for kind in ARCHITECTURES}
