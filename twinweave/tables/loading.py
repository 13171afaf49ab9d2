"""A party's table from its source to codes, some rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from twinweave.errors import AppError, unquoted
from twinweave.tables.cleaning import Cleaned, Cleaning, CleaningReport, clean
from twinweave.tables.encoding import EncodedTable, Encoding
from twinweave.tables.schema import Schema
from twinweave.tables.sources import Source, read_parts, read_table
from twinweave.tables.streams import CELLS


def load_party(source: Source, schema: Schema, party: str) -> EncodedTable:
    """Read, clean and encode a party's table. Raises AppErrors that name the party."""
    return load_reported(source, schema, party)[0]


def load_reported(
    source: Source, schema: Schema, party: str, cells: int = CELLS
) -> tuple[EncodedTable, CleaningReport]:
    """`load_party`, and what cleaning changed. Raises AppErrors that name the party.

    The table is read some `cells` cells at a time: of what was read, codes, amounts and ids stay.
    """
    cleaning, coded = Cleaning(schema), Encoding(schema)
    with _named(party):
        for part in read_parts(source, schema, cells):
            typed = cleaning.add(part)
            if typed is not None:
                coded.add(typed)
        report = cleaning.finish()
    return coded.table(cleaning.ids[cleaning.kept]), report


def load_cleaned(source: Source, schema: Schema, party: str) -> Cleaned:
    """Read and clean a party's table, report included. Raises AppErrors that name the party."""
    with _named(party):
        return clean(read_table(source, schema), schema)


@contextmanager
def _named(party: str) -> Iterator[None]:
    with unquoted():
        try:
            yield
        except AppError as error:
            raise error.at(party) from None
