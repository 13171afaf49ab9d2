"""What every test needs before Flower is imported."""

from __future__ import annotations

import os

from hypothesis import settings

from twinweave.environment import prepare

prepare()
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# A machine that is busy with other tests is no fault of an example.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")
