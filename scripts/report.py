"""Draw the page of a run again, or a party's own: no row is read, nothing is spent.

    python -m scripts.report RUN_DIR [--out FILE]
    python -m scripts.report SITE.yaml

Every run writes RUN_DIR/report.html at its end, from the run's own files. FILE: where else it is
to go. SITE.yaml: a party's site file; the page goes into the party's own folder, and is for its
own eyes: what was released about its users, what cleaning changed, its own audit.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import twinweave
from clients.site import load_site
from scripts.ending import command
from twinweave import rundir
from twinweave.durable import named
from twinweave.errors import ConfigError
from twinweave.report.page.material import Material
from twinweave.report.page.own import write_own_page
from twinweave.report.page.page import run_page


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0, or the error's own code."""
    options = _arguments(argv)
    out = _own(options) if options.run.suffix in (".yaml", ".yml") else _run(options)
    print(f"{out} ({out.stat().st_size / 1e3:,.0f} kB)")
    return 0


def _run(options: argparse.Namespace) -> Path:
    out: Path = options.out or options.run / rundir.PAGE
    text = run_page(Material.of(twinweave.load(options.run)))
    with named(out):
        rundir.write_text(out, text)
    return out


def _own(options: argparse.Namespace) -> Path:
    if options.out is not None:
        raise ConfigError("--out", "is of a run's page", "Leave it out: a party's page stays.")
    return write_own_page(load_site(options.run))


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path, metavar="RUN_DIR | SITE.yaml", help="a run's folder")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: RUN_DIR/report.html")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
