"""A draft for several parties: it runs as it is, and says what to confirm."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf

from scripts.describe import main
from twinweave.config import DataConf
from twinweave.errors import SourceError
from twinweave.parsing import parse
from twinweave.tables.drafts.party import likely_key, read_table_file
from twinweave.tables.drafts.roles import guessed_experiment
from twinweave.tables.drafts.run import draft_run, party_names
from twinweave.tables.loading import load_cleaned


def files(folder: Path, **changes: Any) -> list[Path]:
    """shown.csv (e-mail and arm) and bought.csv (the same e-mail, an order number of its own)."""
    n = 60
    rng = np.random.default_rng(3)
    mail = np.array([f"p{i}@mail.example" for i in range(n + 20)])
    region = rng.choice(["north", "south"], n + 20)
    shown = pd.DataFrame(
        {
            "email": mail[:n],
            "region": region[:n],
            "status": rng.choice(["web", "app"], n),
            "arm": rng.choice(["control", "test"], n),
        }
    )
    bought = pd.DataFrame(
        {
            "order_id": [f"o{i}" for i in range(n)],
            "mail": np.char.upper(mail[20:]),
            "region": region[20:],
            "status": rng.choice(["web", "app"], n),
            "bought": rng.choice(["Yes", "no"], n),
            "spend": rng.uniform(5, 90, n).round(2),
        }
    ).assign(**changes)
    shown.to_csv(folder / "shown.csv", index=False)
    bought.to_csv(folder / "bought.csv", index=False, sep=";", decimal=",")
    return [folder / "shown.csv", folder / "bought.csv"]


def conf_of(text: str) -> DataConf:
    raw = OmegaConf.create({"data": OmegaConf.create(text), "privacy": {"k": 10}})
    plain: Any = OmegaConf.to_container(raw, resolve=True)
    return parse(DataConf, plain["data"])


def drafted(paths: list[Path], keys: tuple[str | None, ...] = (None, None)) -> tuple[str, str]:
    tables = [read_table_file(path) for path in paths]
    draft = draft_run(tables, party_names(paths, []), keys, "mine")
    return draft.text, "\n".join(draft.notes)


def test_the_draft_is_a_valid_configuration_of_what_the_files_hold(tmp_path: Path) -> None:
    text, notes = drafted(files(tmp_path))
    conf = conf_of(text)
    assert [p.name for p in conf.parties] == ["shown", "bought"]
    # The id is the one that matches, whatever else is unique.
    assert [p.schema.key.name for p in conf.parties] == ["email", "mail"]
    assert "40 ids in common, of 60" in notes
    region, status = (conf.schema.holders(name) for name in ("region", "status"))
    assert region == ("shown", "bought")
    # Of one name, but it says something else of the same people.
    assert status == ("shown",)
    assert conf.schema.holders("status_bought") == ("bought",)
    assert conf.lift is not None
    assert (conf.lift.membership, conf.lift.test, conf.lift.control) == (
        "arm",
        ("test",),
        ("control",),
    )
    assert (conf.lift.conversions, conf.lift.values) == (("bought",), ("spend",))
    spend = conf.schema.column("spend")
    assert spend.edges[0] <= 1 < spend.edges[1]  # 0 by itself, and narrow bins where amounts are
    assert max(b - a for a, b in pairwise(spend.edges[:6])) <= 5
    assert conf.schema.column("spend").bounds == (0, 90)  # no amount counts as 0
    for party in conf.parties:
        assert party.source is not None
        assert len(load_cleaned(party.source, party.schema, party.name).frame) == 60
    confirmed = [line for line in text.splitlines() if "role" in line and "CONFIRM" not in line]
    assert not confirmed


def test_an_id_against_none_is_refused(tmp_path: Path) -> None:
    paths = files(tmp_path, order_id=1, mail="same")
    with pytest.raises(SourceError, match=r"bought\.csv: no column looks like an id.*--key"):
        drafted(paths)


def test_row_numbers_stand_in_for_ids_where_the_files_are_as_long(tmp_path: Path) -> None:
    paths = files(tmp_path, order_id=1, mail="same")
    pd.read_csv(paths[0]).drop(columns="email").to_csv(paths[0], index=False)
    assert [p.schema.key.numbered for p in conf_of(drafted(paths)[0]).parties] == [True, True]
    pd.read_csv(paths[0])[:-1].to_csv(paths[0], index=False)
    with pytest.raises(SourceError, match="row numbers would pair strangers"):
        drafted(paths)


@pytest.mark.parametrize("name", ["uid", "customer", "crm_customer", "userID", "client_id"])
def test_numbers_that_are_called_like_an_id_are_one(tmp_path: Path, name: str) -> None:
    """With and without leading zeros; what is paid is none."""
    for spelled in ("05d", "d"):
        rows = "".join(f"{i * 7},{i:{spelled}},{i % 3}\n" for i in range(100))
        (tmp_path / "t.csv").write_text(f"paid,{name},n\n" + rows)
        assert likely_key(read_table_file(tmp_path / "t.csv")) == name


def test_ids_that_are_written_otherwise_are_told(tmp_path: Path) -> None:
    paths = files(tmp_path)
    table = pd.read_csv(paths[0])
    table["email"] = table["email"].str.replace("@", "#")
    table.to_csv(paths[0], index=False)
    text, notes = drafted(paths, ("email", "mail"))
    assert "normalise: [casefold, letters_and_digits]" in notes
    assert "40 ids in common, of 60" in notes
    conf = conf_of(text)
    ids = []
    for party in conf.parties:
        assert party.source is not None
        frame = load_cleaned(party.source, party.schema, party.name).frame
        ids.append({*frame[party.schema.key.name]})
    assert len(ids[0] & ids[1]) == 40
    # Columns of one name are compared by the same people.
    assert conf.schema.holders("status") == ("shown",)


@pytest.mark.parametrize(
    ("one", "two", "rules"),
    [
        ("{0:040X}", "{0:040x}", ["casefold"]),
        ("{0:012}", "{0}", ["strip_zeros"]),
        ("+49 171 {0}", "49171{0}", ["digits"]),
        ("+49 171 {0}", "0049171{0}", ["digits", "strip_zeros"]),
        ("u-{0}", "u{0}", ["casefold", "letters_and_digits"]),
        ("u{0}", "o{0}", []),  # users and orders
        ("{0}", "{0}", []),
    ],
)
def test_rules_by_which_ids_match_are_drafted(
    tmp_path: Path, one: str, two: str, rules: list[str]
) -> None:
    numbers = 0xABCDEF00 + 7 * np.arange(80)
    for name, form, some in (("a", one, numbers[:60]), ("b", two, numbers[20:])):
        table = pd.DataFrame({"user_id": map(form.format, some), "arm": ["test", "control"] * 30})
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    text, notes = drafted([tmp_path / "a.csv", tmp_path / "b.csv"], ("user_id", "user_id"))
    conf = conf_of(text)
    assert [list(p.schema.key.normalise) for p in conf.parties] == [rules, rules]
    assert f"{0 if one.startswith('u{') else 40} ids in common" in notes


def test_a_rule_that_makes_ids_equal_is_not_drafted(tmp_path: Path) -> None:
    for name, ids in (("a", "aB Ab aa bb"), ("b", "AB BB AA CC")):
        rows = "".join(f"{i},{n}\n" for n, i in enumerate(ids.split()))
        (tmp_path / f"{name}.csv").write_text(f"user_id,n\n{rows}")
    text, notes = drafted([tmp_path / "a.csv", tmp_path / "b.csv"], ("user_id", "user_id"))
    assert "normalise" not in text
    assert "no id is in both" in notes
    assert "write the ids alike" in notes


def test_files_that_are_no_experiment(tmp_path: Path) -> None:
    paths = files(tmp_path)
    pd.read_csv(paths[0]).drop(columns="arm").to_csv(paths[0], index=False)
    assert conf_of(drafted(paths)[0]).lift is None


def test_what_looks_like_an_interpolation_is_none(tmp_path: Path) -> None:
    """In levels, names and paths: the draft is read by OmegaConf."""
    odd = "${privacy.k}"
    paths = files(tmp_path, bought=np.where(np.arange(60) % 2, odd, "none"))
    for path in paths:
        header, _, rest = path.read_text().partition("\n")
        path.write_text(header.replace("status", odd) + "\n" + rest)
    paths[1] = paths[1].rename(tmp_path / f"{odd}.csv")
    conf = conf_of(drafted(paths)[0])
    own = conf.parties[1]
    assert own.schema.column("bought").levels == (odd, "none")
    assert f"{odd}_{own.name}" in own.schema.names
    assert own.source is not None
    assert len(load_cleaned(own.source, own.schema, own.name).frame) == 60


def test_unequal_arms_ask_for_the_planned_ratio(tmp_path: Path) -> None:
    paths = files(tmp_path)
    table = pd.read_csv(paths[0])
    table["arm"] = np.where(np.arange(60) < 54, "test", "control")
    table.to_csv(paths[0], index=False)
    text, _ = drafted(paths)
    assert "# ratio: 9  # CONFIRM" in text
    assert conf_of(text).lift.ratio == 1


@pytest.mark.parametrize(
    ("levels", "control", "test"),
    [
        (["control", "test", "neither"], ("control",), ("test",)),
        (
            ["Mens E-Mail", "No E-Mail", "Womens E-Mail"],
            ("No E-Mail",),
            ("Mens E-Mail", "Womens E-Mail"),
        ),
        (["A", "B"], ("A",), ("B",)),
        (["holdout", "control"], ("holdout",), ("control",)),
    ],
)
def test_arms_by_the_names_of_their_levels(
    levels: list[str], control: tuple[str, ...], test: tuple[str, ...]
) -> None:
    arm = {"name": "campaign_group", "kind": "categorical", "levels": levels}
    flag = {"name": "converted", "kind": "boolean"}
    guess = guessed_experiment([[arm], [flag]])
    assert guess is not None
    assert (guess.control, guess.test) == (control, test)
    assert guessed_experiment([[{**arm, "name": "colour"}], [flag]]) is None


def test_the_command_writes_a_file_and_says_what_comes_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = files(tmp_path)
    out = tmp_path / "conf" / "data" / "mine.yaml"
    arguments = [*map(str, paths), "--party", "p", "--party", "a", "--out", str(out)]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert f"--config-dir {tmp_path / 'conf'} data=mine" in said
    assert f"scripts.check {paths[1]} {out} --party a" in said
    assert [p.name for p in conf_of(out.read_text()).parties] == ["p", "a"]
    assert main([*map(str, paths), "--party", "one"]) == SourceError.exit_code
    assert main([*map(str, paths), "--party", "one", "--party", "one"]) == SourceError.exit_code
