"""AIM and MST, the central tools, in an environment of their own: they hold the joined table.

McKenna et al. (2022), "AIM", and (2021), "Winning the NIST contest" (MST), as the package `dpmm`
has them, whose versions of libraries are not ours. It is installed on demand, in a folder of the
user's cache, and never in a test.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scripts.studies.datasets import CODES

TOOLS = ("mst", "aim")
REQUIREMENT = "dpmm==0.1.9"
FOLDER = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "twinweave" / "central"


class UnavailableError(Exception):
    """A central tool cannot be had here; says why."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Made:
    """codes: as many rows as there were. cpu_seconds: of all its processes."""

    codes: CODES = field(repr=False)
    cpu_seconds: float


def environment(folder: Path = FOLDER) -> Path:
    """The interpreter of the tools' own environment, made where it is not there yet.

    Raises UnavailableError.
    """
    python = folder / "bin" / "python"
    ready = folder / f"{REQUIREMENT}.installed"
    if not ready.exists():
        print(f"installing {REQUIREMENT} under {folder}", flush=True)
        _call(sys.executable, "-m", "venv", "--clear", str(folder))
        _call(str(python), "-m", "pip", "install", "--quiet", REQUIREMENT)
        ready.touch()
    return python


def synthesise(
    tool: str, codes: CODES, sizes: Sequence[int], *, epsilon: float, delta: float, seed: int
) -> Made:
    """Rows by a central tool with its own defaults, on codes of public domains. Raises
    UnavailableError.

    codes: (n, columns), each in 0..size-1. Its noise is its own generator's: the seed is not all.
    """
    python = environment()
    before = _children()
    with tempfile.TemporaryDirectory() as name:
        given, found = Path(name) / "given.npz", Path(name) / "found.npy"
        np.savez(given, codes=codes, sizes=np.array(sizes))
        worker = Path(__file__).with_name("central_worker.py")
        files = str(given), str(found)
        _call(str(python), str(worker), tool, *files, str(epsilon), str(delta), str(seed))
        made = np.load(found).astype(np.int32)
    return Made(codes=made, cpu_seconds=_children() - before)


def _call(*command: str) -> None:
    """Run a command. Raises UnavailableError with the last line it said where it fails."""
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, env=clean, check=False)
    if done.returncode:
        said: list[Any] = [*done.stderr.strip().splitlines(), "it said nothing"]
        raise UnavailableError(
            f"{Path(command[0]).name} failed: {said[-2] if said[1:] else said[0]}"
        )


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
