"""The page of dependencies and their licences, from constraints.txt, pyproject.toml and what the
installed packages say of themselves.

A package that is not installed here in its one release (an extra's, say) keeps the licence that
the page has of it, so that the page is the same wherever it is made.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "reference" / "dependencies.md"
BY_NAME = {
    "Apache": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache 2.0 License": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "MIT License": "MIT",
    "BSD License": "BSD",
    "BSD 3-Clause License": "BSD-3-Clause",
    "3-Clause BSD License": "BSD-3-Clause",
    "The Clear BSD License": "BSD-3-Clause-Clear",
    "ISC License": "ISC",
    "ISC License (ISCL)": "ISC",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
"""What packages write, as SPDX has it; "BSD" alone may be of two clauses or of three."""
EXPRESSION = re.compile(r"[\w.-]+(?: (?:AND|OR|WITH) [\w.-]+)*")
UNKNOWN = "UNKNOWN"
NOT_HERE = "not installed"
FOR = {
    "": "every run",
    "dev": "the tests and the site",
    "docs": "the site",
    "audit": "more attacks of an audit",
    "postgres": "tables in PostgreSQL",
    "duckdb": "tables in DuckDB",
    "sweeps": "sweeps by Optuna, and beside each other",
    "homomorphic": "homomorphic tables and sums",
    "gguf": "checkpoints out of GGUF files",
    "llm": "pretrained language models",
}
TABLE = "| package | release | licence | for |\n|---|---|---|---|\n"


@dataclass(frozen=True, kw_only=True)
class Package:
    """A pinned package. releases: one, or one for each marker."""

    name: str
    releases: tuple[str, ...]

    @property
    def key(self) -> str:
        return key_of(self.name)


def dependencies() -> str:
    """The tables of the page."""
    pinned = pins()
    known = licences_on(PAGE.read_text(encoding="utf-8"))
    licences = {p.key: licence_of(p) or known.get(p.key, NOT_HERE) for p in pinned}
    uses = asked_for()
    direct = [p for p in pinned if p.key in uses]
    brought = [p for p in pinned if p.key not in uses]
    return "".join(
        [
            "\n## What Twinweave asks for\n\n",
            TABLE,
            *(
                _row(p, licences, ", ".join(FOR.get(e, f"the extra `{e}`") for e in uses[p.key]))
                for p in direct
            ),
            "\n## What these bring\n\n",
            TABLE.replace(" for |", "").replace("---|\n", "\n"),
            *(_row(p, licences) for p in brought),
        ]
    )


def _row(package: Package, licences: Mapping[str, str], *more: str) -> str:
    cells = (package.name, ", ".join(package.releases), licences[package.key], *more)
    return f"| {' | '.join(cells)} |\n"


def pins() -> tuple[Package, ...]:
    """Every package of constraints.txt with its releases, in its order."""
    found: dict[str, list[str]] = {}
    for line in (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            name, release = line.split(";")[0].strip().split("==")
            found.setdefault(name, []).append(release)
    ordered = sorted(found.items(), key=lambda item: item[0].lower())
    return tuple(Package(name=name, releases=tuple(releases)) for name, releases in ordered)


def asked_for() -> dict[str, tuple[str, ...]]:
    """{package: the extras that ask for it, "" for every installation}, of pyproject.toml."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = {"": project["dependencies"], **project["optional-dependencies"]}
    found: dict[str, tuple[str, ...]] = {}
    for extra, requirements in groups.items():
        for name in map(_name, requirements):
            found[name] = (*found.get(name, ()), extra)
    return found


def _name(requirement: str) -> str:
    return key_of(re.match(r"[\w.-]+", requirement)[0])  # type: ignore[index]


def key_of(name: str) -> str:
    """A package's name as packages compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def licence_of(package: Package) -> str | None:
    """What an installed package says of its licence, as SPDX where it can be told; None where it
    is not installed, or not in the one release that is pinned."""
    try:
        said = metadata.metadata(package.name)
    except metadata.PackageNotFoundError:
        return None
    if package.releases != (said["Version"].split("+")[0],):
        return None
    if expression := said.get_all("License-Expression"):
        return str(expression[0])
    first = "".join(said.get_all("License") or ()).strip().splitlines()[:1]
    told = [line for line in first if line in BY_NAME or EXPRESSION.fullmatch(line)]
    classified = [
        entry.rsplit(" :: ", 1)[1]
        for entry in said.get_all("Classifier") or ()
        if entry.startswith("License :: ") and entry.count("::") > 1
    ]
    return _together([line for line in told if line != UNKNOWN] or classified or ["see there"])


def _together(names: Iterable[str]) -> str:
    return " or ".join(dict.fromkeys(BY_NAME.get(name, name) for name in names))


def licences_on(page: str) -> dict[str, str]:
    """{package: licence} of the page's tables."""
    rows = re.findall(r"^\| ([\w.-]+) \| [^|]+ \| ([^|]+?) \|", page, re.MULTILINE)
    return {key_of(name): licence for name, licence in rows if name != "package"}
