"""A PostgreSQL server of the tests' own: on a free local port, in a temporary folder, with a
password; gone afterwards."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PASSWORD = "hunter2"


def missing() -> str:
    """Why no server can be started here, or ""."""
    if _programs() is None:
        return "there is no PostgreSQL server here (apt-get install postgresql)"
    if importlib.util.find_spec("psycopg") is None:
        return "there is no driver of PostgreSQL here (pip install 'twinweave[postgres]')"
    return ""


def _programs() -> Path | None:
    """The folder of the newest release's programs, which Debian leaves out of the path."""
    found = [*Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    newest = max(found, key=lambda p: float(p.parts[-3]), default=None)
    plain = shutil.which("initdb")
    return newest.parent if newest else Path(plain).parent if plain else None


@contextmanager
def running() -> Iterator[str]:
    """The URL of an empty database, while its server runs."""
    programs = _programs()
    assert programs is not None
    # The server refuses to run as root; Debian's package makes it a user.
    own: dict[str, Any] = {}
    if os.geteuid() == 0:
        user = pwd.getpwnam("postgres")
        own = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}

    def call(program: str, *arguments: str) -> None:
        told = subprocess.run(
            [programs / program, *arguments], cwd=folder, capture_output=True, text=True, **own
        )
        if told.returncode:
            raise RuntimeError(f"{program}: {told.stdout}{told.stderr}")

    # Not in pytest's folder, which only its own user may enter; a socket's path is short.
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:
        if own:
            os.chown(folder, own["user"], own["group"])
        password = Path(folder) / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        data, log, port = f"{folder}/data", f"{folder}/log", _free_port()
        call(
            *("initdb", "-D", data, "-U", "ann", "--auth=scram-sha-256"),
            *(f"--pwfile={password}", "--encoding=UTF8", "--locale=C", "--no-sync"),
        )
        options = f"-p {port} -c listen_addresses=127.0.0.1 -k {folder} -F"
        call("pg_ctl", "-D", data, "-l", log, "-o", options, "-w", "start")
        try:
            yield f"postgresql+psycopg://ann:{PASSWORD}@127.0.0.1:{port}/postgres"
        finally:
            call("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def execute(url: str, statements: Sequence[str]) -> list[Any]:
    """Run and commit them; the rows of the last one, if it has any."""
    import psycopg

    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        for statement in statements:
            cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []
