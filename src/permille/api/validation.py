"""Reading a request's fields: whatever JSON they hold, the answer is a typed value or a code under the field's name.

A reader never raises for a bad value. It collects every problem, and `check` refuses them all at once, as
Lago does. Whatever a reader returns fits its column: texts without NUL and of bounded length, integers of 64
bits, instants that every timezone can hold.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, time
from decimal import ROUND_HALF_UP, Decimal
from functools import cache
from typing import Any
from uuid import UUID
from zoneinfo import available_timezones

from babel import Locale
from starlette.datastructures import QueryParams

from permille.core.bounds import EARLIEST, LATEST
from permille.core.errors import Invalid
from permille.core.instants import parse_instant
from permille.core.mail import are_addresses
from permille.core.money import CURRENCIES, exact
from permille.out.pdf.language import LANGUAGES, known_locale

BIGINT_MAX = 2**63 - 1
SHORT_TEXT = 255  # codes, external ids, names: they are indexed
LONG_TEXT = 10_000
ITEMS_MAX = 1_000
ALLOWED_MAX = 200  # currencies are listed, timezones are not
DAYS_MAX = 9_999  # terms and grace periods

MANDATORY = "value_is_mandatory"
INVALID = "value_is_invalid"
DUPLICATED = "value_is_duplicated"
OUT_OF_RANGE = "value_is_out_of_range"
TOO_LONG = "value_is_too_long"
NOT_SUPPORTED_YET = "not_supported_yet"
FIXED = "cannot_be_changed"

_WHOLE_TEXT = re.compile(r"[+-]?[0-9]{1,19}")
_DECIMAL_TEXT = re.compile(r"[+-]?[0-9]{1,19}(\.[0-9]{1,19})?")
_NO_COUNTRIES = {"EU", "EZ", "QO", "UN", "XA", "XB", "ZZ"}
"""Groups of countries, and places that are none."""
_FLAGS = {True: True, False: False, "true": True, "false": False}


@cache
def timezones() -> frozenset[str]:
    """Every name of a timezone; made when first asked for, which reads the whole database of timezones."""
    return frozenset(available_timezones())


@cache
def country_codes() -> frozenset[str]:
    """Two letters of ISO 3166 each; made when first asked for, which loads 5 MiB of names."""
    codes = (code for code in map(str, Locale("en").territories) if re.fullmatch("[A-Z]{2}", code))
    return frozenset(codes) - _NO_COUNTRIES


class FinerAmount(str):
    """An amount as it was typed that has more decimals than its currency: where it is refused, that is why."""

    __slots__ = ("problem",)
    problem: str

    @classmethod
    def than(cls, text: str, unit: str, places: int) -> FinerAmount:
        """`unit` is what it is in: USD, or credits."""
        made = cls(text)
        most = (
            f"at most {places} decimals" if places > 1 else "at most 1 decimal" if places else "no decimals"
        )
        made.problem = f"Amounts in {unit} have {most}, and {text} has more"
        return made


def problem_of(value: Any, code: str) -> str:
    """Why the value is refused: the code, unless it was typed too finely."""
    return value.problem if isinstance(value, FinerAmount) else code


class Fields:
    """Typed reading of one JSON object; problems gather in `errors`, under the names of the fields."""

    def __init__(self, given: Mapping[str, Any], around: Fields | None = None) -> None:
        """With `around`, problems gather there: the object is a part of that one."""
        self.given = given
        self.errors: dict[str, list[str]] = {} if around is None else around.errors
        self.allowed: dict[str, tuple[str, ...]] = {} if around is None else around.allowed

    def has(self, name: str) -> bool:
        return name in self.given

    def refuse(self, name: str, code: str, *, allowed: Collection[str] = ()) -> None:
        """Note a problem; `allowed` are the values that the field takes, when they are a closed set."""
        self.errors.setdefault(name, []).append(problem_of(self.given.get(name), code))
        if 0 < len(allowed) <= ALLOWED_MAX:
            self.allowed[name] = tuple(allowed)

    def refuse_repeated(self, name: str, texts: Iterable[str]) -> None:
        """Note that texts are there more than once, by name."""
        counts = Counter(texts)
        again = [text for text, count in counts.items() if count > 1]
        for text in again[:ALLOWED_MAX]:
            self.refuse(name, f"“{text}” is there {counts[text]} times")
        if again:
            self.errors[name].insert(0, DUPLICATED)

    def check(self) -> None:
        """Raises Invalid when anything that was read so far is wrong."""
        if self.errors:
            raise Invalid(self.errors, allowed=self.allowed)

    def text(self, name: str, *, mandatory: bool = False, limit: int = SHORT_TEXT) -> str | None:
        """A text; a whole number counts as its digits, as in Lago."""
        value = self.given.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= BIGINT_MAX:
            value = str(value)
        if value is None or value == "":
            if mandatory:
                self.refuse(name, MANDATORY)
            return value
        if not isinstance(value, str) or "\0" in value:
            self.refuse(name, INVALID)
            return None
        if len(value) > limit:
            self.refuse(name, TOO_LONG)
            return None
        if mandatory and not value.strip():
            self.refuse(name, MANDATORY)
        return value

    def email(self, name: str, *, before: str | None = None) -> str | None:
        """An address of mail, or several with commas between them; what was there before is taken as it is."""
        text = self.text(name, limit=LONG_TEXT)
        if text and text != before and not are_addresses(text):
            self.refuse(name, "invalid_email_format")
        return text

    def whole(
        self, name: str, *, minimum: int = -BIGINT_MAX, maximum: int = BIGINT_MAX, code: str = OUT_OF_RANGE
    ) -> int | None:
        """An integer within the bounds; `12`, `12.0` and `"12"` are the same."""
        value = self.given.get(name)
        if value is None:
            return None
        if isinstance(value, str) and _WHOLE_TEXT.fullmatch(value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int | Decimal):
            self.refuse(name, INVALID)
            return None
        # The bounds come before the conversion: 1e999999 has a million digits.
        if not minimum <= value <= maximum:
            self.refuse(name, code)
            return None
        if value != int(value):
            self.refuse(name, INVALID)
            return None
        return int(value)

    def decimal(self, name: str, *, minimum: int, maximum: int, places: int = 9) -> Decimal | None:
        """A number, or its text, within the bounds, rounded to so many decimals, half away from zero."""
        value = self.given.get(name)
        if value is None:
            return None
        if isinstance(value, FinerAmount):
            self.refuse(name, INVALID)
            return None
        if isinstance(value, str) and _DECIMAL_TEXT.fullmatch(value):
            value = Decimal(value)
        if isinstance(value, bool) or not isinstance(value, int | Decimal):
            self.refuse(name, INVALID)
            return None
        if not minimum <= value <= maximum:
            self.refuse(name, OUT_OF_RANGE)
            return None
        with exact():
            return Decimal(value).quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)

    def flag(self, name: str) -> bool | None:
        value = self.given.get(name)
        if value is None:
            return None
        if not isinstance(value, bool | str) or value not in _FLAGS:
            self.refuse(name, INVALID, allowed=("true", "false"))
            return None
        return _FLAGS[value]

    def choice(
        self, name: str, allowed: Collection[str], *, mandatory: bool = False, code: str = INVALID
    ) -> str | None:
        """One of a closed set of texts; an empty text is none."""
        value = self.given.get(name)
        if value in (None, "") and not mandatory:
            return None
        if not isinstance(value, str) or value not in allowed:
            self.refuse(name, code, allowed=allowed)
            return None
        return value

    def choices(self, name: str, allowed: Collection[str]) -> list[str] | None:
        """A list of texts of a closed set, each once."""
        found = self.texts(name)
        if found is not None and not set(found) <= set(allowed):
            self.refuse(name, INVALID, allowed=allowed)
            return None
        return None if found is None else list(dict.fromkeys(found))

    def currency(self, name: str, *, mandatory: bool = False) -> str | None:
        return self.choice(name, CURRENCIES, mandatory=mandatory)

    def timezone(self, name: str) -> str | None:
        return self.choice(name, timezones())

    def country(self, name: str) -> str | None:
        """Two letters of ISO 3166."""
        value = self.text(name)
        if not value:
            return None
        if value.upper() not in country_codes():
            self.refuse(name, INVALID)
            return None
        return value.upper()

    def document_locale(self, name: str) -> str | None:
        """A language that documents can be in, or a regional variant of it."""
        value = self.text(name)
        if not value:
            return None
        found = known_locale(value)
        if found is None:
            self.refuse(name, INVALID, allowed=LANGUAGES)
        return found

    def instant(self, name: str, *, code: str = "invalid_date") -> datetime | None:
        """An ISO 8601 date or date-time of the years 1900 to 2199."""
        value = self.given.get(name)
        if value is None or value == "":
            return None
        found = parse_instant(value)
        if found is None or not EARLIEST <= found < LATEST:
            self.refuse(name, code)
            return None
        return found

    def uuid(self, name: str) -> UUID | None:
        """An id of ours; None for anything that cannot be one, which is then not found."""
        return parse_uuid(self.given.get(name))

    def nested(self, name: str) -> Fields | None:
        """The object under a name, read with its problems gathered here, flat, as Lago does."""
        value = self.given.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            self.refuse(name, INVALID)
            return None
        return Fields(value, self)

    def objects(self, name: str, *, limit: int = ITEMS_MAX) -> list[Fields] | None:
        """A list of objects, each read with its problems gathered here."""
        value = self.given.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            self.refuse(name, INVALID)
            return None
        if len(value) > limit:
            self.refuse(name, OUT_OF_RANGE)
            return None
        return [Fields(item, self) for item in value]

    def texts(self, name: str, *, limit: int = ITEMS_MAX) -> list[str] | None:
        """A list of texts."""
        value = self.given.get(name)
        if value is None:
            return None
        found = plain_texts(value)
        if found is None:
            self.refuse(name, INVALID)
            return None
        if len(found) > limit:
            self.refuse(name, OUT_OF_RANGE)
            return None
        return found

    def refuse_unbuilt(self, *names: str) -> None:
        """Refuse features that do not exist yet; nothing, empty, zero and false ask for none of them."""
        for name in names:
            if self.given.get(name):
                self.refuse(name, NOT_SUPPORTED_YET)

    def refuse_changed(self, **known: Any) -> None:
        """Refuse other values of what stays as it is; null and the same value ask for nothing."""
        for name, value in known.items():
            if self.given.get(name) not in (None, value):
                self.refuse(name, FIXED)

    def grace_period(self) -> int | None:
        """`invoice_grace_period` in days."""
        return self.whole("invoice_grace_period", minimum=0, maximum=DAYS_MAX)


def plain_texts(value: Any) -> list[str] | None:
    """A JSON list of short texts, None when it is anything else."""
    if not isinstance(value, list):
        return None
    fine = all(isinstance(item, str) and len(item) <= SHORT_TEXT and "\0" not in item for item in value)
    return value if fine else None


def storable(value: Any, *, depth: int = 8) -> bool:
    """Whether JSON can be kept as it is: no NUL, no deep nesting, no endless texts or lists."""
    if isinstance(value, str):
        return len(value) <= LONG_TEXT and "\0" not in value
    if isinstance(value, list | dict):
        if depth == 0 or len(value) > ITEMS_MAX:
            return False
        names: Collection[Any] = value if isinstance(value, dict) else ()
        items = value.values() if isinstance(value, dict) else value
        return all(storable(item, depth=depth - 1) for item in (*names, *items))
    return True


def parse_uuid(value: Any) -> UUID | None:
    """A UUID of a text, None when it is none."""
    if not isinstance(value, str) or len(value) > 64:
        return None
    try:
        return UUID(value)
    except ValueError:
        return None


def query_texts(query: QueryParams, name: str) -> list[str]:
    """Every value of a list parameter, written as `name[]=` or `name=`."""
    return [value for key in (f"{name}[]", name) for value in query.getlist(key) if value]


def query_day(query: QueryParams, name: str) -> datetime | None:
    """The beginning of the day that a parameter names, None without it. Raises Invalid."""
    text = query.get(name)
    found = parse_instant(text) if text else None
    if text and (found is None or not EARLIEST <= found < LATEST):
        raise Invalid({name: ["invalid_date"]})
    return datetime.combine(found.date(), time(), found.tzinfo) if found else None
