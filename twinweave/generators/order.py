"""The order in which columns are written, where a generator writes one after the other."""

from __future__ import annotations

from twinweave.generators.union import UnionLayout
from twinweave.tables.column import Role

_OUTCOMES = (Role.CONVERSION, Role.VALUE, Role.LABEL)


def column_order(layout: UnionLayout) -> tuple[int, ...]:
    """Union columns in the order they are written: sensitive, shared, party by party, outcomes.

    Shared columns come before a party's own, so that what one party trains (its columns given
    the shared ones) is what sampling needs; the label is the very last. Without roles: shared
    first, then party by party.
    """
    roles = layout.roles or (Role.FEATURE,) * len(layout.sizes)

    def rank(column: int) -> tuple[bool, int, int, bool]:
        holders, role = layout.holders[column], roles[column]
        outcome = 1 + _OUTCOMES.index(role) if role in _OUTCOMES else 0
        block = 0 if len(holders) > 1 else 1 + holders[0]
        return role is not Role.SENSITIVE, outcome, block, role is not Role.MEMBERSHIP

    return tuple(sorted(range(len(layout.sizes)), key=rank))
