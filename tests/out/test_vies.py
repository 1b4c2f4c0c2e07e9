"""What the register of VAT numbers answers, and what it leaves open."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from permille.core.eu_tax import VatNumber
from permille.out.calls import Answer, CallError
from permille.out.vies import NoAnswerError, Registration, look_up

NUMBER = VatNumber(country="GR", rest="094259216")


class Asked:
    """Answers every call alike."""

    def __init__(self, body: Any, status: int = 200) -> None:
        self.body, self.status = body, status
        self.urls: list[str] = []

    def call(self, _method: str, url: str, **_: Any) -> Answer:
        self.urls.append(url)
        if isinstance(self.body, Exception):
            raise self.body
        body = self.body if isinstance(self.body, bytes) else msgspec.json.encode(self.body)
        return Answer(status=self.status, headers={}, body=body, is_whole=True, is_from_inside=False)


def asked(body: Any, status: int = 200) -> Registration:
    client: Any = Asked(body, status)
    found = look_up(client, "https://vies.example/rest-api/", NUMBER)
    assert client.urls == ["https://vies.example/rest-api/ms/EL/vat/094259216"]
    return found


def test_a_number_is_registered_or_not() -> None:
    shown = {"isValid": True, "userError": "VALID", "name": " ΑΛΦΑ\n", "address": "---"}
    assert asked(shown) == Registration(is_valid=True, name="ΑΛΦΑ")
    for error in ("INVALID", "INVALID_INPUT"):
        assert asked({"isValid": False, "userError": error}) == Registration(is_valid=False)


@pytest.mark.parametrize(
    ("body", "status", "of_one_country"),
    [
        ({"isValid": False, "userError": "MS_UNAVAILABLE"}, 200, True),
        ({"isValid": False, "userError": "MS_MAX_CONCURRENT_REQ_TIME"}, 200, True),
        ({"isValid": False, "userError": "GLOBAL_MAX_CONCURRENT_REQ"}, 200, False),
        ({"isValid": False, "userError": "TIMEOUT"}, 200, False),
        ({"isValid": False, "userError": "A new one"}, 200, False),
        ({"isValid": True, "userError": "VALID"}, 500, False),
        ({"isValid": "yes"}, 200, False),
        ([], 200, False),
        (b"<html>", 200, False),
        (b"\xff", 503, False),
        (b"[" * 50_000, 200, False),
        (b'{"isValid": ' * 4_000, 200, False),
        ({"isValid": False, "userError": "MS_\0"}, 200, True),
        (CallError("No answer within 10 seconds."), 200, False),
    ],
)
def test_anything_else_leaves_it_open(body: Any, status: int, of_one_country: bool) -> None:
    with pytest.raises(NoAnswerError) as raised:
        asked(body, status)
    assert raised.value.is_of_one_country is of_one_country
    assert str(raised.value).endswith(".")
    assert "\0" not in str(raised.value)
