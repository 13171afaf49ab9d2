"""SDV metadata: what we write SDV loads, what SDV writes we draft from."""

from __future__ import annotations

import json

import numpy as np
import pytest

from twinweave.errors import SchemaError
from twinweave.parsing import parse
from twinweave.tables.column import Column
from twinweave.tables.encoding import decode
from twinweave.tables.sdv_metadata import TO_CONFIRM, draft_from_sdv, to_sdv_metadata


@pytest.mark.filterwarnings("ignore:The datetime format")  # dates arrive as dates, not as text
def test_sdv_accepts_the_metadata_of_a_decoded_table(schema):
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


def test_a_draft_of_what_sdv_writes():
    told = {
        "METADATA_SPEC_VERSION": "V1",
        "tables": {
            "people": {
                "primary_key": "id",
                "columns": {
                    "id": {"sdtype": "id"},
                    "age": {"sdtype": "numerical", "computer_representation": "Int64"},
                    "pay": {"sdtype": "numerical"},
                    "born": {"sdtype": "datetime", "datetime_format": "%Y"},
                    "left": {"sdtype": "boolean"},
                    "size": {"sdtype": "ordinal", "range_values": ["S", "M", "L"]},
                    "town": {"sdtype": "categorical"},
                    "mail": {"sdtype": "email", "pii": True},
                },
            }
        },
        "relationships": [],
    }
    draft = {c["name"]: c for c in draft_from_sdv(told)}
    assert list(draft) == ["id", "age", "pay", "born", "left", "size", "town"]
    assert draft["id"]["role"] == "key"
    assert [draft[c]["kind"] for c in ("age", "pay", "born", "left", "size")] == [
        "integer",
        "continuous",
        "datetime",
        "boolean",
        "categorical",
    ]
    assert draft["town"]["levels"] == draft["age"]["bounds"] == TO_CONFIRM
    for name in ("left", "size"):
        parse(Column, draft[name])


def test_metadata_without_a_table_or_key_is_refused():
    for wrong in (
        {},
        {"tables": {}},
        {"columns": {"a": {"sdtype": "id"}}},
        {"tables": {"a": {}, "b": {}}},
    ):
        with pytest.raises(SchemaError, match="SDV metadata"):
            draft_from_sdv(wrong)
    assert draft_from_sdv({"columns": {"a": {"sdtype": "id"}}, "primary_key": ["a"]})
