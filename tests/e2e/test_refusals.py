"""Bad input through a whole run: one clear line, no cell's value, nothing spent for nothing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sqlalchemy.dialects.sqlite.pysqlite as pysqlite
from flwr.app import Message

from scripts.engines.inprocess import InProcessGrid
from strategies import records
from tests import messages as m
from tests.campaigns import configure, csv_mapping, mapping
from tests.whole_run import Deployment, guard_rows, readable, run, spec_of
from twinweave.config import RunConf
from twinweave.errors import BY_NAME, AppError, BudgetError, ColumnError, SourceError
from twinweave.protocols.channel.identity import Identity
from twinweave.tables.campaign import CampaignConf, campaign_frames

PLANTED = "Zq7PLANTED7qZ"
NUMBER = 7351907.25
REPOSITORY = Path(__file__).resolve().parents[2]


def planted(text: str | bytes) -> bool:
    """Whether a planted cell shows, in whatever case."""
    raw = (text if isinstance(text, bytes) else text.encode()).lower()
    return any(mark in raw for mark in (PLANTED.lower().encode(), b"7351907"))


def refused(deployment: Deployment, **options: type[Any]) -> AppError:
    """Run; the one error, checked for its form and for what must not be in it."""
    with pytest.raises(AppError) as caught:
        deployment.start(**options)
    error = caught.value
    assert_clear(str(error))
    assert error.exit_code != 0
    assert BY_NAME[type(error).__name__] is type(error)
    assert error.__cause__ is None  # nothing below could be printed with it
    fields = list(readable(deployment.messages))
    assert not [where for where, data in fields if planted(data)]
    return error


def assert_clear(text: str) -> None:
    """One line: who, which rule, and what to do, in whole sentences; no planted cell."""
    assert "\n" not in text
    assert not planted(text)
    assert text.endswith(".")
    assert len(re.findall(r"[.:;] [A-Zn`]", text)) >= 1, text  # a rule, then a remedy


def edit(deployment: Deployment, party: str, change: Callable[..., Any]) -> None:
    """Change a party's CSV file: `change` takes and returns a data frame of text."""
    path = Path(deployment.sites[party]["source"]["path"])
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    change(frame).to_csv(path, index=False)


def put(column: str, value: str, row: int = 3) -> Callable[..., Any]:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame.loc[row, column] = value
        return frame

    return change


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    return Deployment(csv_mapping(tmp_path), tmp_path)


TABLES = {
    "missing column": ("advertiser", lambda f: f.drop(columns="loyalty"), "ColumnError", "loyalty"),
    "renamed column": (
        "publisher",
        lambda f: f.rename(columns={"age": "years"}),
        "ColumnError",
        "age",
    ),
    "unknown category": ("publisher", put("device", PLANTED), "ColumnError", "device"),
    "unknown shared level": ("advertiser", put("region", PLANTED), "ColumnError", "region"),
    "out of range": ("advertiser", put("spend", "nan"), "ColumnError", "spend"),
    "text for a number": ("publisher", put("age", PLANTED), "ColumnError", "age"),
    "fraction for a whole number": ("publisher", put("age", "33.25"), "ColumnError", "age"),
    "NaN": ("advertiser", put("converted", "NaN"), "ColumnError", "converted"),
    "missing cell": ("publisher", put("arm", ""), "ColumnError", "arm"),
    "empty table": ("advertiser", lambda f: f.head(0), "SourceError", None),
    "missing id": ("publisher", put("user", ""), "ColumnError", "user"),
    "duplicate id": (
        "advertiser",
        lambda f: put("user", f"{PLANTED}@x.example", 5)(put("user", f"{PLANTED}@x.example")(f)),
        "ColumnError",
        "user",
    ),
    "duplicate id in another case": (
        "advertiser",
        lambda f: put("user", f"{PLANTED.lower()}@x.example", 5)(
            put("user", f" {PLANTED}@X.example")(f)
        ),
        "ColumnError",
        "user",
    ),
}


@pytest.mark.attack("errors")
@pytest.mark.parametrize("case", TABLES)
def test_bad_tables(deployment: Deployment, case: str) -> None:
    party, change, name, column = TABLES[case]
    edit(deployment, party, change)
    error = refused(deployment)
    assert type(error).__name__ == name
    assert str(error).startswith(f"party {party!r}: ")
    if column:
        assert f"column {column!r}" in str(error)
    assert guard_rows(deployment.sites) == {"publisher": [], "advertiser": []}


def test_out_of_range_number(tmp_path: Path) -> None:
    """Where the schema declares no clipping."""
    data = csv_mapping(tmp_path)
    for column in data["data"]["parties"][0]["columns"]:
        column.pop("invalid", None)
    deployment = Deployment(data, tmp_path)
    edit(deployment, "publisher", put("age", str(NUMBER)))
    error = refused(deployment)
    assert type(error).__name__ == "ColumnError"
    assert "column 'age'" in str(error)
    assert "within the bounds" in str(error)
    assert guard_rows(deployment.sites) == {"publisher": [], "advertiser": []}


