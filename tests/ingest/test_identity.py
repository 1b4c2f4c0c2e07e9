"""Identities: which begin with a time, what that is, and that everything else of them is as it was without."""

from __future__ import annotations

import random
from hashlib import blake2b
from uuid import UUID

import psycopg
import pytest

from permille.core.instants import microseconds
from permille.events.draft import Draft
from permille.events.identity import (
    ORDERED_FROM,
    ORDERED_UNTIL,
    event_identities,
    transaction_identity,
    transaction_range,
)
from permille.events.log import Request
from permille.events.postgres import amendments, events
from permille.events.postgres.writer import Memory, open_connection, store
from permille.store import organizations
from tests.ingest.test_writer import NOW
from tests.ingest.timed_ids import ids, is_in_order, timed_id, ulid, uuid7

ORGANIZATION = bytes(range(16))
WRITTEN_DOWN = {
    "t": "4f5cae18690c6348403be20504af8bad",
    "0199fedc-ba98-7abc-9def-0123456789ab": "c29571519607d4149a449854f8171930",
    "01a2b3c4-d5e6-4abc-9def-0123456789ab": "b08da245f4c42ea95e7506f265f3abf9",
    "01a2b3c4-d5e6-7abc-9def-0123456789ab": "01a2b3c4d5e6071fb09e78f6d2ea4450",
    "01A2B3C4D5E67ABC9DEF0123456789AB": "01a2b3c4d5e6715fd3d11d7abdb348d2",
    "01KF00000123456789ABCDEFGH": "9d0b028bcb9df95464608fa95ca5e021",
    "01N8A7ZZ00V3RS3DTR98H6BCFN": "01aa147ffc00fcef4cccd5314bd0e7c0",
    "01n8a7zz00v3rs3dtr98h6bcfn": "01aa147ffc0085b68d75fa05ec3d347c",
    "06a2b3c4-d5e6-7abc-9def-0123456789ab": "499f9fccd1b9745d1894942f53a5511e",
}


def identity(transaction_id: str, subscription: str = "s") -> bytes:
    (found,) = event_identities(ORGANIZATION, [subscription], [transaction_id])
    return found


def unordered(transaction_id: str, subscription: str = "s") -> bytes:
    """As it was before there was an order."""
    digest = blake2b(ORGANIZATION + transaction_id.encode(), digest_size=16).digest()
    of_subscription = blake2b(subscription.encode(), digest_size=8).digest()
    return digest[:8] + bytes(a ^ b for a, b in zip(digest[8:], of_subscription, strict=True))


def test_ids_written_down_have_these_identities_for_ever() -> None:
    """If one of them changed, repeats of events that are stored would be counted."""
    assert {text: identity(text).hex() for text in WRITTEN_DOWN} == WRITTEN_DOWN
    claim = transaction_identity(ORGANIZATION, "01a2b3c4-d5e6-7abc-9def-0123456789ab")
    assert claim.hex() == "72911dc9e7a2071f56d7fc3578252a8e"


@pytest.mark.parametrize(
    "milliseconds", [ORDERED_FROM - 1, ORDERED_FROM, 1_830_000_000_000, ORDERED_UNTIL - 1, ORDERED_UNTIL]
)
def test_the_time_of_an_id_is_the_beginning_of_its_identity(milliseconds: int) -> None:
    chance = random.Random(milliseconds)
    for _ in range(50):
        text = timed_id(chance, milliseconds)
        if is_in_order(milliseconds):
            assert identity(text) == milliseconds.to_bytes(6, "big") + unordered(text)[6:]
        else:
            assert identity(text) == unordered(text)


def test_ids_in_order_have_identities_in_order() -> None:
    chance = random.Random(1)
    texts = [timed_id(chance, ORDERED_FROM + number) for number in range(300)]
    assert [identity(text) for text in texts] == sorted(identity(text) for text in texts)


