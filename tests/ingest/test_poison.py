"""What is wrong with one request is that request's alone: a group is halved, and nobody waits for another's locks."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any
from uuid import UUID

import psycopg
import pytest

from permille.core.metering.encoding import encode
from permille.database.connections import Limits, open_pool
from permille.events.draft import Draft
from permille.events.engine import event_log
from permille.events.log import ChangingError, Request, UnacceptableError
from permille.events.postgres import writer as writing
from permille.events.postgres.metering import INGESTION_LOCK, new_version
from permille.ingest import queue
from tests.live import PATIENCE_SECONDS

from .test_asgi import Client, event, keys, post, talk

__all__ = ["keys"]
NUMBER = 41


async def post_as(client: Client, key: str, name: str) -> tuple[int, float]:
    """The status, and how long it took."""
    begun = time.monotonic()
    body = json.dumps({"event": event(name)}).encode()
    answer = await client.post(
        "/api/v1/events", content=body, headers={"Authorization": f"Bearer {key}"}, timeout=PATIENCE_SECONDS
    )
    return answer.status_code, time.monotonic() - begun


def poison(db: psycopg.Connection[Any], code: str) -> None:
    """The database refuses the event `poison` for such a reason."""
    db.execute(
        "create function refuse() returns trigger language plpgsql as $$ begin"
        f" if new.transaction_id = 'poison' then raise exception 'refused' using errcode = '{code}'; end if;"
        " return new; end $$"
    )
    db.execute("create trigger refuse before insert on event for each row execute function refuse()")
    db.commit()


@pytest.mark.parametrize("code", ["22003", "54000", "23514"])
def test_a_poisoned_group_is_halved_until_the_guilty_request_is_alone(
    dsn: str, db: Any, keys: dict[str, str], code: str
) -> None:
    poison(db, code)

    async def conversation(client: Client) -> None:
        names = [f"t{number}" if number != 17 else "poison" for number in range(NUMBER)]
        answers = await asyncio.gather(*(post(client, "", {"event": event(name)}) for name in names))
        refused = {
            name: answer for name, answer in zip(names, answers, strict=True) if answer.status_code != 200
        }
        assert list(refused) == ["poison"]
        assert refused["poison"].status_code == 422
        assert refused["poison"].json()["error_details"] == {"event": ["cannot_be_stored"]}
        batch = await post(client, "/batch", {"events": [event("b1"), event("poison")]})
        assert (batch.status_code, batch.json()["error_details"]) == (
            422,
            {"1": {"event": ["cannot_be_stored"]}},
        )
        assert (await post(client, "", {"event": event("after")})).status_code == 200

    talk(dsn, keys["live"], conversation)
    assert db.execute("select count(*) from event").fetchone() == (NUMBER,)


@pytest.mark.parametrize("place", [0, 5, 6])
def test_a_batch_that_cannot_be_stored_names_its_event(
    dsn: str, db: Any, keys: dict[str, str], place: int
) -> None:
    """Beside events that are stored already, and of series that are new; nothing of it is stored."""
    poison(db, "22003")

    async def conversation(client: Client) -> None:
        await post(client, "", {"event": event("again")})
        names = ["a", "b", "c", "d", "e", "f"]
        names.insert(place, "poison")
        sent = [event(name, properties={"n": 1}, external_subscription_id=name) for name in names]
        answer = await post(client, "/batch", {"events": sent})
        assert answer.json()["error_details"] == {str(place): {"event": ["cannot_be_stored"]}}
        answer = await post(client, "/batch", {"events": [*sent, event("again")]})
        assert answer.json()["error_details"] == {str(place): {"event": ["cannot_be_stored"]}}
        sent.pop(place)
        assert (await post(client, "/batch", {"events": sent})).status_code == 200

    talk(dsn, keys["live"], conversation)
    assert db.execute("select count(*), count(distinct series_id) from event").fetchone() == (7, 7)


def test_a_batch_of_which_no_event_is_refused_by_itself_is_refused_as_a_whole(
    dsn: str, db: Any, keys: dict[str, str]
) -> None:
    db.execute(
        "create function refuse() returns trigger language plpgsql as $$ begin"
        " if (select count(*) from fresh) > 1 then raise exception 'too many' using errcode = '54000'; end if;"
        " return null; end $$"
    )
    db.execute(
        "create trigger refuse after insert on event referencing new table as fresh"
        " for each statement execute function refuse()"
    )
    db.commit()

    async def conversation(client: Client) -> None:
        answer = await post(client, "/batch", {"events": [event(name) for name in "abc"]})
        assert answer.json()["error_details"] == {"events": ["cannot_be_stored"]}

    talk(dsn, keys["live"], conversation)


@pytest.mark.parametrize("error", [ValueError("a bug"), OverflowError(), KeyError("x"), ArithmeticError()])
def test_what_cannot_even_be_encoded_is_alone_too(
    dsn: str, db: Any, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    real = encode

    def failing(how: Any, properties: Any) -> Any:
        if properties.get("poison"):
            raise error
        return real(how, properties)

    monkeypatch.setattr("permille.events.postgres.writer.encode", failing)

    async def conversation(client: Client) -> None:
        bodies = [{"event": event(f"t{number}", properties={"poison": number == 5})} for number in range(20)]
        answers = await asyncio.gather(*(post(client, "", body) for body in bodies))
        assert [answer.status_code for answer in answers] == [422 if n == 5 else 200 for n in range(20)]

    talk(dsn, keys["live"], conversation, accelerator="off")
    assert db.execute("select count(*) from event").fetchone() == (19,)


def test_a_change_of_metering_holds_up_no_other_organization(
    dsn: str, db: Any, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "CHANGING_SECONDS", 1.0)
    (changing,) = db.execute("select id from organization where name = 'live'").fetchone()
    db.commit()

    async def conversation(client: Client) -> None:
        await post_as(client, keys["test"], "warm")
        with psycopg.connect(dsn) as holder:
            new_version(holder, changing)  # and hangs
            for attempt in range(2):
                own, other = await asyncio.gather(
                    post_as(client, keys["live"], f"own{attempt}"),
                    post_as(client, keys["test"], f"other{attempt}"),
                )
                assert own[0] == 503
                assert other[0] == 200
                assert other[1] < 1 <= own[1] < 10
            waiting = asyncio.create_task(post_as(client, keys["live"], "own2"))
            await asyncio.sleep(0.3)
            holder.rollback()
        assert (await waiting)[0] == 200

    talk(dsn, keys["live"], conversation)


def test_a_session_that_holds_the_lock_of_all_inserts_and_hangs_stops_nothing_for_long(
    dsn: str, db: Any, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "LIMITS", "select set_config('lock_timeout', '300ms', false)")

    async def conversation(client: Client) -> None:
        with open_pool(dsn, size=1, name="hangs", limits=Limits(idle=4)) as pool:
            holder = pool.getconn()
            holder.execute("select pg_advisory_xact_lock(%s)", [INGESTION_LOCK])
            status, seconds = await post_as(client, keys["live"], "during")
            assert status == 503
            assert seconds < 4
            end = time.monotonic() + PATIENCE_SECONDS
            while (await post_as(client, keys["live"], "after"))[0] != 200:
                assert time.monotonic() < end
            holder.close()
            pool.putconn(holder)

    talk(dsn, keys["live"], conversation)


def test_a_writer_says_whose_metering_is_being_changed(dsn: str, db: Any, keys: dict[str, str]) -> None:
    (live,), (test,) = db.execute("select id from organization order by name").fetchall()
    db.commit()

    def request(owner: UUID, name: str) -> Request:
        return Request(owner, [Draft(name, "c", "s", 0, None, {})], 0)

    async def append() -> None:
        (writer,) = event_log.writers(dsn, 1, series_bytes=1_000_000, is_accelerated=True)
        with psycopg.connect(dsn) as holder:
            new_version(holder, live)
            with pytest.raises(ChangingError) as changing:
                await writer.append([request(test, "a"), request(live, "b")])
            assert changing.value.organization_ids == {live}
        poison(db, "22003")
        with pytest.raises(UnacceptableError):
            await writer.append([request(test, "poison")])
        await writer.append([request(test, "a")])
        await writer.close()

    asyncio.run(append())
    assert db.execute("select transaction_id from event").fetchall() == [("a",)]
