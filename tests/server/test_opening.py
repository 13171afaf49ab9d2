"""Which folder a run gets, and which runs may go on: everything else is refused in one line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import twinweave
from server.app import from_run_config
from server.lifecycle import pinned, run_directory
from server.opening import opened
from twinweave import folder, rundir
from twinweave.config import RunConf, compose
from twinweave.errors import AppError, ConfigError, OutputError
from twinweave.generators.conf import PretrainedConf
from twinweave.generators.union import UnionLayout
from twinweave.parsing import to_plain


def start(*overrides: str) -> RunConf:
    return opened(compose(overrides), overrides)


def begun(out: Path, *overrides: str) -> Path:
    """The folder of a run that was killed."""
    conf = start(f"output={out}", *overrides)
    with pytest.raises(SystemExit), run_directory(conf):
        raise SystemExit
    folder.set_status(out, "running")
    return out


def test_runs_of_one_second_get_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = compose(["output=outputs/12-00-00"])
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: opened(data, []).output, range(4)))
    names = ["12-00-00", *(f"12-00-00-{i}" for i in (2, 3, 4))]
    assert sorted(made) == [str(tmp_path / "outputs" / name) for name in names]


def test_a_bad_override_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        start(f"output={tmp_path / 'out'}", "privacy.epsilon=0")
    assert not (tmp_path / "out").exists()


def full(path: Path) -> Path:
    path.mkdir()
    (path / "mine.txt").write_text("x")
    return path


def a_file(path: Path) -> Path:
    path.write_text("x")
    return path


@pytest.mark.parametrize(
    ("place", "rule"),
    [
        (full, "is not empty, and would mix two runs. Give another folder"),
        (a_file, "cannot be made"),
        (lambda path: a_file(path) / "below", "cannot be made"),
        (lambda path: a_file(path) / "below" / "it", "cannot be made"),
        (lambda path: path / ("x" * 300), "cannot be made"),
        (lambda _: Path("/proc/twinweave"), "cannot be made"),
    ],
)
def test_a_folder_that_is_not_to_be_had_is_refused(
    tmp_path: Path, place: Callable[[Path], Path], rule: str
) -> None:
    with pytest.raises(OutputError, match=r"^output: the folder") as told:
        start(f"output={place(tmp_path / 'there')}")
    assert rule in str(told.value)
    assert told.value.exit_code == 20


def test_an_empty_folder_is_taken_once(tmp_path: Path) -> None:
    """Of two runs that were both given it while it was empty, one gets it."""
    first, second = start(f"output={tmp_path}"), start(f"output={tmp_path}")
    with run_directory(first), pytest.raises(OutputError, match="not empty"):
        run_directory(second).__enter__()


def test_a_run_goes_on_as_it_was_configured(tmp_path: Path) -> None:
    out = begun(tmp_path / "out", "privacy.epsilon=0.5", "generator=ctgan", "engine=inprocess")
    conf = start(f"resume={out}", "engine=flower")
    assert (conf.privacy.epsilon, conf.engine, conf.output) == (0.5, "flower", str(out))
    assert conf.generator is not None
    assert conf.generator.name == "ctgan"
    ended = start(f"resume={out}", "generator=none")
    assert ended.generator is None
    assert ended.settled_workload.scope == "all"  # as it began, with a generator
    assert start(f"resume={out}", "generator=ctgan").generator == conf.generator
    # What is not said again is as it was, also where something else of its group is said.
    again = start(f"resume={out}", "privacy.delta=1e-5", "data.parties.0.name=publisher")
    assert again.privacy == conf.privacy


def test_a_run_is_held_to_the_model_that_it_began_with(tmp_path: Path) -> None:
    """Going on, and drawing rows later, also where nobody trains; whatever is said again."""
    model = ["generator=llm_pretrained", f"generator.checkpoint={a_model(tmp_path / 'model')}"]
    out = begun(tmp_path / "out", *model, "privacy.shares.training=0")
    first = pinned(start(f"resume={out}"))
    assert isinstance(first.generator, PretrainedConf)
    assert first.generator.digest
    stored = RunConf.parse(twinweave.load(out).configuration)
    assert stored.generator == first.generator
    assert stored.resume is None
    assert pinned(start(f"resume={out}", *model)).generator == first.generator
    (tmp_path / "model" / "config.json").write_text('{"model_type": "gpt2", "n_layer": 1, "x": 1}')
    assert first.generator.checkpoint == str(tmp_path / "model")
    with pytest.raises(ConfigError, match="another hash"):
        pinned(start(f"resume={out}", *model))
    with pytest.raises(ConfigError, match="another hash"):
        rundir.read_source(out, stored, UnionLayout.of(stored.data.schema))


def a_model(path: Path) -> Path:
    """The files of one, as far as they are looked at before it is loaded."""
    path.mkdir()
    (path / "config.json").write_text('{"model_type": "gpt2", "n_layer": 1}')
    (path / "tokenizer.json").write_text("{}")
    head = json.dumps({f"h.0.attn.c_{m}.weight": {"shape": [1, 1]} for m in ("attn", "proj")})
    (path / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head.encode())
    return path


def moved(out: Path) -> Path:
    return out.rename(out.with_name("moved"))


def done(out: Path) -> Path:
    folder.set_status(out, "finished")
    return out


def damaged(out: Path) -> Path:
    (out / rundir.CONFIGURATION).write_text('{"data": ')
    return out


def lost(out: Path) -> Path:
    (out / rundir.SPEC).write_text("{}")  # measured, and its own secret gone
    return out


REFUSED: dict[str, tuple[Callable[[Path], Any], list[str], str]] = {
    "no run": (lambda out: out.parent, [], "is not the folder of a run"),
    "finished": (done, [], "is finished"),
    "damaged": (damaged, [], "configuration.json' is damaged. Bring it back from a copy"),
    "its own record lost": (lost, [], "resume', from which the run goes on, is not there any more"),
    "moved": (moved, [], "Move the folder back"),
    "other budget": (lambda out: out, ["privacy.epsilon=2"], "'privacy.epsilon': is another than"),
    "another user count": (
        lambda out: out,
        ["data.parties.0.source.campaign.users=99"],
        r"'data.parties.0.source.campaign.users': is another than",
    ),
    "other data": (lambda out: out, ["seed=3"], "'seed': is another than that of the run in"),
    "other generator": (lambda out: out, ["generator=llm"], "'generator.*is another than"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_run_that_cannot_go_on_is_refused_by_name(tmp_path: Path, case: str) -> None:
    change, overrides, rule = REFUSED[case]
    out = change(begun(tmp_path / "out"))
    with pytest.raises(AppError, match=rule):
        start(f"resume={out}", *overrides)


def test_a_run_that_is_alive_is_refused(tmp_path: Path) -> None:
    with run_directory(start(f"output={tmp_path / 'out'}")):
        with pytest.raises(OutputError, match=f"is still alive, as process {os.getpid()} of"):
            start(f"resume={tmp_path / 'out'}")
        told = json.loads((tmp_path / "out" / "status.json").read_text())
        assert told["pid"] > 0


def test_a_run_that_another_process_finished_meanwhile_is_refused(tmp_path: Path) -> None:
    """Both were told to go on; the one that comes second must not play the run again."""
    out = begun(tmp_path / "out")
    first, second = start(f"resume={out}"), start(f"resume={out}")
    with run_directory(first):
        pass
    with pytest.raises(OutputError, match="is finished"), run_directory(second):
        pass
    assert folder.status(out)["state"] == "finished"


def test_flowers_own_command_resumes_too(tmp_path: Path) -> None:
    out = begun(tmp_path / "out", "privacy.epsilon=0.5")
    conf = from_run_config({"overrides": f"resume={out}"})
    assert (conf.privacy.epsilon, conf.resume) == (0.5, str(out))
    again = from_run_config({"config": json.dumps(to_plain(conf))})
    assert again == conf
