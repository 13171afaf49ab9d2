"""SDV loads the metadata that we write."""

from __future__ import annotations

import json

import numpy as np
import pytest

from twinweave.tables.encoding import decode
from twinweave.tables.schema import Schema
from twinweave.tables.sdv_metadata import to_sdv_metadata


@pytest.mark.filterwarnings("ignore:The datetime format")  # dates arrive as dates, not as text
def test_sdv_accepts_the_metadata_of_a_decoded_table(schema: Schema) -> None:
    metadata = pytest.importorskip("sdv.metadata")
    columns = schema.data_columns
    rng = np.random.default_rng(1)
    codes = np.stack([rng.integers(0, c.size, 30) for c in columns], axis=1)
    frame = decode(columns, codes, rng)
    frame.insert(0, "user", [f"synthetic{i}" for i in range(30)])
    written = json.loads(json.dumps(to_sdv_metadata(columns, "user")))
    loaded = metadata.Metadata.load_from_dict(written)
    loaded.validate()
    loaded.validate_data({"table": frame})
    assert loaded.to_dict()["tables"]["table"]["primary_key"] == "user"
