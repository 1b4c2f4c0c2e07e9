"""The properties that every model may have: the keys by which usage is split (semantics-metering.md 4.4, 4.5).

`pricing_group_keys` (once `grouped_by`) make groups that are priced apart; `presentation_group_keys` only show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from permille.core.record import Record

PRICING = "pricing_group_keys"
PRICING_ALIAS = "grouped_by"
PRESENTATION = "presentation_group_keys"
TARGET_WALLET = "target_wallet_code"
"""The property of events that names the wallet which pays for them."""
_PRESENTATION_MAX = 2


def clean(properties: Mapping[str, Any], priced_by: Sequence[str] = ()) -> dict[str, Any]:
    """The group keys alone, under their present names, without empty ones; those that a price depends on come first."""
    pricing = properties.get(PRICING) or properties.get(PRICING_ALIAS)
    if isinstance(pricing, list):
        pricing = [key for key in pricing if key != ""]
    if priced_by and (pricing is None or isinstance(pricing, list)):
        pricing = list(dict.fromkeys((*priced_by, *(pricing or ()))))
    kept = {PRICING: pricing, PRESENTATION: properties.get(PRESENTATION)}
    return {name: value for name, value in kept.items() if value}


def pricing_keys(properties: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys that split a bucket, in their order; of a key given twice, one."""
    return tuple(dict.fromkeys(clean(properties).get(PRICING, ())))


def with_wallet(keys: tuple[str, ...]) -> tuple[str, ...]:
    """The keys that split a bucket of a charge whose usage may name the wallet that pays for it."""
    return tuple(dict.fromkeys((*keys, TARGET_WALLET)))


class PresentationKeys(Record):
    """The properties by which a charge's lines are shown, and those of them that its invoices show."""

    names: tuple[str, ...] = ()
    on_invoice: tuple[str, ...] = ()


def presentation_keys(properties: Mapping[str, Any]) -> PresentationKeys:
    """The presentation keys in a charge's valid properties."""
    given = clean(properties).get(PRESENTATION, ())
    return PresentationKeys(
        names=tuple(entry["value"] for entry in given),
        on_invoice=tuple(
            entry["value"] for entry in given if (entry.get("options") or {}).get("display_in_invoice")
        ),
    )


def errors(properties: Mapping[str, Any]) -> list[str]:
    """Lago's codes for group keys that cannot be."""
    kept = clean(properties)
    pricing = kept.get(PRICING, [])
    are_texts = isinstance(pricing, list) and all(isinstance(key, str) for key in pricing)
    found = [] if are_texts else ["invalid_type"]
    return found + (_presentation_errors(kept[PRESENTATION]) if PRESENTATION in kept else [])


def _presentation_errors(keys: Any) -> list[str]:
    if not isinstance(keys, Sequence) or isinstance(keys, str) or not all(map(_is_presentation, keys)):
        return ["invalid_type"]
    found = ["too_many_keys"] if len(keys) > _PRESENTATION_MAX else []
    distinct = {entry["value"] for entry in keys}
    return found + (["value_is_duplicated"] if len(distinct) < len(keys) else [])


def _is_presentation(entry: Any) -> bool:
    if not isinstance(entry, Mapping) or not entry.keys() <= {"value", "options"}:
        return False
    if not (isinstance(entry.get("value"), str) and entry["value"]):
        return False
    options = entry.get("options")
    if options is None:
        return True
    is_flag = isinstance(options, Mapping) and options.keys() == {"display_in_invoice"}
    return is_flag and isinstance(options["display_in_invoice"], bool)
