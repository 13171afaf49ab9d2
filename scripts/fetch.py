"""The public datasets of conf/data: where to get them, and whether they are there and whole.

    python -m scripts.fetch [--root DIR] [NAME ...]

Nothing is downloaded: get each from its publisher's page, gzip the files named below under
DIR (the `data.root` of a run), and run this again. Exit status 0 once all are whole.
"""

from __future__ import annotations

import argparse
import gzip
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.ending import command
from twinweave.errors import SourceError

_GERMAN = (
    "status,month,credit_history,purpose,credit_amount,savings,employment,"
    "investment_as_income_percentage,personal_status,other_debtors,residence_since,property,age,"
    "installment_plans,housing,number_of_credits,skill_level,people_liable_for,telephone,"
    "foreign_worker,credit"
)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """files: path under the root -> lines that are not blank, header included."""

    name: str
    title: str
    page: str
    licence: str
    files: dict[str, int]
    steps: str


_UCI = "UCI Machine Learning Repository"
DATASETS = (
    Dataset(
        name="hillstrom",
        title="E-mail analytics and data mining challenge, a three-arm experiment",
        page="Kevin Hillstrom, MineThatData, March 2008",
        licence="published freely, without a formal licence",
        files={"hillstrom/hillstrom.csv.gz": 64_001},
        steps="gzip the CSV as it is.",
    ),
    Dataset(
        name="adult",
        title="Adult (census income)",
        page=f"{_UCI}: Adult",
        licence="CC BY 4.0",
        files={"adult/adult.data.gz": 32_561, "adult/adult.test.gz": 16_282},
        steps="gzip adult.data and adult.test as they are.",
    ),
    Dataset(
        name="diabetes130",
        title="Diabetes 130-US hospitals, 1999-2008",
        page=f"{_UCI}: Diabetes 130-US Hospitals for Years 1999-2008",
        licence="CC BY 4.0",
        files={"diabetes130/diabetic_data.csv.gz": 101_767},
        steps="gzip diabetic_data.csv as it is.",
    ),
    Dataset(
        name="german_credit",
        title="Statlog German credit",
        page=f"{_UCI}: Statlog (German Credit Data)",
        licence="CC BY 4.0",
        files={"german_credit/german.csv.gz": 1_001},
        steps=f"turn german.data's spaces into commas, put this header on top:\n    {_GERMAN}",
    ),
    Dataset(
        name="student",
        title="Student performance, mathematics and Portuguese",
        page=f"{_UCI}: Student Performance",
        licence="CC BY 4.0",
        files={"student/student-mat.csv.gz": 396, "student/student-por.csv.gz": 650},
        steps="gzip both CSV files as they are.",
    ),
)


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0 where every file asked for is there and whole, else 1."""
    assert __doc__
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="all of them when none is given")
    parser.add_argument("--root", type=Path, default=Path("data"), help="the `data.root` of a run")
    options = parser.parse_args(argv)
    if unknown := set(options.names) - {d.name for d in DATASETS}:
        parser.error(f"{', '.join(sorted(unknown))}: there are {', '.join(_names())}")
    whole = True
    for dataset in DATASETS:
        if not options.names or dataset.name in options.names:
            whole &= report(dataset, options.root)
    return 0 if whole else SourceError.exit_code


def report(dataset: Dataset, root: Path) -> bool:
    """Print one dataset's state; True where all its files are there and whole."""
    print(f"{dataset.name}: {dataset.title}\n  {dataset.page}; {dataset.licence}")
    states = {file: state(root / file, lines) for file, lines in dataset.files.items()}
    for file, found in states.items():
        print(f"  {root / file}: {found}")
    whole = all(found == "whole" for found in states.values())
    if not whole:
        print(f"  Get it from the page above; {dataset.steps}")
    return whole


def state(path: Path, lines: int) -> str:
    """ "whole", or what is wrong with a gzipped text file of so many lines."""
    if not path.exists():
        return "missing"
    try:
        with gzip.open(path, "rb") as file:
            found = sum(1 for line in file if line.strip())
    except (OSError, EOFError):
        return "damaged, or not gzip"
    return "whole" if found == lines else f"{found:,} lines where {lines:,} are published"


def _names() -> list[str]:
    return [dataset.name for dataset in DATASETS]


if __name__ == "__main__":
    sys.exit(main())
