"""Before a run: what its budget buys, and which lift it could find. Spends nothing.

    python -m scripts.plan [overrides] [plan.NAME=VALUE ...] [--json]

Overrides are those of `scripts.run`. Row counts alone are taken from the tables, and none where
they are stated: plan.rows.publisher=64000. What is assumed is printed, and can be stated too:
plan.arms.test=.3, plan.rates.visit=.1 (or [.05,.1]), "plan.values.spend={mean: 1, sd: 15}",
plan.matched=.6; plan.lifts.visit=.01 asks what would find that lift. --json prints the plan for
machines, plan.json=FILE writes it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts.ending import command
from twinweave.config import RunConf, compose
from twinweave.errors import ConfigError, OutputError
from twinweave.foresight.assumptions import PlanConf
from twinweave.foresight.foresight import Foresight, foresight
from twinweave.parsing import parse, to_plain
from twinweave.report.terminal.foresight import foresight_text

PREFIX = "plan."


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0, or the error's own code."""
    options = _arguments(argv)
    overrides, asked, file = asked_for(options.overrides)
    found = foresight(RunConf.parse(compose(["output=plan", *overrides])), asked)
    if file is not None:
        _write(found, file)
    print(_json(found) if options.json else foresight_text(found))
    return 0


def asked_for(words: Sequence[str]) -> tuple[list[str], PlanConf, Path | None]:
    """A command line as overrides of a run, assumptions, and the file to write."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    own = [word for word in words if word.startswith(PREFIX)]
    try:
        stated: Any = OmegaConf.to_container(OmegaConf.from_dotlist(own))
    except (OmegaConfBaseException, ValueError):
        raise ConfigError("plan", "is not NAME=VALUE", "Write plan.rates.visit=.1, say.") from None
    plan = stated.get("plan", {})
    if not isinstance(plan, dict):
        raise ConfigError("plan", "is not NAME=VALUE", "Write plan.rates.visit=.1, say.")
    file = plan.pop("json", None)
    rest = [word for word in words if not word.startswith(PREFIX)]
    return rest, parse(PlanConf, plan, where="plan"), None if file is None else Path(str(file))


def _json(found: Foresight) -> str:
    return json.dumps(to_plain(found), indent=1)


def _write(found: Foresight, file: Path) -> None:
    try:
        file.write_text(_json(found) + "\n")
    except OSError:
        raise OutputError(
            f"plan.json: {str(file)!r} cannot be written. Name a file in a folder that there is."
        ) from None


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    assert __doc__
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("overrides", nargs="*", metavar="NAME=VALUE")
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
