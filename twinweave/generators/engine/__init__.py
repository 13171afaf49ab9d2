"""The engine of DP-SGD: Opacus's `PrivacyEngine`, with our randomness, batches and ledger.

Loads torch and Opacus: imported where rows are trained on, and nowhere else.
"""

import logging


def _import_quietly() -> None:
    """Import Opacus, which sets up the root logger where nobody has: then every library's lines,
    Flower's of debugging among them, would reach the terminal."""
    root, somebody = logging.getLogger(), logging.NullHandler()
    root.addHandler(somebody)
    try:
        import opacus  # noqa: F401
    finally:
        root.removeHandler(somebody)


_import_quietly()

from twinweave.generators.engine.privacy_engine import PrivacyEngine  # noqa: E402

__all__ = ["PrivacyEngine"]
