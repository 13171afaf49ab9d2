"""A party's own ClientApp process: the code of this installation, whatever bundle a run ships.

A SuperNode starts one process for each message, by the command `flwr-clientapp`, which unpacks
the bundle that came with the run and executes it: whoever runs the SuperLink would choose the
code that runs beside the table. `scripts.supernode` puts this module in that command's place. It
fetches the message as Flower does, never unpacks the bundle, and answers with `clients.app`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from twinweave.errors import ConfigError

RELEASE = Path(__file__).resolve().parents[1]
TRIED_WITH = "1.41"
_REPLACED = ("install_from_fab", "get_project_dir", "get_load_client_app_fn")


def main() -> None:
    """`flwr-clientapp` with this installation's code."""
    from flwr.supernode.cli import flwr_clientapp
    from flwr.supernode.runtime import run_clientapp

    if "--allow-runtime-dependency-installation" in sys.argv:
        raise SystemExit("error: nothing is installed at run time at this party.")
    use_own_code(run_clientapp)
    flwr_clientapp()


def use_own_code(runtime: ModuleType) -> None:
    """Make Flower's task runner load `clients.app` and leave the shipped bundle packed.

    Raises ConfigError where its parts have other names: then nothing is known of what it does.
    """
    if missing := [name for name in _REPLACED if not hasattr(runtime, name)]:
        raise ConfigError(
            "flwr",
            f"this release starts ClientApps without {', '.join(missing)}",
            f"Install a Flower that Twinweave was tried with: {TRIED_WITH}.",
        )
    replaced: Any = runtime
    replaced.install_from_fab = _leave_packed
    replaced.get_project_dir = lambda *_: RELEASE
    replaced.get_load_client_app_fn = _own_app


def _leave_packed(*_: Any, **__: Any) -> None:
    """Nothing of what the server ships is unpacked."""


def _own_app(**_: Any) -> Callable[..., Any]:
    def load(*_: str) -> Any:
        from clients.app import app

        return app

    return load


if __name__ == "__main__":
    main()
