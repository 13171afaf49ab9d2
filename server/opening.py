"""Which run to play, and where: a new one in a folder of its own, or the rest of an old one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from server.lifecycle import check_goes_on
from twinweave import folder, rundir
from twinweave.config import RunConf
from twinweave.errors import ConfigError, OutputError
from twinweave.generators.conf import PretrainedConf
from twinweave.parsing import to_plain

_FREE = {"resume", "engine", "superlink", "report"}
"""What may be said beside `resume=` without being the run's own."""


def opened(data: Mapping[str, Any], overrides: Sequence[str]) -> RunConf:
    """The configuration of a new run, its folder made; or of the run that is to go on.

    data: the composed configuration. overrides: what was said on the line. An `output` that was
    not named there gets another name where its own is taken, as by a run of the same second.
    Raises ConfigError or OutputError, and then leaves no folder behind.
    """
    conf = RunConf.parse(data)
    if conf.resume is not None:
        return resumed(conf, overrides)
    said = any(_key(override) == "output" for override in overrides)
    made = folder.make(Path(conf.output).resolve(), another=not said)
    return replace(conf, output=str(made))


def resumed(asked: RunConf, overrides: Sequence[str] = ()) -> RunConf:
    """The configuration that an unfinished run began with, to go on with it.

    asked: with `resume`, and what the overrides made of the rest; without a generator, the run
    ends without training, and with audit=off nobody looks at its rows. Raises OutputError or
    ConfigError.
    """
    out = Path(str(asked.resume)).resolve()
    stored = _stored(out)
    ends = asked.generator is None
    unseen = asked.audit.mode == "off"
    free = _FREE | ({"generator"} if ends else set()) | ({"audit"} if unseen else set())
    said = [_path(o) for o in overrides if _key(o) not in free]
    for path in _differences(to_plain(_held(asked, stored)), to_plain(stored)):
        if any(_within(path, name) or _within(name, path) for name in said):
            raise ConfigError(
                path,
                f"is another than that of the run in {str(out)!r}",
                "Give resume= alone, or start a new run in another folder.",
            )
    given = {name: getattr(asked, name) for name in map(_key, overrides) if name == "engine"}
    return replace(
        stored,
        workload=stored.settled_workload,  # of the run as it began, with its generator
        generator=None if ends else stored.generator,
        audit=asked.audit if unseen else stored.audit,
        superlink=asked.superlink or stored.superlink,
        report=asked.report,
        resume=str(out),
        output=str(out),
        **given,
    )


def _held(asked: RunConf, stored: RunConf) -> RunConf:
    """What was asked with the hash that the run was given of its generator's files."""
    own, begun = asked.generator, stored.generator
    if not (isinstance(own, PretrainedConf) and isinstance(begun, PretrainedConf)):
        return asked
    return replace(asked, generator=replace(own, digest=own.digest or begun.digest))


def _stored(out: Path) -> RunConf:
    """The configuration of the unfinished run in this folder. Raises OutputError for others."""
    if not (out / rundir.CONFIGURATION).exists():
        raise OutputError(f"resume: {str(out)!r} is not the folder of a run. Check the path.")
    told, stored = folder.status(out), _read(out / rundir.CONFIGURATION)
    if told["state"] == "finished":
        from server.simulation import forget

        forget(stored)  # where the process died between its last two steps
    elif folder.alive(out):
        raise OutputError(
            f"resume: the run in {str(out)!r} is still alive, as process {told.get('pid')} of "
            f"{told.get('host')!r}. Wait for its end, or stop it first."
        )
    check_goes_on(out)
    if Path(stored.output).resolve() != out and stored.federation.mode == "simulation":
        raise OutputError(
            f"resume: the run in {str(out)!r} began in {stored.output!r}, where its parties look "
            "for their files. Move the folder back."
        )
    return stored


def _read(path: Path) -> RunConf:
    try:
        data = json.loads(path.read_text())
    except ValueError:
        raise OutputError(
            f"resume: {str(path)!r} is damaged. Bring it back from a copy. What the run measured "
            "stays in its folder."
        ) from None
    return RunConf.parse(data)


def _key(override: str) -> str:
    """The group or field at the top that an override sets."""
    return re.split(r"[.@=/]", override.lstrip("+~"))[0]


def _path(override: str) -> str:
    """The dotted path that an override sets: a field, or all of a group."""
    return re.split(r"[@=]", override.lstrip("+~"))[0].replace("/", ".")


def _within(path: str, other: str) -> bool:
    return f"{path}.".startswith(f"{other}.")


def _differences(asked: Any, stored: Any, path: str = "") -> Iterator[str]:
    """Dotted paths of the fields that are not alike; items of lists by their number."""
    if isinstance(asked, list) and isinstance(stored, list) and len(asked) == len(stored):
        asked, stored = (dict(enumerate(items)) for items in (asked, stored))
    if isinstance(asked, Mapping) and isinstance(stored, Mapping):
        for name in sorted({*asked, *stored}):
            inner = f"{path}.{name}" if path else name
            yield from _differences(asked.get(name), stored.get(name), inner)
    elif asked != stored:
        yield path
