"""A party that starts its node by scripts.supernode runs its own code, whatever a run ships."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zipfile import BadZipFile

import pytest
from flwr.supercore.constant import TASK_TYPE_TO_COMMAND
from flwr.supernode.runtime import run_clientapp

from clients.app import app
from clients.node import RELEASE, use_own_code
from scripts.supernode import write_commands
from twinweave.errors import ConfigError


@pytest.mark.attack("code")
@pytest.mark.broken("code")
def test_the_bundle_stays_packed_and_the_own_app_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("install_from_fab", "get_project_dir", "get_load_client_app_fn"):
        monkeypatch.setattr(run_clientapp, name, getattr(run_clientapp, name))
    runtime: Any = run_clientapp
    with pytest.raises(BadZipFile):  # Flower itself would unpack whatever comes
        runtime.install_from_fab(b"not even a bundle", skip_prompt=True)
    use_own_code(run_clientapp)
    assert runtime.install_from_fab(b"not even a bundle", skip_prompt=True) is None
    assert runtime.get_project_dir("publisher", "1", "hash") == RELEASE
    load = runtime.get_load_client_app_fn(default_app_ref="", app_path=None, multi_app=True)
    assert load("another/app", "9.9", "0" * 64) is app


@pytest.mark.attack("code")
def test_another_flower_is_refused_rather_than_half_replaced() -> None:
    renamed: Any = SimpleNamespace(install_from_fab=None, get_project_dir=None)
    with pytest.raises(ConfigError, match="get_load_client_app_fn"):
        use_own_code(renamed)
    assert renamed.install_from_fab is None


@pytest.mark.attack("code")
def test_every_command_that_a_node_may_start_leads_here(tmp_path: Path) -> None:
    """A run may call itself an agent's, a model's or a simulation: those have commands too."""
    write_commands(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {*TASK_TYPE_TO_COMMAND.values(), "flower-superexec"}
    assert "clients.node" in (tmp_path / "flwr-clientapp").read_text()
    for name in names - {"flwr-clientapp", "flower-superexec"}:
        done = subprocess.run([tmp_path / name, "--token", "x"], capture_output=True, text=True)
        assert done.returncode == 1
        assert "its own release alone" in done.stderr
    assert all(os.access(path, os.X_OK) for path in tmp_path.iterdir())
