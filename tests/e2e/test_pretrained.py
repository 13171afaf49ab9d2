"""A pretrained model through a whole run: alignment to synthetic tables, nothing in the open."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

import twinweave
from tests.campaigns import mapping
from tests.e2e.clear import Clear
from tests.e2e.leaks import leaks
from tests.generators.pretrained.tiny import conf as tiny_conf
from tests.generators.pretrained.tiny import write_checkpoint
from tests.whole_run import readable, run, serve, spec_of
from twinweave import rundir
from twinweave.config import RunConf
from twinweave.errors import ColumnError, ConfigError
from twinweave.generators.pretrained.checkpoint import checked
from twinweave.generators.pretrained.template import template
from twinweave.generators.union import UnionLayout
from twinweave.parsing import parse, to_plain
from twinweave.tables.loading import load_cleaned
from twinweave.tables.sources import Source


def configured(folder: Path, kind: str, **over: Any) -> dict[str, Any]:
    checkpoint = write_checkpoint(kind, folder / "model")
    data = mapping(folder / "out", "privacy.epsilon=8", "protocol.alignment=prf")
    small = {"expected_batch": 60, "local_steps": 1, "micro_batch": 64, "decode_batch": 512}
    stage = {"format_steps": 2, "format_batch": 64}
    data["generator"] = to_plain(tiny_conf(checkpoint, **small, **stage, **over))
    data["synthesis"]["fit"] |= {"latents": 64, "network_steps": 5, "free_steps": 30}
    data["synthesis"]["rake"] |= {"candidates": 1.0, "exchanges": 10}
    return data


@pytest.mark.parametrize("kind", ["gpt2", "llama", "t5", "bart"])
def test_a_run_ends_with_valid_rows_of_everyone(tmp_path: Path, kind: str) -> None:
    ended = twinweave.load(serve(configured(tmp_path, kind)))
    for party in ended.schema.parties:
        schema = ended.schema.schema(party)
        path = tmp_path / "out" / rundir.SYNTHETIC / f"{party}.parquet"
        source = parse(Source, {"kind": "parquet", "path": str(path)})
        cleaned = load_cleaned(source, schema, party)
        assert cleaned.report.rows_read == cleaned.report.rows_kept > 100
        assert {c for of in cleaned.report.changed.values() for c in of} <= {"missing: level"}
    assert len(ended.sample(5)) == 5
    assert 0 < ended.ledger["epsilon"] <= 8 * (1 + 1e-6)
    assert ended.ledger["epsilon_by_stage"]["training"] > 0


def test_no_rows_text_is_in_a_message_or_a_log(
    tmp_path: Path, clear: Clear, caplog: pytest.LogCaptureFixture
) -> None:
    """As text, as tokens, or in any other form that the search for leaks knows."""
    once = "workload.adaptive=never"  # one pass of tables, as the search for leaks knows it
    data = mapping(tmp_path, "protocol.coin_limit=10_000", "privacy.epsilon=8", once)
    data["privacy"]["shares"] |= {"measurement": 0.7, "training": 0.3}
    data["generator"] = configured(tmp_path, "gpt2")["generator"]
    conf = RunConf.parse(data)
    with caplog.at_level(logging.DEBUG):
        ran = run(conf)
    layout = UnionLayout.of(ran.spec.schema)
    written = template(layout, checked(str(tmp_path / "model")))
    rows = [c.tokens[:-1, c.named :][c.mask[:-1, c.named :]] for c in written.columns.values()]
    texts = [
        f" {name}: {label},".encode()
        for name, labels in zip(layout.names, layout.labels, strict=True)
        for label in labels
    ]
    tokens = [part.astype(t).tobytes() for part in rows for t in ("<i4", "<i8") if len(part) > 7]
    seen = [data for where, data in readable(ran.messages) if "spec" not in where]
    seen.append(caplog.text.encode())
    assert len(texts) > 20
    assert tokens
    assert not [needle for needle in texts + tokens if any(needle in part for part in seen)]
    assert leaks(ran, clear) == set()


def test_a_public_file_is_read_before_anything_is_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that lacks the parties' columns: no party is asked for anything."""
    from twinweave.protocols.party import Party

    file = tmp_path / "public.csv"
    file.write_text("user,gender\na@b.de,female\n")
    charged: list[Any] = []
    monkeypatch.setattr(Party, "charge", lambda *given: charged.append(given))
    data = configured(tmp_path, "gpt2", format_rows="file", format_file=str(file))
    with pytest.raises(ColumnError, match="public file"):
        serve(data)
    assert not charged


def test_a_party_without_the_model_refuses_before_anything_is_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its copy was fine-tuned without noise since: the run stops at setup, nothing is charged."""
    from safetensors.torch import load_file, save_file

    from twinweave.generators.pretrained import lineage
    from twinweave.protocols.party import Party

    conf = RunConf.parse(configured(tmp_path, "gpt2"))
    spec = spec_of(conf)
    weights = tmp_path / "model" / "model.safetensors"
    save_file(load_file(weights), weights, metadata={"format": "pt", lineage.MARK: "x"})
    charged: list[Any] = []
    monkeypatch.setattr(Party, "charge", lambda *given: charged.append(given))
    with pytest.raises(ConfigError, match="without noise"):
        run(conf, spec=spec)
    assert not charged
