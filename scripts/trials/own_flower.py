"""A Flower of one's own for a trial: its home and ports, and nothing of it left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from twinweave.environment import QUIET


@contextmanager
def own_flower(home: Path) -> Iterator[dict[str, str]]:
    """The environment of commands that use it; the SuperLink they started is stopped at the end."""
    port, control = free_ports(2)
    try:
        yield {
            **os.environ,
            **QUIET,
            "FLWR_HOME": str(home),
            "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": str(port),
            "FLWR_LOCAL_CONTROL_API_PORT": str(control),
        }
    finally:
        listed = subprocess.run(["ps", "-eww", "-o", "pid,args"], capture_output=True, text=True)
        for line in listed.stdout.splitlines():
            pid, _, command = line.strip().partition(" ")
            if "flower-superlink" in command and f"--port {port} " in f"{command} ":
                os.killpg(int(pid), signal.SIGTERM)  # started as a session of its own


def free_ports(wanted: int) -> list[int]:
    """Ports that nothing on this machine listens on, all different."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(wanted)]
    try:
        return [int(each.getsockname()[1]) for each in held]
    finally:
        for each in held:
            each.close()
