"""Start a party's SuperNode so that it runs this installation's code and no other.

    python -m scripts.supernode /etc/twinweave/site.yaml --superlink HOST:9092 [options]

Options are those of `flower-supernode`; the site file becomes its node configuration. Flower
starts a process for each message by a command's name; here those names lead to this
installation's own ClientApp, and to refusals for whatever else a run might ask for. The bundle
that a run ships stays packed: a server cannot send code to a party that starts its node so.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from twinweave.environment import prepare

REPOSITORY = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent


def main(argv: list[str] | None = None) -> int:
    """Run until the SuperNode ends; its exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0].startswith("-"):
        print(__doc__)
        return 0 if arguments[:1] in (["-h"], ["--help"]) else 2
    import subprocess

    prepare()
    site, *options = arguments
    folder = Path(tempfile.mkdtemp(prefix="twinweave-node-"))
    try:
        write_commands(folder)
        path = os.pathsep.join([str(folder), os.environ.get("PATH", "")])
        command = [str(BIN / "flower-supernode"), *options]
        command += ["--node-config", f'site="{Path(site).resolve()}"']
        return subprocess.run(command, env={**os.environ, "PATH": path}, check=False).returncode
    except KeyboardInterrupt:
        return 130
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_commands(folder: Path) -> None:
    """Every command that a SuperNode may start, in a folder to be found first.

    `flower-superexec` is Flower's own, `flwr-clientapp` this installation's; the rest refuse.
    """
    from flwr.supercore.constant import TASK_TYPE_TO_COMMAND, TaskType

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
