"""identity, fetch, and how a Flower run's end is told from its status file."""

from __future__ import annotations

import gzip
import io
import os
import socket
import ssl
from pathlib import Path

import pytest

from scripts import certificates, fetch, identity, supernode
from scripts.engines import flower
from scripts.engines.display import Display
from scripts.engines.told import ASIDE, Told, quiet
from twinweave import rundir
from twinweave.config import RunConf, compose
from twinweave.errors import ColumnError, ConfigError, RunError, SourceError
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
    assert fetch.main(["--root", str(tmp_path), "adult"]) == SourceError.exit_code


def status(folder: Path, **state: int | str) -> Path:
    rundir.write_json(folder / rundir.STATUS, state)
    return folder


def test_a_finished_run_is_told_from_one_that_failed(tmp_path: Path) -> None:
    flower._check(status(tmp_path, state="finished"), Told(io.BytesIO()), [])
    with pytest.raises(RunError, match="one clear line") as failed:
        flower._check(
            status(tmp_path, state="failed", error="one clear line", exit_code=15),
            Told(io.BytesIO()),
            [],
        )
    assert failed.value.exit_code == 15
    with pytest.raises(RunError, match="without finishing"):
        flower._check(status(tmp_path, state="running"), Told(io.BytesIO()), [])
    with pytest.raises(RunError, match="did not start"):
        flower._check(tmp_path / "nowhere", Told(io.BytesIO()), [])


FLWR = r"""#!/bin/sh
case $1 in
run) printf 'Successfully started run 77\ntwinweave| \342\225\220 begun\n'; exec sleep 60 ;;
*) echo "$@" "$PYTHONUTF8" > "$TOLD" ;;
esac
"""


def test_ctrl_c_stops_a_run_in_flower_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, shown = tmp_path / "flwr", list[str]()
    program.write_text(FLWR)
    program.chmod(0o700)
    monkeypatch.setenv("TOLD", str(tmp_path / "told"))
    monkeypatch.setattr(flower, "FLWR", program)

    def pressed(_: Display, text: str) -> None:
        shown.append(text)
        if text == "═ begun":
            raise KeyboardInterrupt

    monkeypatch.setattr(Display, "line", pressed)
    conf = RunConf.parse(compose([f"output={tmp_path / 'run'}"]))
    with pytest.raises(KeyboardInterrupt):
        flower.run_with_flower(conf)
    assert shown == ["═ begun", "stopping the run"]
    assert (tmp_path / "told").read_text() == "stop 77 1\n"


TOLD = """\x1b[92mINFO\x1b[0m : Successfully started run 77
twinweave| run c93b74fd on campaign
ERROR :     Simulation raised an exception
Traceback (most recent call last):
  File "app.py", line 337, in main
    raise error
{error}: a line of its own
ERROR :     Exit Code: 700

An unhandled exception occurred when running the simulation.

For more information, visit: <https://flower.ai/docs>
twinweave|   afterwards
"""


def test_our_lines_are_told_from_others_and_the_servers_error_from_its_traceback() -> None:
    file = io.BytesIO()
    told = Told(file)
    text = TOLD.format(error="twinweave.errors.ColumnError").splitlines(keepends=True)
    assert list(told.ours(text)) == ["run c93b74fd on campaign", "  afterwards"]
    assert isinstance(told.error, ColumnError)
    assert str(told.error) == "a line of its own"
    assert told.number == "77"
    assert told.last[0] == "INFO : Successfully started run 77"
    assert b"twinweave|" not in file.getvalue()
    mistake = Told(io.BytesIO())
    assert len(list(mistake.ours(TOLD.format(error="KeyError").splitlines(keepends=True)))) == 2
    assert mistake.error is None


def test_what_libraries_print_lies_beside_the_run_for_its_owner(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with quiet(tmp_path) as terminal:  # no run began: its folder stays empty
        os.write(2, b"chatter of a library\n")
    assert not list(tmp_path.iterdir())
    status(tmp_path, state="running")
    with quiet(tmp_path) as terminal:
        os.write(1, b"chatter of a library\n")
        print("ours", file=terminal)
    os.write(1, b"again\n")
    assert capfd.readouterr().out == "ours\nagain\n"
    assert (tmp_path / ASIDE).read_text() == "chatter of a library\n"
    assert (tmp_path / ASIDE).stat().st_mode & 0o077 == 0


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
    numbered = Told(io.BytesIO())
    assert not list(numbered.ours(["started run 7\n"]))
    if said is None:
        flower._check(tmp_path / "elsewhere", numbered, ["federation"])
        return
    with pytest.raises(RunError, match=said):
        flower._check(tmp_path / "elsewhere", numbered, ["federation"])
