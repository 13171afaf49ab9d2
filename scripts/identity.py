"""A party's identity: the key its peers pin.

    python -m scripts.identity create FILE    draw a new one, readable by its owner alone
    python -m scripts.identity show FILE      print its public key again

The public key is what the peers write under `pins` in their site files (docs/deployment.md).
Hand it over by a way that the server does not control: who can swap it can read the channel.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from scripts.ending import command
from twinweave.protocols.channel.identity import Identity


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status, the error's own code for an AppError."""
    options = _arguments(argv)
    if options.command == "create":
        options.file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        Identity.generate().save(options.file)
    identity = Identity.load(options.file)
    print(identity.public_hex)
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    assert __doc__
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["create", "show"])
    parser.add_argument("file", type=Path)
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
