"""The A/B lift report from noisy tables."""

from twinweave.analysis.lift.analysis import analyse
from twinweave.analysis.lift.results import (
    ArmResult,
    Breakdown,
    Cell,
    Comparison,
    ConversionLift,
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
    "Interaction",
    "LiftReport",
    "Relative",
    "SampleRatio",
    "ValueLift",
    "Verdict",
    "analyse",
]
