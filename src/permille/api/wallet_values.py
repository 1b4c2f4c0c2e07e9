"""Credits and notes in requests about wallets."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from permille.api.validation import Fields
from permille.core.wallet import cut_credits

NOTES_MAX = 5
NOTE_KEY_MAX, NOTE_VALUE_MAX = 20, 100
_CREDITS_MAX = Decimal(10) ** 15
_DIGITS_MAX = 60


def read_credits(fields: Fields, name: str) -> Decimal | None:
    """A text of a number that is not below zero, cut off after five decimals; None for none, or none at all."""
    value = fields.given.get(name)
    if value is None or value == "":
        return None
    try:
        found = Decimal(value) if isinstance(value, str) and len(value) <= _DIGITS_MAX else None
    except InvalidOperation:
        found = None
    if found is None or not found.is_finite() or not 0 <= found < _CREDITS_MAX:
        fields.refuse(name, f"invalid_{name}")
        fields.refuse(name, "invalid_amount")
        return None
    return cut_credits(found) or None


def read_notes(fields: Fields, name: str, *, most: int) -> list[dict[str, str]]:
    """A list of {key, value}."""
    entries = fields.objects(name) or []
    if len(entries) > most:
        fields.refuse(name, "invalid_count")
    return [
        {
            "key": entry.text("key", mandatory=True, limit=NOTE_KEY_MAX) or "",
            "value": entry.text("value", mandatory=True, limit=NOTE_VALUE_MAX) or "",
        }
        for entry in entries[:most]
    ]
