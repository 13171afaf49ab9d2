"""What a process loads before it has anything to do: a party's starts for every message."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.source import REPOSITORY

HEAVY = ("torch", "sdv", "sklearn", "ray", "dp_accounting", "pandas", "scipy", "opendp", "hydra")


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys, json\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    names = {name.split(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}
    return names & set(HEAVY)


def test_a_client_process_starts_light() -> None:
    """It is started for every message of a deployment."""
    assert loaded_by("import clients.app") == set()


def test_the_library_imports_light() -> None:
    assert loaded_by("import twinweave, twinweave.spec, twinweave.config") == set()


def test_torch_is_seen_where_it_is() -> None:
    """The check above can fail."""
    assert "pandas" in loaded_by("import pandas")


def test_the_engine_leaves_the_root_logger_alone() -> None:
    """Opacus would set it up, and show the debugging of whoever logs."""
    code = "import logging, {0}; print(logging.getLogger().handlers)"
    shown = {
        module: subprocess.check_output(
            [sys.executable, "-c", code.format(module)], cwd=REPOSITORY, text=True
        )
        for module in ("twinweave.generators.engine", "opacus")
    }
    assert shown["twinweave.generators.engine"].strip() == "[]"
    assert "StreamHandler" in shown["opacus"]  # what is kept out
