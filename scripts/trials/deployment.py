"""A deployment in small: SuperLink, two SuperNodes and a run, on this machine, then all stopped.

    python -m scripts.trials.deployment [--insecure] [--folder DIR] [overrides]

TLS and SuperNode authentication are on unless --insecure; keys and certificates are made for
the occasion. Each party gets its own site file, identity, guard and Flower home, and the run's
configuration holds no source, as in docs/deployment.md, which this follows step by step.

--hostile: the run ships a bundle whose ClientApp would write a file at every party; the trial
fails if one does.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from scripts.certificates import write_certificates
from scripts.ending import command
from scripts.engines.flower import REPOSITORY, run_with_flower
from scripts.trials.own_flower import free_ports
from server.simulation import write_sites
from twinweave.config import FederationConf, RunConf, compose
from twinweave.environment import prepare
from twinweave.errors import RunError
from twinweave.folder import make

BIN = Path(sys.executable).parent
HOST, CONNECTION = "127.0.0.1", "trial"


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the trial; returns the exit status of the run."""
    assert __doc__
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--insecure", action="store_true", help="neither TLS nor authentication")
    parser.add_argument("--hostile", action="store_true", help="ship code of another release")
    parser.add_argument("--folder", type=Path, default=Path("outputs/trial"))
    parser.add_argument("overrides", nargs="*", help="as for scripts.run, e.g. privacy.epsilon=2")
    options = parser.parse_args(argv)
    folder = options.folder.resolve()
    conf = RunConf.parse(compose([f"output={folder / 'run'}", *options.overrides]))
    conf = replace(conf, output=str(make(Path(conf.output), another=True)))
    trial(conf, folder, secure=not options.insecure, hostile=options.hostile)
    return 0


def trial(conf: RunConf, folder: Path, *, secure: bool, hostile: bool = False) -> None:
    """Deploy `conf` on loopback and run it. Raises the run's AppError, or RunError."""
    folder.mkdir(parents=True, exist_ok=True)
    prepare()
    os.environ["FLWR_HOME"] = str(folder / "superlink")
    sites = sorted(write_sites(conf, folder / "parties", simulated=False).glob("*.yaml"))
    (port,) = free_ports(1)
    tls = write_certificates(folder / "tls", [HOST]) if secure else None
    _write_connection(folder / "superlink", port, tls)
    parties = tuple(replace(party, source=None) for party in conf.data.parties)
    conf = replace(
        conf,
        data=replace(conf.data, parties=parties),
        privacy=replace(conf.privacy, demo=False),  # checked before the sources were taken out
        federation=FederationConf(mode="deployment"),
        superlink=CONNECTION,
    )
    link = [BIN / "flower-superlink", "--host", HOST, "--port", port]
    link += _link_options(tls)
    with _process("superlink", link, folder, folder / "superlink"):
        _wait(port, folder / "superlink.log")
        with _supernodes(sites, folder, port, tls):
            if hostile:
                _run_hostile(conf, folder)
            else:
                run_with_flower(conf, CONNECTION)


def _run_hostile(conf: RunConf, folder: Path) -> None:
    """The run from a copy of the application whose ClientApp leaves a mark where it is executed.

    Raises RunError if it was.
    """
    copy, mark = folder / "hostile", folder / "executed"
    shutil.copytree(REPOSITORY, copy, ignore=shutil.ignore_patterns(".*", "outputs"))
    app = copy / "clients" / "app.py"
    future = "from __future__ import annotations\n"
    app.write_text(app.read_text().replace(future, f"{future}open({str(mark)!r}, 'w').close()\n"))
    run_with_flower(conf, CONNECTION, application=copy)
    if mark.exists():
        raise RunError("a party executed the code that came with the run.")
    print("no party executed the shipped code")


@contextmanager
def _supernodes(
    sites: list[Path], folder: Path, port: int, tls: dict[str, Path] | None
) -> Iterator[None]:
    """One SuperNode a site, one inside the other, so that each is stopped whatever happens."""
    if not sites:
        yield
        return
    name = sites[0].stem
    node: list[object] = [sys.executable, "-m", "scripts.supernode", sites[0]]
    node += ["--superlink", f"{HOST}:{port}", "--port", *free_ports(1)]
    if tls is None:
        node += ["--insecure"]
    else:
        private, public = _ssh_key(folder / "tls" / name)
        _call([BIN / "flwr", "supernode", "register", public, CONNECTION])
        node += ["--root-certificates", tls["ca"], "--auth-supernode-private-key", private]
    with (
        _process(name, node, folder, folder / "homes" / name),
        _supernodes(sites[1:], folder, port, tls),
    ):
        yield


def _ssh_key(path: Path) -> tuple[Path, Path]:
    """What `ssh-keygen -t ecdsa -b 384` makes, as SuperNode authentication takes it."""
    key = ec.generate_private_key(ec.SECP384R1())
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    public = path.with_suffix(".pub")
    public.write_bytes(key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH))
    return path, public


def _link_options(tls: dict[str, Path] | None) -> list[object]:
    if tls is None:
        return ["--insecure"]
    return [
        "--ssl-ca-certfile",
        tls["ca"],
        "--ssl-certfile",
        tls["certificate"],
        "--ssl-keyfile",
        tls["key"],
        "--enable-supernode-auth",
    ]


def _write_connection(home: Path, port: int, tls: dict[str, Path] | None) -> None:
    home.mkdir(parents=True, exist_ok=True)
    trust = "insecure = true" if tls is None else f'root-certificates = "{tls["ca"]}"'
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "{CONNECTION}"\n\n'
        f'[superlink.{CONNECTION}]\naddress = "{HOST}:{port}"\n{trust}\n'
    )


@contextmanager
def _process(name: str, command: list[object], folder: Path, home: Path) -> Iterator[None]:
    """A background process with its own Flower home and log; ended, then killed, on the way out."""
    path = os.pathsep.join([str(BIN), os.environ.get("PATH", "")])
    with (folder / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "FLWR_HOME": str(home), "PATH": path},
        )
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _call(command: list[object]) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        raise RunError(f"Flower refused to register a SuperNode: {done.stdout} {done.stderr}")


def _wait(port: int, log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) == 0:
                return
        time.sleep(0.2)
    raise RunError(f"the SuperLink did not start. {log} says why.")


if __name__ == "__main__":
    sys.exit(main())
