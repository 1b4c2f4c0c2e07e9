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
from permille.core.eu_tax import EU_TAXES, Residence, chosen_code, country_of_vat_number, is_member
from permille.store import customers, taxes


def follow_entity(
    conn: Connection[Any], before: BillingEntity | None, after: BillingEntity, *, now: datetime
) -> None:
    """An entity that begins to manage the taxes has all of them; its customers get theirs with their next change.

    Raises Invalid for an entity outside the European Union.
    """
    if not after.eu_tax_management:
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

    Taxes that are among the `columns` that changed were chosen by somebody, and stay.
    """
    seller = after.billing_entity
    if not seller.eu_tax_management or seller.country is None:
        return after
    decided_as_before = before is not None and _decides(before) == _decides(after)
    if columns.get("tax_ids") or (decided_as_before and after.taxes):
        return after
    code = chosen_code(
        Residence(
            country=after.country,
            zipcode=after.zipcode,
            vat_country=country_of_vat_number(after.tax_identification_number),
        ),
        seller_country=seller.country,
    )
    _have(conn, after.organization_id, [code], now=now)
    chosen = taxes.by_codes(conn, after.organization_id, [code])
    own = {"tax_ids": taxes.ids(list(chosen.values()))}
    customers.update(conn, customer_id=after.id, columns=own, now=now)
    return customers.by_ids(conn, [after.id])[after.id]


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