def test_missing_file(deployment: Deployment) -> None:
    deployment.sites["advertiser"]["source"]["path"] += ".gone"
    error = refused(deployment)
    assert str(error).startswith("party 'advertiser': ")
    assert "does not exist" in str(error)


def test_wrong_database_password(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver's own message quotes user and password; none of it gets out."""
    from sqlite3 import OperationalError

    def refuse(self: Any, *args: Any, **kwargs: Any) -> None:
        raise OperationalError(f'password authentication failed for "bob" with {PLANTED}')

    monkeypatch.setattr(pysqlite.SQLiteDialect_pysqlite, "connect", refuse)
    monkeypatch.setenv("PUBLISHER_DB", f"sqlite://bob:{PLANTED}@/crm.sqlite")
    deployment.sites["publisher"]["source"] = {
        "kind": "sql",
        "url_env": "PUBLISHER_DB",
        "query": "SELECT * FROM users",
    }
    error = refused(deployment)
    assert type(error).__name__ == "SourceError"
    assert str(error).startswith("party 'publisher': ")
    assert "password" in str(error)
    assert "PUBLISHER_DB" in str(error)


# --- disagreement and impostors ----------------------------------------------------------


def columns_of(deployment: Deployment, party: str, name: str) -> dict[str, Any]:
    return next(c for c in deployment.sites[party]["columns"] if c["name"] == name)


def test_schemas_that_disagree(deployment: Deployment) -> None:
    """The party's own site file names one region more than the run."""
    columns_of(deployment, "advertiser", "region")["levels"] = ["north", "south", PLANTED]
    error = refused(deployment)
    assert type(error).__name__ == "SchemaError"
    assert str(error).startswith("party 'advertiser': column 'region'")


def test_shared_columns_that_disagree(tmp_path: Path) -> None:
    """Caught while planning, before a message is sent."""
    data = csv_mapping(tmp_path)
    for column in data["data"]["parties"][1]["columns"]:
        if column["name"] == "region":
            column["levels"] = ["north", "south"]
    with pytest.raises(AppError) as caught:
        Deployment(data, tmp_path)
    assert "'region'" in str(caught.value)
    assert_clear(str(caught.value))


def test_a_column_that_the_run_does_not_have(deployment: Deployment) -> None:
    deployment.sites["publisher"]["columns"].append(
        {"name": "tenure_days", "kind": "integer", "bounds": [0, 10]}
    )
    error = refused(deployment)
    assert "tenure_days" in str(error)
    assert str(error).startswith("party 'publisher'")


@pytest.mark.curious("outsider")
def test_an_identity_that_is_not_pinned(deployment: Deployment) -> None:
    deployment.sites["publisher"]["pins"] = {}
    error = refused(deployment)
    assert type(error).__name__ == "ChannelError"
    assert str(error).startswith("party 'publisher': identity of 'advertiser' is not pinned")


@pytest.mark.curious("outsider")
def test_another_identity_than_the_pinned_one(deployment: Deployment) -> None:
    deployment.sites["advertiser"]["pins"]["publisher"] = Identity.generate().public_hex
    error = refused(deployment)
    assert type(error).__name__ == "ChannelError"
    assert "'advertiser'" in str(error)
    assert "signature" in str(error)


class Impostor(InProcessGrid):
    """A server that puts its own key into a hello on the way: to read what is sealed."""

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        return super().push_messages([self._altered(message) for message in messages])

    def _altered(self, message: Message) -> Message:
        if message.metadata.message_type != "query.blind":
            return message
        request = records.unpack(m.BlindRequest, message.content)
        hello = json.loads(request.hellos["publisher"])
        hello["public_key"] = "09" + "00" * 31
        request.hellos["publisher"] = json.dumps(hello)
        meta = message.metadata
        return Message(
            records.pack(request),
            dst_node_id=meta.dst_node_id,
            message_type=meta.message_type,
            group_id=meta.group_id,
            ttl=meta.ttl,
        )


@pytest.mark.attack("keys")
def test_a_key_exchanged_by_the_server(deployment: Deployment) -> None:
    error = refused(deployment, grid_class=Impostor)
    assert type(error).__name__ == "ChannelError"
    assert "'publisher'" in str(error)
    assert guard_rows(deployment.sites) == {"publisher": [], "advertiser": []}


def test_the_site_of_another_party(deployment: Deployment) -> None:
    """Two nodes with the publisher's site file."""
    deployment.sites["advertiser"] = deployment.sites["publisher"]
    error = refused(deployment)
    assert type(error).__name__ == "RunError"
    assert "publisher, publisher" in str(error)


def test_a_node_without_a_site_file(deployment: Deployment) -> None:
    deployment.data["federation"] = {"mode": "simulation"}

    class NoSites(InProcessGrid):
        def __init__(self, app: Any, nodes: int, *, node_configs: list[dict[str, str]]) -> None:
            super().__init__(app, nodes, node_configs=[{"other": "x"}] * nodes)

    error = refused(deployment, grid_class=NoSites)
    assert type(error).__name__ == "ConfigError"
    assert "node-config" in str(error)


# --- budgets -----------------------------------------------------------------------------


@pytest.mark.attack("cost")
@pytest.mark.parametrize("epsilon", [0.01, 3.0])
def test_a_budget_that_does_not_last(deployment: Deployment, epsilon: float) -> None:
    """Whether for the first release or for the last only: refused before anything is spent."""
    deployment.sites["advertiser"]["guard"]["epsilon"] = epsilon
    error = refused(deployment)
    assert type(error).__name__ == "BudgetError"
    assert str(error).startswith("party 'advertiser': privacy budget")
    assert guard_rows(deployment.sites) == {"publisher": [], "advertiser": []}


@pytest.mark.attack("cost")
def test_a_specification_that_costs_more_than_it_says(tmp_path: Path) -> None:
    """Refused at setup by a party whose guard is off, before its first release."""
    conf = configure(tmp_path, "privacy.guard.mode=off")
    dear = replace(spec_of(conf), epsilon=0.01)
    messages: list[Message] = []
    with pytest.raises(BudgetError, match="exceeds the run's own epsilon"):
        run(conf, spec=dear, messages=messages)
    assert {m.metadata.message_type for m in messages} == {"query.setup"}


# --- through the command line ------------------------------------------------------------


def test_exit_code(tmp_path: Path) -> None:
    frame = campaign_frames(CampaignConf(users=60))["publisher"].astype(object)
    put("device", PLANTED)(frame).to_csv(tmp_path / "publisher.csv", index=False)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "scripts.run",
            "engine=inprocess",
            f"output={tmp_path / 'out'}",
            "data.parties.0.source.kind=csv",
            f"+data.parties.0.source.path={tmp_path / 'publisher.csv'}",
        ],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == BY_NAME["ColumnError"].exit_code
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: party 'publisher': ")
    text, _, help_ = lines[0].partition(" [")
    assert_clear(text)
    assert help_ == "exit status 12: docs/errors.md]"
    assert not planted(done.stdout)
    status = json.loads((tmp_path / "out" / "status.json").read_text())
    assert status["exit_code"] == done.returncode
    for path in (tmp_path / "out").rglob("*"):  # what the party itself keeps included
        assert path.is_dir() or not planted(path.read_bytes()), path


