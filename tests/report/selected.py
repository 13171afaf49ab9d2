"""A selection among twenty features for the reports in the tests."""

from __future__ import annotations

from twinweave.workload.association import Association
from twinweave.workload.choice import Choice, Dropped
from twinweave.workload.selection import FeatureScore


def scored(rank: int, column: str, z: float, df: int = 3) -> FeatureScore:
    found = Association(
        target="converted_within_thirty_days",
        information=0.00152 / rank,
        standard_error=0.0003,
        z=z,
        p_value=0.001,
        df=df,
        users=60_000.4,
    )
    return FeatureScore(
        column=column,
        parties=("publisher", "advertiser"),
        associations=(found,),
        z=z,
        p_value=0.002,
        rank=rank,
        ranks=(max(1, rank - 1), rank + 3),
    )


SCORES = (
    scored(1, "a_feature_with_a_very_long_name", 123.4),
    scored(2, "age", 3.0),
    *(scored(i, f"other{i}", 0.1) for i in range(3, 20)),
    scored(20, "rare", 0.0, df=0),
)
CHOICE = Choice(
    pinned=("arm", "converted_within_thirty_days"),
    kept=("a_feature_with_a_very_long_name", "age"),
    by_target={"arm": (), "converted_within_thirty_days": ("age",)},
    pairs=(("age", "arm"),),
    three_way=(("arm", "age", "converted_within_thirty_days"),),
    dropped=(
        *(Dropped(column=f"other{i}", reason="no sign") for i in range(3, 20)),
        Dropped(column="rare", reason="lost in the noise"),
    ),
    cells=1234,
    unmeasured=7,
)
