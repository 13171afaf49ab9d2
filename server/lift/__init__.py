"""The A/B lift report from noisy tables (DESIGN section 12)."""

from server.lift.analysis import analyse
from server.lift.results import (
    ArmResult,
    Breakdown,
    Cell,
    Comparison,
    ConversionLift,
    Finding,
    Interaction,
    LiftReport,
    Relative,
    SampleRatio,
    ValueLift,
    Verdict,
)

__all__ = [
    "ArmResult",
    "Breakdown",
    "Cell",
    "Comparison",
    "ConversionLift",
    "Finding",
    "Interaction",
    "LiftReport",
    "Relative",
    "SampleRatio",
    "ValueLift",
    "Verdict",
    "analyse",
]
