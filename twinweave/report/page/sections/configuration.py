"""What was asked for, and with which releases it was run: enough to run it again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from twinweave.report.page.html import render
from twinweave.report.page.material import Material
from twinweave.report.page.section import Section

_TEMPLATE = """
<dl class="stats">{% for name, version in versions.items() %}
<div><dt>{{ name }}</dt><dd>{{ version }}</dd></div>
{% endfor %}</dl>
{% for name, text in groups %}
<details><summary>{{ name }}</summary><pre>{{ text }}</pre></details>
{% endfor %}
"""

_LOCAL = frozenset(
    {
        "output",
        "resume",
        "superlink",
        "root",
        "path",
        "parts",
        "url",
        "url_env",
        "query",
        "checkpoint",
    }
)
"""Keys, at any depth, that say where something lies at whoever ran it: none of a reader's business,
and a database's address may have a password in it."""

MOST_CHARACTERS = 60_000
"""Of one group: configuration.json has all."""


def section(m: Material) -> Section | None:
    conf = _without_places(m.configuration)
    groups = {k: v for k, v in conf.items() if isinstance(v, Mapping)}
    others = {k: v for k, v in conf.items() if k not in groups}
    body = render(
        _TEMPLATE,
        versions=m.report["versions"],
        groups=[(name, _yaml(value)) for name, value in ({"run": others} | groups).items()],
    )
    title = "Configuration and releases"
    return Section(name="configuration", title=title, short="Configuration", body=body)


def _without_places(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _without_places(v) for k, v in value.items() if k not in _LOCAL}
    return [_without_places(v) for v in value] if isinstance(value, list) else value


class _Line(dict[str, Any]):
    """A mapping on one line."""


class _Dumper(yaml.SafeDumper):
    pass


_Dumper.add_representer(
    _Line, lambda dumper, line: dumper.represent_mapping("tag:yaml.org,2002:map", line, True)
)


def _short(value: Any, key: str = "") -> Any:
    """A column is a line; it and a source say what they have, not what they leave as it is."""
    if isinstance(value, Mapping):
        told = {k: _short(v, k) for k, v in value.items()}
        return (
            {k: v for k, v in told.items() if v not in (None, "", [], {}, False)}
            if key == "source"
            else told
        )
    if isinstance(value, list) and key == "columns":
        return [
            _Line({k: v for k, v in one.items() if v not in (None, "", [], {}, False)})
            for one in value
        ]
    return [_short(v) for v in value] if isinstance(value, list) else value


def _yaml(value: Mapping[str, Any]) -> str:
    text = yaml.dump(
        _short(value),
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=None,
        width=100,
    )
    if len(text) <= MOST_CHARACTERS:
        return text
    return text[:MOST_CHARACTERS] + "\n… the rest is in configuration.json"
