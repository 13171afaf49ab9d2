"""HTML out of templates that stand beside the code that fills them.

Templates are strings: a bundle of the application carries Python, and no HTML. Everything that is
put into one is escaped, but for `Markup`.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup, escape

_MINUS = re.compile(r"(?<![\w-])-(?=\.?\d)")


@cache
def _environment() -> Environment:
    found = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    found.filters["figures"] = figures
    return found


@cache
def _template(text: str) -> Template:
    return _environment().from_string(text)


def render(template: str, **values: Any) -> Markup:
    """The template with its values; a name that it lacks raises jinja2's UndefinedError."""
    return Markup(_template(template).render(**values))


def element(name: str, content: str | Markup = "", /, **attributes: str | float | None) -> Markup:
    """<name ...>content</name>. class_ is class, stroke_width is stroke-width; None is left out."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_short(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{given}>{escape(content)}</{name}>")


def figures(text: str) -> str:
    """With minus signs before numbers, where a hyphen stood for one."""
    return text if isinstance(text, Markup) else _MINUS.sub("−", text)


def _short(value: str | float) -> str:
    """Coordinates to a thousandth."""
    return value if isinstance(value, str) else f"{value:.3f}".rstrip("0").rstrip(".")
