"""VAT of the European Union: its rates, and which of its taxes a customer pays.

Source: semantics-billing.md section 1.4; the rates are those that the European Commission publishes. The tax follows
from where the customer is and from its VAT number.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from decimal import Decimal

from permille.core.record import Record

PREFIX = "lago_eu_"
REVERSE_CHARGE = f"{PREFIX}reverse_charge"
TAX_EXEMPT = f"{PREFIX}tax_exempt"
GREECE = "GR"
GREECE_IN_VAT_NUMBERS = "EL"
LETTERS = 2
"""How many letters of its country a VAT number begins with."""

STANDARD_RATES: Mapping[str, Decimal] = {
    "AT": Decimal(20),
    "BE": Decimal(21),
    "BG": Decimal(20),
    "CY": Decimal(19),
    "CZ": Decimal(21),
    "DE": Decimal(19),
    "DK": Decimal(25),
    "EE": Decimal(24),
    "ES": Decimal(21),
    "FI": Decimal("25.5"),
    "FR": Decimal(20),
    GREECE: Decimal(24),
    "HR": Decimal(25),
    "HU": Decimal(27),
    "IE": Decimal(23),
    "IT": Decimal(22),
    "LT": Decimal(21),
    "LU": Decimal(17),
    "LV": Decimal(21),
    "MT": Decimal(18),
    "NL": Decimal(21),
    "PL": Decimal(23),
    "PT": Decimal(23),
    "RO": Decimal(21),
    "SE": Decimal(25),
    "SI": Decimal(22),
    "SK": Decimal(23),
}
"""The standard rate of each member state, in percent."""


class Territory(Record, kw_only=True):
    """A part of a member state with another rate; `zipcodes` is a pattern of the whole code."""

    country: str
    name: str
    zipcodes: str
    rate: Decimal

    @property
    def code(self) -> str:
        """The code of its tax."""
        letters = unicodedata.normalize("NFKD", self.name.lower()).encode("ascii", "ignore").decode()
        words = re.sub(r"[^a-z]+", "_", letters)
        return f"{PREFIX}{self.country.lower()}_exception_{words}"


def _territory(country: str, name: str, zipcodes: str, rate: str) -> Territory:
    return Territory(country=country, name=name, zipcodes=zipcodes, rate=Decimal(rate))


TERRITORIES = (
    _territory("AT", "Jungholz", "6691", "19"),
    _territory("AT", "Mittelberg", "699[1-3]", "19"),
    _territory("DE", "Büsingen am Hochrhein", "78266", "0"),
    _territory("DE", "Heligoland", "27498", "0"),
    _territory("ES", "Canary Islands", "3[58][0-9]{3}", "0"),
    _territory("ES", "Ceuta", "51[0-9]{3}", "0"),
    _territory("ES", "Melilla", "52[0-9]{3}", "0"),
    _territory("FR", "Guadeloupe", "971[0-9]{2}", "8.5"),
    _territory("FR", "Martinique", "972[0-9]{2}", "8.5"),
    _territory("FR", "Guyane", "973[0-9]{2}", "0"),
    _territory("FR", "Reunion", "974[0-9]{2}", "8.5"),
    _territory("FR", "Mayotte", "976[0-9]{2}", "0"),
    _territory("GR", "Mount Athos", "63086", "0"),
    _territory("IT", "Campione d'Italia", "22061", "0"),
    _territory("IT", "Livigno", "23041", "0"),
    _territory("PT", "Madeira", "9[0-4][0-9]{2,5}", "22"),
    _territory("PT", "Azores", "9[5-9][0-9]{2,5}", "16"),
)


class EuTax(Record, kw_only=True):
    """A tax that there is in every organization with an entity that manages them; its rate is in percent."""

    code: str
    name: str
    description: str
    rate: Decimal


class Residence(Record, kw_only=True):
    """What decides the tax of a customer: where it is, and the country of its VAT number where that is valid."""

    country: str | None
    zipcode: str | None
    vat_country: str | None


def standard_code(country: str) -> str:
    """The code of a member state's standard tax."""
    return f"{PREFIX}{country.lower()}_standard"


def is_member(country: str | None) -> bool:
    """Whether this is a member state, by its two letters."""
    return country in STANDARD_RATES


class VatNumber(Record, kw_only=True):
    """A VAT number whose letters, length and check digits are right, whether or not it was ever given to anybody."""

    country: str
    rest: str
    """Without the letters of the country."""

    @property
    def letters(self) -> str:
        """The letters that VAT numbers of its country begin with."""
        return GREECE_IN_VAT_NUMBERS if self.country == GREECE else self.country


def read_vat_number(text: str | None) -> VatNumber | None:
    """The VAT number in a text, None where its letters, length or check digits are wrong."""
    from stdnum.eu import vat
    from stdnum.exceptions import ValidationError

    try:
        found: str = vat.validate(text or "")
    except ValidationError:
        return None
    letters = found[:LETTERS]
    country = GREECE if letters == GREECE_IN_VAT_NUMBERS else letters
    return VatNumber(country=country, rest=found[LETTERS:])


def chosen_code(customer: Residence, *, seller_country: str) -> str:
    """The code of the tax that a customer of a seller in this member state pays."""
    if (territory := _territory_of(customer)) is not None:
        return territory.code
    if customer.vat_country is not None:
        is_domestic = customer.vat_country == seller_country
        return standard_code(seller_country) if is_domestic else REVERSE_CHARGE
    if customer.country is None:
        return standard_code(seller_country)
    return standard_code(customer.country) if is_member(customer.country) else TAX_EXEMPT


def _territory_of(customer: Residence) -> Territory | None:
    """The territory in which the customer is, by its post code without spaces and hyphens."""
    zipcode = re.sub(r"[\s-]", "", customer.zipcode or "")
    return next(
        (
            each
            for each in TERRITORIES
            if each.country == customer.country and re.fullmatch(each.zipcodes, zipcode)
        ),
        None,
    )


def _all() -> tuple[EuTax, ...]:
    return (
        *(
            EuTax(code=standard_code(country), name=f"VAT {country}", description="Standard rate", rate=rate)
            for country, rate in STANDARD_RATES.items()
        ),
        *(
            EuTax(
                code=each.code, name=f"VAT {each.name}", description=f"Part of {each.country}", rate=each.rate
            )
            for each in TERRITORIES
        ),
        EuTax(
            code=REVERSE_CHARGE,
            name="Reverse charge",
            description="The customer accounts for the tax",
            rate=Decimal(0),
        ),
        EuTax(
            code=TAX_EXEMPT,
            name="Tax exempt",
            description="The customer is outside the European Union",
            rate=Decimal(0),
        ),
    )


EU_TAXES: Mapping[str, EuTax] = {tax.code: tax for tax in _all()}
"""Every tax by its code."""