@pytest.mark.parametrize(
    "text",
    [
        "01a2b3c4-d5e6-4abc-9def-0123456789ab",  # version 4
        "01a2b3c4-d5e6-7abc-cdef-0123456789ab",  # another variant
        "01a2b3c4-d5e6-7abc-9def0123456789ab",
        "01a2b3c4d5e6-7abc-9def-0123456789ab0",
        "{01a2b3c4-d5e6-7abc-9def-0123456789ab}",
        "01a2b3c4-d5e6-7abc-9def-0123456789ab\n",
        "01a2b3c4-d5e6-7abc-9def-0123456789a\u0663",
        "0_a2b3c4-d5e6-7abc-9def-0123456789ab",
        "81A2B3C4D5E6F7G8H9J0K1M2N3",  # beyond 48 bits
        "01A2B3C4D5E6F7G8H9J0K1M2NU",
        "01A2B3C4D5E6F7G8H9J0\u212a1M2N3",
        "01a2b3c4",
        "",
    ],
)
def test_other_ids_have_no_time(text: str) -> None:
    assert identity(text) == unordered(text)


def test_every_identity_lies_in_the_range_of_its_transaction() -> None:
    for text in ids(random.Random(2), 400):
        first, last = transaction_range(ORGANIZATION, text)
        both = [UUID(bytes=each) for each in (identity(text), identity(text, "other"))]
        (alone,) = event_identities(ORGANIZATION, [None], [text])
        assert all(first <= each <= last for each in [*both, UUID(bytes=alone)])
        assert len({*both, UUID(bytes=alone)}) == 3


def test_other_organizations_subscriptions_and_ids_of_one_millisecond_have_others() -> None:
    chance = random.Random(3)
    texts = [timed_id(chance, ORDERED_FROM) for _ in range(2_000)]
    found = {
        identity
        for organization in (ORGANIZATION, bytes(16))
        for subscription in ("a", "b")
        for identity in event_identities(organization, [subscription] * len(texts), texts)
    }
    assert len(found) == 4 * len(texts)


def test_what_lies_in_the_range_of_another_transaction_is_not_found_under_its_id(
    dsn: str, db: psycopg.Connection[tuple[object, ...]]
) -> None:
    """Events of one millisecond share their beginning once in 65,536; a replacement has its event's transaction id."""
    made = organizations.add(db, name="O", test_now=None, entity={}, now=NOW)
    db.commit()
    chance, places = random.Random(4), dict[UUID, str]()
    alike: list[str] = []
    while not alike:
        text = str(uuid7(ORDERED_FROM, chance))
        first, _ = transaction_range(made.id.bytes, text)
        alike = [places[first], text] if first in places else []
        places[first] = text
    sent = microseconds(NOW)
    absent = ulid(ORDERED_FROM, chance)
    conn = open_connection(dsn)
    for number, text in enumerate(alike):
        one = Request(made.id, [Draft(text, "c", "s", sent, None, {"n": number})], sent)
        store(conn, Memory(), [one])
        assert one.duplicates == []
    assert events.known_transactions(db, made.id, [*alike, absent]) == set(alike)
    found = [events.by_transaction_id(db, organization_id=made.id, transaction_id=text) for text in alike]
    assert [each and each.properties for each in found] == [{"n": 0}, {"n": 1}]
    first, _ = transaction_range(made.id.bytes, alike[0])
    beside = UUID(int=first.int + 1)
    db.execute(
        "insert into event_amendment (id, organization_id, transaction_id, event_identity, event_transaction_id,"
        " external_subscription_id, kind, reason, created_at) values (%s, %s, 'a', %s, %s, 's', 'replace', 'r', now())",
        [beside, made.id, found[0].identity if found[0] else None, alike[0]],
    )
    db.execute(
        "insert into event (series_id, at, created_at, identity, transaction_id)"
        " select series_id, at + interval '1 hour', created_at, %s, transaction_id from event where transaction_id = %s",
        [beside, alike[0]],
    )
    sent_events = amendments.sent_events(db, made.id, alike)
    assert [len(each) for each in sent_events] == [1, 1]
    assert events.by_transaction_id(db, organization_id=made.id, transaction_id=alike[0]) == found[0]
