"""CPU seconds of this process."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def cpu(work: Callable[[], T]) -> tuple[T, float]:
    """What `work` returns, and the CPU seconds it took."""
    started = time.process_time()
    result = work()
    return result, time.process_time() - started


def fewest(work: Callable[[], object], repeat: int) -> float:
    """CPU seconds of the fastest of so many repetitions."""
    return min(cpu(work)[1] for _ in range(repeat))
