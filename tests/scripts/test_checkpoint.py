"""What is no GGUF file, and where nothing may be written: one line for each."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import checkpoint
from twinweave.errors import ConfigError, OutputError


@pytest.fixture(autouse=True)
def _gguf(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the extra were installed."""
    monkeypatch.setattr(checkpoint, "find_spec", lambda name: name)


@pytest.mark.parametrize("data", [b"", b"no such thing", b"GGUF\x03\x00\x00\x00"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "model.gguf").write_bytes(data)
    with pytest.raises(ConfigError, match="is no GGUF file"):
        checkpoint.convert(tmp_path / "model.gguf", tmp_path / "into")
    assert not (tmp_path / "into").exists()


def test_nothing_is_written_over(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    for into in (file, tmp_path):
        with pytest.raises(OutputError, match="--into"):
            checkpoint.convert(file, into)