# --- a sweep -----------------------------------------------------------------------------


def _corrupt(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """One to three wrongs, in any column and any row; cells carry the planted mark."""
    junk = (
        PLANTED,
        f"{PLANTED}\n{PLANTED}",
        f'"{PLANTED}',
        str(NUMBER),
        f"-{NUMBER}",
        "inf",
        f"{PLANTED},{PLANTED}",
        f"{PLANTED}\x00",
        "",
        "NaN",
        "1e999",
        f"2020-13-45{PLANTED}",
        f"{{{PLANTED}}}",
        f"%s{PLANTED}",
        f"é{PLANTED}\u202e",
    )
    for _ in range(int(rng.integers(1, 4))):
        column = str(rng.choice(frame.columns))
        match int(rng.integers(0, 5)):
            case 0:
                frame = frame.rename(columns={column: f"{column}{PLANTED}"})
            case 1:
                frame = frame.drop(columns=column)
            case 2 if len(frame):
                frame = pd.concat([frame, frame.iloc[[int(rng.integers(0, len(frame)))]]])
            case _ if len(frame):
                rows = rng.integers(0, len(frame), int(rng.integers(1, 6)))
                frame.iloc[rows, frame.columns.get_loc(column)] = str(rng.choice(junk))
            case _:
                pass
        if frame.empty:
            break
    return frame


@pytest.mark.attack("errors")
def test_a_sweep_of_malformed_tables(tmp_path: Path) -> None:
    """Every table ends in one clear line or, where the rules allow the cells, in a result."""
    data = csv_mapping(tmp_path, users=60)
    deployment = Deployment(data, tmp_path)
    clean = {p: Path(s["source"]["path"]).read_text() for p, s in deployment.sites.items()}
    rng = np.random.default_rng(20)
    refusals = 0
    for _ in range(30):
        party = str(rng.choice(["publisher", "advertiser"]))
        for name, site in deployment.sites.items():
            Path(site["source"]["path"]).write_text(clean[name])
        edit(deployment, party, lambda f: _corrupt(f, rng))
        deployment.messages.clear()
        error = None
        try:
            deployment.start()
        except (ColumnError, SourceError) as caught:
            error = str(caught)
        if error is not None:
            refusals += 1
            assert_clear(error)
            assert error.startswith(f"party {party!r}: ")
        assert not any(planted(data) for _, data in readable(deployment.messages))
    assert refusals > 20


def test_simulation_errors_name_the_party_too(tmp_path: Path) -> None:
    """Without site files of their own: those that the run writes for its stand-ins."""
    data = mapping(tmp_path / "out")
    data["data"]["parties"][1]["source"] = {"kind": "csv", "path": str(tmp_path / "gone.csv")}
    with pytest.raises(AppError) as caught:
        run(RunConf.parse(data))
    assert str(caught.value).startswith("party 'advertiser': table file 'gone.csv'")
