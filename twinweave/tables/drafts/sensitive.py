"""Which columns are called like traits that law or decency protects. Guesses, for a person."""

from __future__ import annotations

import re
from collections.abc import Iterable

_TRAITS = {
    "sex or gender": r"sex|gender|male|female",
    "age": r"age|birth\w*|dob|yob",
    "race or origin": r"rac(e|ial)|ethnic\w*|origin|native\w*|nationality|citizen\w*|foreign\w*|"
    r"immigra\w*|migra\w*|tribe|caste",
    "religion": r"religio\w*|faith|church",
    "health or disability": r"disab\w*|handicap\w*|pregnan\w*",
    "family": r"marital\w*|married|marriage|family|relationship|guardian|pstatus|dependents?",
    "orientation": r"orientation|lgbt\w*",
    "income or class": r"income|salary|wage|poverty|welfare",
    "language": r"language|tongue|accent",
    "politics or union": r"politic\w*|union|veteran",
    "place": r"zip\w*|postal\w*|postcode|neighbou?rhood|district",
}
_WORDS = {
    trait: re.compile(rf"(^|[\W_\d])({words})($|[\W_\d])", re.IGNORECASE)
    for trait, words in _TRAITS.items()
}


def sensitive_by_name(names: Iterable[str]) -> dict[str, str]:
    """{column: the trait it seems to tell}, in order. Names alone: no row is looked at."""
    found = {}
    for name in names:
        spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)
        trait = next((t for t, word in _WORDS.items() if word.search(spaced)), None)
        if trait is not None:
            found[name] = trait
    return found


def sensitive_note(names: Iterable[str]) -> str | None:
    """A line that asks a person which of these columns are sensitive; None where none looks so."""
    found = sensitive_by_name(names)
    if not found:
        return None
    told = ", ".join(f"{name} ({trait})" for name, trait in found.items())
    return (
        f"these columns look sensitive by their names: {told}. CONFIRM: give those that are "
        "`role: sensitive`, and declare `fairness`"
    )
