"""A run's privacy facts for a public registry of deployments, signed by its parties on request.

    python -m scripts.registry RUN_DIR                       draw the entry, RUN_DIR/registry.json
    python -m scripts.registry RUN_DIR --sign SITE.yaml      add a party's signature to it
    python -m scripts.registry RUN_DIR --verify [SITE.yaml]  do the signatures hold? by the pinned
                                                             keys of a site file, where one is given

A party signs what its own book agrees with. The entry has unit, adjacency, epsilon, delta,
mechanisms, accountant and trust model; product and purpose are for the publisher to add beside it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import twinweave
from clients.site import load_site
from scripts.ending import command
from twinweave import rundir
from twinweave.errors import SourceError
from twinweave.report import registry

FILE = "registry.json"


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0, or the error's own code."""
    options = _arguments(argv)
    print(_done(options))
    return 0


def _done(options: argparse.Namespace) -> str:
    """Do it; the line to print."""
    run, file = twinweave.load(options.run), options.run / FILE
    if options.verify is not None:
        pins = load_site(options.verify).pins if options.verify.name else {}
        return f"signed by: {', '.join(registry.verify(_read(file), pins)) or 'nobody'}"
    if options.sign is None:
        rundir.write_json(file, registry.entry(run))
        return str(file)
    site = load_site(options.sign)
    rundir.write_json(file, registry.signed(_read(file), site))
    return f"{file}: signed by {site.party}"


def _read(file: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(file.read_text())
    except (OSError, ValueError):
        raise SourceError(
            f"{file}: no entry can be read there. Draw it: python -m scripts.registry RUN_DIR."
        ) from None
    return found


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    assert __doc__
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, metavar="RUN_DIR")
    one = parser.add_mutually_exclusive_group()
    one.add_argument("--sign", type=Path, metavar="SITE.yaml")
    one.add_argument("--verify", type=Path, nargs="?", const=Path(), metavar="SITE.yaml")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
