"""What a process's environment must say before Flower and numeric libraries are imported."""

from __future__ import annotations

import os

QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
}
"""Flower installs, reports and looks up nothing at run time."""


def prepare() -> None:
    """Set what whoever started the process has not set."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    # Threads that spin while they wait slow down whoever else plays a party on this machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
