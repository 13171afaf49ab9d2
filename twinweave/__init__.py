"""Twinweave: the value of a joint table nobody ever holds.

`twinweave.load("outputs/...")` opens a finished run: its report, ledger, measurements and
synthetic tables; `.sample(n)` draws more rows from it.
"""

from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    if name == "load":  # lazily: a party's process imports twinweave for every message
        from twinweave.rundir import load

        return load
    raise AttributeError(f"module 'twinweave' has no attribute {name!r}")
