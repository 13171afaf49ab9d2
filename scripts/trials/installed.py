"""Twinweave as others install it: `python -m scripts.trials.installed wheel|newest`.

wheel: builds the wheel, installs it outside the checkout, and opens a run with it there.
newest: a whole run, measurement only, on the newest supported Python that this machine has.
Exit status 0 where all went well, or where there is no newer Python (then a line says so).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
PYTHON = Path(sys.executable)
SMALL = (
    "engine=inprocess",
    "data.parties.0.source.campaign.users=300",
    "workload.pairs=false",
    "workload.three_way=false",
)
# Several gigabytes where no CPU build is at hand; a run without a generator imports none of them.
LEFT_OUT = ("torch", "opacus", "sdv")

OPEN_A_RUN = """
import sys
from pathlib import Path

import twinweave
from twinweave.config import compose, conf_folder

here = Path(sys.prefix).resolve()
assert here in Path(twinweave.__file__).resolve().parents, twinweave.__file__
assert here in conf_folder().parents, conf_folder()
assert compose(["privacy.epsilon=2"])["privacy"]["epsilon"] == 2
run = twinweave.load(sys.argv[1])
assert run.report["lift"]["conversions"] and run.ledger["epsilon"] <= 1
assert len(run.measurements) > 10 and len(run.cells()) > 100 and len(run.synthetic()) > 100
print(f"twinweave {twinweave.__version__} from a wheel: {len(run.measurements)} tables read")
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one trial, `wheel` or `newest`, in a temporary folder; returns the exit status."""
    trials = {"wheel": wheel, "newest": newest}
    names = list(sys.argv[1:] if argv is None else argv)
    if len(names) != 1 or names[0] not in trials:
        print(__doc__, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        trials[names[0]](Path(folder).resolve())
    return 0


def wheel(folder: Path) -> None:
    """A run of the checkout, opened by the wheel in an environment that lacks the checkout."""
    shutil.rmtree(REPOSITORY / "build", ignore_errors=True)  # modules of an earlier build
    _call(PYTHON, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, REPOSITORY)
    (file,) = folder.glob("*.whl")
    _check_content(file)
    _call(PYTHON, "-m", "venv", "--without-pip", folder / "venv")
    own = folder / "venv" / "bin" / "python"
    _call(PYTHON, "-m", "pip", "--python", own, "install", "--quiet", "--no-deps", file)
    # What the library stands on is shared with this environment; its own .pth files are not
    # read from there, so the checkout stays out of sight.
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    (site / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
    _run_small(PYTHON, folder / "run", "generator.rounds=1")
    _call(own, "-I", "-c", OPEN_A_RUN, folder / "run", cwd=folder)


def _check_content(file: Path) -> None:
    """The library and conf/, whole, and none of the apps."""
    packed = {name for name in zipfile.ZipFile(file).namelist() if ".dist-info/" not in name}
    library = {str(p.relative_to(REPOSITORY)) for p in REPOSITORY.glob("twinweave/**/*.py")}
    conf = {f"twinweave/{p.relative_to(REPOSITORY)}" for p in REPOSITORY.glob("conf/**/*.yaml")}
    wrong = packed ^ (library | conf | {"twinweave/py.typed"})
    if wrong:
        raise SystemExit(f"the wheel has too much or too little: {', '.join(sorted(wrong))}")


def newest(folder: Path) -> None:
    """A whole run on a newer Python, or a line that says there is none."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    newer = next(newer_pythons(project), None)
    if newer is None:
        print("SKIPPED: no supported Python newer than this one was found on this machine")
        return
    needed = [r for r in project["dependencies"] if not r.startswith(LEFT_OUT)]
    print(f"{newer}, without {', '.join(LEFT_OUT)}: measurement only, no generator is trained")
    _call(newer, "-m", "venv", folder / "venv")
    own = folder / "venv" / "bin" / "python"
    pip = (own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    _call(*pip, "-c", REPOSITORY / "constraints.txt", *needed)
    _run_small(own, folder / "run", "generator=none")
    opened = "import sys, twinweave; print(twinweave.load(sys.argv[1]).ledger['epsilon'])"
    _call(own, "-c", opened, folder / "run")


def newer_pythons(project: dict[str, Any]) -> Iterator[str]:
    """Interpreters newer than this one that the project's classifiers name, newest first."""
    named = re.findall(r"Python :: 3\.(\d+)", "\n".join(project["classifiers"]))
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    uv = PYTHON.with_name("uv")
    for minor in sorted(map(int, named), reverse=True):
        if minor <= sys.version_info.minor:
            return
        version = f"3.{minor}"
        found = [f"python{version}", *map(str, pyenv.glob(f"{version}.*/bin/python"))]
        if uv.exists():
            found.append(_output(str(uv), "python", "find", version))
        for python in found:
            if _output(python, "-c", "import sys; print(sys.version_info.minor)") == str(minor):
                yield python


def _output(*command: str) -> str:
    """What a command prints, or nothing where it does not run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _run_small(python: Path, out: Path, *overrides: str) -> None:
    _call(python, "-m", "scripts.run", f"output={out}", *SMALL, *overrides, quiet=True)


def _call(*command: object, cwd: Path = REPOSITORY, quiet: bool = False) -> None:
    subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        check=True,
        timeout=600,
        stdout=subprocess.DEVNULL if quiet else None,
    )


if __name__ == "__main__":
    sys.exit(main())
