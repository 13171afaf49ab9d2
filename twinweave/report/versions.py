"""With which releases a run was made: of what its noise, accounting and results depend on."""

from __future__ import annotations

import platform
from importlib import metadata

_PACKAGES = ("twinweave", "flwr", "torch", "opacus", "opendp", "dp-accounting", "numpy", "scipy")


def versions() -> dict[str, str]:
    """{name: release}; a package that is run without being installed is not in it."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
