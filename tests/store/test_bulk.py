"""The text forms of many values against PostgreSQL's own reading of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from permille.database.bulk import instant_array, int_array, line_text, text_array, uuid_array
from permille.ids import new_id_texts

TEXTS = (
    "",
    "plain",
    "NULL",
    "null",
    "{a,b}",
    'a "quoted" word',
    "back\\slash \\N \\t \\.",
    "tab\tnew\nline\rend",
    " spaces ",
    "‰ ü 漢字",
    "'; drop table fee; --",
    "\x01\x7f",
)
INSTANTS = (
    datetime.min.replace(tzinfo=UTC),
    datetime(2024, 2, 29, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(2024, 3, 1, 1, tzinfo=timezone(timedelta(hours=5, minutes=30))),
)


def _read(db: psycopg.Connection[Any], cast: str, literal: str) -> Any:
    row = db.execute(f"select %s::{cast}", [literal]).fetchone()
    assert row is not None
    return row[0]


def test_arrays_are_read_as_they_were_meant(db: psycopg.Connection[Any]) -> None:
    ids = [uuid4(), UUID(int=0)]
    assert _read(db, "text[]", text_array(TEXTS)) == list(TEXTS)
    assert _read(db, "bigint[]", int_array([0, -5, 2**62])) == [0, -5, 2**62]
    assert _read(db, "uuid[]", uuid_array(ids)) == ids
    assert _read(db, "timestamptz[]", instant_array([*INSTANTS, None])) == [*INSTANTS, None]
    assert _read(db, "text[]", text_array([])) == []


@pytest.mark.parametrize("text", [*TEXTS, None])
def test_a_line_keeps_any_text(db: psycopg.Connection[Any], text: str | None) -> None:
    db.execute("create temp table kept (before int, value text, after int)")
    with db.cursor().copy("copy kept from stdin") as copy:
        copy.write(f"1\t{line_text(text)}\t2\n")
    assert db.execute("select * from kept").fetchall() == [(1, text, 2)]


def test_many_ids_are_uuids_of_version_7_of_their_instant() -> None:
    ids = [UUID(text) for text in new_id_texts(INSTANTS[1], 1000)]
    assert len(set(ids)) == 1000
    assert {(each.version, each.variant) for each in ids} == {(7, "specified in RFC 4122")}
    assert {each.int >> 80 for each in ids} == {int(INSTANTS[1].timestamp() * 1000)}
    assert new_id_texts(INSTANTS[1], 0) == []
