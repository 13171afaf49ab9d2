"""identity, fetch, and how a Flower run's end is told from its status file."""

from __future__ import annotations

import gzip
import socket
import ssl
from pathlib import Path

import pytest

from scripts import certificates, fetch, identity, supernode
from scripts.engines import flower
from scripts.engines.told import without_tracebacks
from twinweave import rundir
from twinweave.errors import ConfigError, RunError, SourceError
from twinweave.protocols.channel.identity import Identity


def test_an_identity_is_created_once_and_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "keys" / "identity.pem"
    assert identity.main(["create", str(path)]) == 0
    created = capsys.readouterr().out.strip()
    assert created == Identity.load(path).public_hex
    assert path.stat().st_mode & 0o077 == 0
    assert identity.main(["show", str(path)]) == 0
    assert capsys.readouterr().out.strip() == created
    assert identity.main(["create", str(path)]) != 0  # a lost identity has to be pinned anew
    assert Identity.load(path).public_hex == created


def test_certificates_that_a_client_accepts_and_that_can_be_renewed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "tls"
    assert certificates.main([str(folder), "--host", "link.example", "--host", "10.0.0.7"]) == 0
    assert capsys.readouterr().out.split() == [
        str(folder / name) for name in ("ca.pem", "server.pem", "server.key")
    ]
    for key in ("ca.key", "server.key"):
        assert (folder / key).stat().st_mode & 0o077 == 0
    assert spoken_to(folder, "link.example") == spoken_to(folder, "10.0.0.7") == "heard"
    assert spoken_to(folder, "localhost") == "heard"  # what the SuperLink calls itself
    assert "certificate verify failed" in spoken_to(folder, "other.example")
    # Renewed under another name: parties keep the authority that they have.
    kept = (folder / "ca.pem").read_bytes()
    assert certificates.main([str(folder), "--host", "other.example"]) == 0
    assert (folder / "ca.pem").read_bytes() == kept
    assert spoken_to(folder, "other.example") == "heard"
    (folder / "ca.key").unlink()
    assert certificates.main([str(folder), "--host", "link.example"]) == SourceError.exit_code
    assert certificates.main([str(folder), "--host", "https://x:1"]) == ConfigError.exit_code


def spoken_to(folder: Path, host: str) -> str:
    """A TLS handshake with a server of these files, in memory: "heard", or why not."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "server.pem", folder / "server.key")
    client = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    there = server.wrap_bio(to_server, to_client, server_side=True)
    here = client.wrap_bio(to_client, to_server, server_hostname=host)
    for _ in range(4):
        for side in (here, there):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError as error:
                return str(error)
    return "heard"


def test_a_second_node_on_a_machine_needs_a_port_of_its_own() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"{port} is not free.*--port of its own"):
            supernode.check_port(["--superlink", "x:9092", "--port", str(port)])
    supernode.check_port([f"--port={port}"])


def test_fetch_knows_whole_short_damaged_and_missing_files(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv.gz"
    assert fetch.state(path, 3) == "missing"
    path.write_bytes(gzip.compress(b"a,b\r\n1,2\r\n3,4\r\n\r\n"))
    assert fetch.state(path, 3) == "whole"
    assert fetch.state(path, 4) == "3 lines where 4 are published"
    path.write_bytes(path.read_bytes()[:-10])
    assert fetch.state(path, 3) == "damaged, or not gzip"
    assert fetch.main(["--root", str(tmp_path), "adult"]) == 1


def status(folder: Path, **state: int | str) -> Path:
    rundir.write_json(folder / rundir.STATUS, state)
    return folder


def test_a_finished_run_is_told_from_one_that_failed(tmp_path: Path) -> None:
    flower._check(status(tmp_path, state="finished"), None, [])
    with pytest.raises(RunError, match="one clear line") as failed:
        flower._check(
            status(tmp_path, state="failed", error="one clear line", exit_code=15), None, []
        )
    assert failed.value.exit_code == 15
    with pytest.raises(RunError, match="without finishing"):
        flower._check(status(tmp_path, state="running"), None, [])
    with pytest.raises(RunError, match="did not start"):
        flower._check(tmp_path / "nowhere", None, [])


TOLD = """run c93b74fd on campaign
ERROR :     Simulation raised an exception
Traceback (most recent call last):
  File "app.py", line 337, in main
    raise error
{error}: a line of its own
ERROR :     Exit Code: 700

An unhandled exception occurred when running the simulation.

For more information, visit: <https://flower.ai/docs>
afterwards
"""


def test_a_users_error_is_one_line_and_a_mistake_keeps_its_traceback() -> None:
    ours = TOLD.format(error="twinweave.errors.ColumnError").splitlines(keepends=True)
    assert list(without_tracebacks(ours)) == ["run c93b74fd on campaign\n", "afterwards\n"]
    mistake = TOLD.format(error="KeyError").splitlines(keepends=True)
    assert list(without_tracebacks(mistake)) == mistake
    assert list(without_tracebacks(ours[:3])) == ours[:3]


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        ('{"runs": [{"status": "finished:completed"}]}', None),
        ('{"runs": [{"status": "finished:failed"}]}', "finished:failed"),
        ("no connection", "unknown"),
        ('{"success": false}', "unknown"),
    ],
)
def test_a_run_elsewhere_is_asked_of_flower(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: str, said: str | None
) -> None:
    monkeypatch.setattr(flower, "_flwr", lambda *_: listed)
    if said is None:
        flower._check(tmp_path / "elsewhere", "7", ["federation"])
        return
    with pytest.raises(RunError, match=said):
        flower._check(tmp_path / "elsewhere", "7", ["federation"])
