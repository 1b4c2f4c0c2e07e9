"""The European Union's VAT is chosen for customers whose billing entity manages it.

Source: semantics-billing.md section 1.4.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.customer import BillingEntity, Customer
from permille.core.errors import Invalid
from permille.core.eu_tax import EU_TAXES, Residence, chosen_code, is_member, read_vat_number
from permille.store import customers, taxes, vat_checks


def follow_entity(
    conn: Connection[Any], before: BillingEntity | None, after: BillingEntity, *, now: datetime
) -> None:
    """An entity that begins to manage the taxes has all of them; its customers get theirs with their next change.

    Raises Invalid for an entity outside the European Union.
    """
    if not after.eu_tax_management:
        if before is not None and before.eu_tax_management:
            vat_checks.forget_of_entity(conn, after.organization_id, after.id)
        return
    if not is_member(after.country):
        raise Invalid({"eu_tax_management": ["billing_entity_must_be_in_eu"]})
    if before is None or not before.eu_tax_management:
        _have(conn, after.organization_id, EU_TAXES, now=now)


def follow_customer(
    conn: Connection[Any],
    before: Customer | None,
    after: Customer,
    *,
    columns: Mapping[str, Any],
    now: datetime,
) -> Customer:
    """The customer with the tax that applies to it, where what decides it is new or the customer has no tax.

    Taxes that the `columns` that changed say are chosen stay.
    """
    seller = after.billing_entity
    if not seller.eu_tax_management or seller.country is None:
        if before is not None and before.billing_entity.eu_tax_management:
            vat_checks.forget(conn, after.id)
        return after
    decided_as_before = before is not None and _decides(before) == _decides(after)
    if decided_as_before and after.taxes:
        return after
    if before is None or not before.taxes or _looked_up(before) != _looked_up(after):
        _look_up(conn, after, now=now)
    if columns.get("taxes_are_chosen"):
        return after
    is_valid = vat_checks.verdict(conn, after.id, after.tax_identification_number) is not False
    own = _columns(conn, after, _code(after, is_valid=is_valid), now=now)
    customers.update(conn, customer_id=after.id, columns=own, now=now)
    return customers.by_ids(conn, [after.id])[after.id]


def after_check(
    conn: Connection[Any], customer: Customer, *, was_valid: bool, is_valid: bool, now: datetime
) -> Mapping[str, Any]:
    """What changes of a customer whose number was found to be registered, or not: its tax, unless somebody chose that."""
    before, after = (_code(customer, is_valid=each) for each in (was_valid, is_valid))
    if before == after or (customer.taxes and customer.taxes_are_chosen):
        return {}
    return _columns(conn, customer, after, now=now)


def _code(customer: Customer, *, is_valid: bool) -> str:
    """The code of the tax that applies to a customer, whose number counts only if it is valid."""
    number = read_vat_number(customer.tax_identification_number) if is_valid else None
    residence = Residence(
        country=customer.country,
        zipcode=customer.zipcode,
        vat_country=number.country if number else None,
    )
    seller_country = customer.billing_entity.country
    assert seller_country is not None, "an entity that manages taxes is in a member state"
    return chosen_code(residence, seller_country=seller_country)


def _columns(conn: Connection[Any], customer: Customer, code: str, *, now: datetime) -> Mapping[str, Any]:
    """The customer's columns with this tax as its only one, which nobody chose."""
    _have(conn, customer.organization_id, [code], now=now)
    chosen = taxes.by_codes(conn, customer.organization_id, [code])
    return {"tax_ids": taxes.ids(list(chosen.values())), "taxes_are_chosen": False}


def _look_up(conn: Connection[Any], customer: Customer, *, now: datetime) -> None:
    """Have the customer's number looked up in place of an earlier one."""
    if customer.tax_identification_number:
        vat_checks.ask(
            conn, customer.organization_id, customer.id, customer.tax_identification_number, now=now
        )
    else:
        vat_checks.forget(conn, customer.id)


def _looked_up(customer: Customer) -> tuple[Any, ...]:
    """What a look-up of a customer's number is about."""
    return customer.billing_entity.id, customer.country, customer.tax_identification_number


def _decides(customer: Customer) -> tuple[Any, ...]:
    """What the tax of a customer follows from."""
    return (
        customer.billing_entity.id,
        customer.country,
        customer.zipcode,
        customer.tax_identification_number,
    )


def _have(conn: Connection[Any], organization_id: UUID, codes: Collection[str], *, now: datetime) -> None:
    """Add the taxes with these codes that there are not."""
    if len(taxes.by_codes(conn, organization_id, codes)) < len(codes):
        taxes.add_missing(conn, organization_id, [EU_TAXES[code] for code in codes], now=now)
