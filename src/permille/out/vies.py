"""VIES, the European Union's register of VAT numbers: https://ec.europa.eu/taxation_customs/vies.

It answers whether a number is registered, or that it can't say: its members' registers are often away.
"""

from __future__ import annotations

from permille.core.eu_tax import VatNumber
from permille.core.record import Record
from permille.out.calls import CallError, Client

SECONDS = 10
BYTES_MAX = 50_000
TEXT_KEPT = 500
"""Characters of a name or an address in the register."""
NOT_SHOWN = "---"
"""Sent in place of names and addresses that a member state does not show."""
INVALID = frozenset({"INVALID", "INVALID_INPUT"})
"""All other errors leave it open whether the number is registered."""


class NoAnswerError(Exception):
    """Why it is not known whether a number is registered, in a sentence.

    `is_of_one_country` says that the register of one member state is the reason.
    """

    def __init__(self, reason: str, *, is_of_one_country: bool = False) -> None:
        super().__init__(reason)
        self.is_of_one_country = is_of_one_country


class Registration(Record, kw_only=True):
    """What the register says of a number; name and address where it shows them."""

    is_valid: bool
    name: str | None = None
    address: str | None = None


def look_up(client: Client, url: str, number: VatNumber) -> Registration:
    """Whether a number is registered. Raises NoAnswerError."""
    address = f"{url.rstrip('/')}/ms/{number.letters}/vat/{number.rest}"
    try:
        answer = client.call(
            "GET", address, headers={"Accept": "application/json"}, seconds=SECONDS, bytes_max=BYTES_MAX
        )
    except CallError as error:
        raise NoAnswerError(str(error)) from error
    found = answer.json_object()
    said = found.get("userError")
    if answer.status == 200 and found.get("isValid") is True:
        return Registration(is_valid=True, name=_text(found.get("name")), address=_text(found.get("address")))
    if answer.status == 200 and found.get("isValid") is False and said in INVALID:
        return Registration(is_valid=False)
    if isinstance(said, str):
        word = said.replace("\0", "")[:100]
        raise NoAnswerError(f"VIES says {word}.", is_of_one_country=said.startswith("MS_"))
    raise NoAnswerError(f"VIES answered {answer.status}, and nothing that is understood.")


def _text(value: object) -> str | None:
    """A name or an address as the register shows it, on one line for each of its own."""
    if not isinstance(value, str) or value.strip() in ("", NOT_SHOWN):
        return None
    return value.replace("\0", "").strip()[:TEXT_KEPT]
