"""Names of parties, datasets and columns: which are taken, and what files are called after them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from hashlib import sha256

from twinweave.errors import SchemaError

MOST_CHARACTERS = 200
"""Of a name: questions of a survey fit, whole texts do not."""

_MOST_BYTES = 60  # of a slug; file systems allow 255, and suffixes follow
_OTHER = re.compile(r"[^\w\- ]+")  # not a letter or digit of any script, "_", "-" or " "


def check_name(what: str, name: str) -> None:
    """Raise SchemaError unless a person could read the name off a page and type it in again."""
    if not name or name != name.strip():
        raise SchemaError(
            f"the name of {what} is empty or has blanks around it. Write one without them."
        )
    if not name.isprintable():
        raise SchemaError(
            f"the name of {what}, {shown(name)}, has characters that do not print (a tab, a line "
            "break, a zero-width sign). Rename it."
        )
    if len(name) > MOST_CHARACTERS:
        raise SchemaError(
            f"the name of {what}, {shown(name)}, has more than {MOST_CHARACTERS} characters. "
            "Shorten it."
        )


def shown(name: str) -> str:
    """A name from outside as an error quotes it: one line, not long."""
    return ascii(name if len(name) <= 40 else f"{name[:37]}...")


def slug(name: str) -> str:
    """What a file or folder is called after a name: no separators, no dots, not long.

    A name of letters, digits, "_", "-" and inner blanks stays as it is. Any other one gets a hash
    behind it, so that two names never share a file.
    """
    kept = _OTHER.sub("-", unicodedata.normalize("NFC", name)).strip("- ")
    kept = kept.encode()[:_MOST_BYTES].decode(errors="ignore").strip("- ")
    return (
        kept
        if kept and kept == name
        else f"{kept or 'name'}-{sha256(name.encode()).hexdigest()[:8]}"
    )


def slugs(names: Iterable[str], *, taken: Iterable[str] = ()) -> dict[str, str]:
    """{name: its slug}, apart from each other and from `taken` where case does not count."""
    used = {t.casefold() for t in taken}
    made = {}
    for name in names:
        made[name] = slug(name)
        while made[name].casefold() in used:
            made[name] += "_"
        used.add(made[name].casefold())
    return made
