"""The European Union's VAT: which tax a customer pays, by its country, post code and VAT number."""

from __future__ import annotations

from decimal import Decimal

import pytest

from permille.core.eu_tax import EU_TAXES, Residence, chosen_code, read_vat_number


def tax_of(
    country: str | None, zipcode: str | None = None, number: str | None = None, seller: str = "FR"
) -> str:
    found = read_vat_number(number)
    customer = Residence(country=country, zipcode=zipcode, vat_country=found.country if found else None)
    return chosen_code(customer, seller_country=seller).removeprefix("lago_eu_")


@pytest.mark.parametrize(
    ("country", "zipcode", "number", "expected"),
    [
        ("ES", "28001", None, "es_standard"),
        ("CH", "8001", None, "tax_exempt"),
        ("GB", None, None, "tax_exempt"),
        (None, None, None, "fr_standard"),
        ("DE", "10115", "DE136695976", "reverse_charge"),
        ("DE", "10115", "de 136.695.976", "reverse_charge"),
        ("DE", "10115", "DE136695977", "de_standard"),
        ("FR", "75018", "FR40303265045", "fr_standard"),
        ("GR", None, "EL094259216", "reverse_charge"),
        (None, None, "IT00743110157", "reverse_charge"),
        ("US", None, "US-111", "tax_exempt"),
        ("FR", "97411", None, "fr_exception_reunion"),
        ("FR", "97411", "FR40303265045", "fr_exception_reunion"),
        ("ES", "35 001", None, "es_exception_canary_islands"),
        ("PT", "9500-321", None, "pt_exception_azores"),
        ("DE", "78266", None, "de_exception_busingen_am_hochrhein"),
        ("IT", "22061", None, "it_exception_campione_d_italia"),
        ("US", "97411", None, "tax_exempt"),
    ],
)
def test_country_post_code_and_number_choose_the_tax(
    country: str | None, zipcode: str | None, number: str | None, expected: str
) -> None:
    assert tax_of(country, zipcode, number) == expected
    assert f"lago_eu_{expected}" in EU_TAXES


def test_the_sellers_own_country_is_no_reverse_charge() -> None:
    assert tax_of("GR", None, "EL094259216", seller="GR") == "gr_standard"
    assert tax_of("DE", None, "FR40303265045", seller="FR") == "fr_standard"


def test_every_member_state_has_its_rate() -> None:
    standard = {code[8:10]: tax.rate for code, tax in EU_TAXES.items() if code.endswith("_standard")}
    assert len(standard) == 27
    assert (standard["hu"], standard["lu"], standard["fi"]) == (27, 17, Decimal("25.5"))
    assert EU_TAXES["lago_eu_reverse_charge"].rate == EU_TAXES["lago_eu_tax_exempt"].rate == 0


@pytest.mark.parametrize(
    ("text", "letters"),
    [(" el 094.259-216", "EL"), ("lu 150 274 42", "LU"), ("LU15027443", None), (None, None)],
)
def test_a_number_is_looked_up_by_the_letters_that_it_has(text: str | None, letters: str | None) -> None:
    found = read_vat_number(text)
    assert (found and found.letters) == letters
    assert found is None or found.rest in ("094259216", "15027442")
