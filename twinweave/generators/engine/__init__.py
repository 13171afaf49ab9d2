"""The engine of DP-SGD: Opacus's `PrivacyEngine`, with our randomness, batches and ledger.

Loads torch and Opacus: imported where rows are trained on, and nowhere else.
"""

from twinweave.generators.engine.privacy_engine import PrivacyEngine

__all__ = ["PrivacyEngine"]
