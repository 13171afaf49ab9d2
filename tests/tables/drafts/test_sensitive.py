"""Names of columns that look sensitive."""

from __future__ import annotations

from twinweave.tables.drafts.sensitive import sensitive_by_name, sensitive_note


def test_traits_are_told_by_whole_words() -> None:
    names = [
        "sex",
        "marital_status",
        "userAge",
        "native_country",
        "page",
        "usage",
        "essex",
        "spend",
    ]
    assert sensitive_by_name(names) == {
        "sex": "sex or gender",
        "marital_status": "family",
        "userAge": "age",
        "native_country": "race or origin",
    }
    assert sensitive_note(["spend"]) is None
    assert "CONFIRM" in str(sensitive_note(["sex"]))
