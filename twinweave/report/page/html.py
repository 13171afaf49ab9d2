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
_POWER = re.compile(r"\b(\d(?:\.\d+)?)e([+-]\d+)\b")
_PER_CENT = re.compile(r"(?<=\d) %")
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


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
    """With minus signs before numbers, where a hyphen stood for one, and powers of ten as such:
    1e-05 is 10⁻⁵."""
    if isinstance(text, Markup):
        return text
    return _PER_CENT.sub("%", _MINUS.sub("−", _POWER.sub(_power, text)))


def _power(found: re.Match[str]) -> str:
    factor, exponent = found.group(1), f"{int(found.group(2))}".translate(_RAISED)
    return f"10{exponent}" if factor == "1" else f"{factor} × 10{exponent}"


def _short(value: str | float) -> str:
    """Coordinates to a thousandth."""
    return value if isinstance(value, str) else f"{value:.3f}".rstrip("0").rstrip(".")
