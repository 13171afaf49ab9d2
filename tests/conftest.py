"""What every test needs before Flower is imported."""

from __future__ import annotations

import os

from twinweave.environment import prepare

prepare()
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
