"""Start a party's SuperNode so that it runs this installation's code and no other.

    python -m scripts.supernode /etc/twinweave/site.yaml --superlink HOST:9092 [options]

Options are those of `flower-supernode`; a second node on one machine needs a `--port` of its own.
The site file becomes its node configuration. Flower starts a process for each message by a
command's name; here those names lead to this installation's own ClientApp, and to refusals for
whatever else a run might ask for. The bundle that a run ships stays packed: a server cannot send
code to a party that starts its node so.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
from pathlib import Path
from typing import NoReturn

from clients.site import load_site
from scripts.ending import USAGE, command
from twinweave.environment import prepare
from twinweave.errors import ConfigError

REPOSITORY = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent


@command
def main() -> int:
    """Become the SuperNode; an exit status only where that was not possible."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0].startswith("-"):
        print(__doc__)
        return 0 if arguments[:1] in (["-h"], ["--help"]) else USAGE
    return become_node(Path(arguments[0]).resolve(), arguments[1:])


def become_node(site: Path, options: list[str]) -> NoReturn:
    """Replace this process by Flower's SuperNode. Raises ConfigError for a bad site file."""
    folder = Path(load_site(site).work).resolve() / "commands"
    check_port(options)
    write_commands(folder)
    prepare()
    path = os.pathsep.join([str(folder), os.environ.get("PATH", "")])
    command = [str(BIN / "flower-supernode"), *options, "--node-config", f'site="{site}"']
    os.execve(command[0], command, {**os.environ, "PATH": path})


def check_port(options: list[str]) -> None:
    """Raise ConfigError where the node's own port is taken: by another node, mostly."""
    from flwr.supercore.constant import SUPERNODE_UVICORN_DEFAULT_PORT

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--port", type=int, default=SUPERNODE_UVICORN_DEFAULT_PORT)
    port = parser.parse_known_args(options)[0].port
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            raise ConfigError(
                "--port",
                f"{port} is not free on this machine",
                "Give each SuperNode on one machine a --port of its own, 9095 say.",
            ) from None


def write_commands(folder: Path) -> None:
    """Every command that a SuperNode may start, in a folder to be found first.

    `flower-superexec` is Flower's own, `flwr-clientapp` this installation's; the rest refuse.
    """
    from flwr.supercore.constant import TASK_TYPE_TO_COMMAND, TaskType

    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    own = f"import sys\nsys.path.insert(0, {str(REPOSITORY)!r})\n"
    own += "from clients.node import main\nmain()\n"
    refusal = 'raise SystemExit("error: this party runs ClientApps of its own release alone.")\n'
    commands = dict.fromkeys(TASK_TYPE_TO_COMMAND.values(), refusal)
    commands[TASK_TYPE_TO_COMMAND[TaskType.CLIENT_APP]] = own
    commands["flower-superexec"] = "from flwr.supercore.cli import flower_superexec\n"
    commands["flower-superexec"] += "flower_superexec()\n"
    for name, body in commands.items():
        path = folder / name
        path.write_text(f"#!{sys.executable}\n{body}")
        path.chmod(0o700)


if __name__ == "__main__":
    sys.exit(main())
