"""Previews: the invoice that would be made, by the steps that make it, without the save.

Source: semantics-billing.md section 4.11.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.contract.plan import Plan, sold_plan_id, yearly_amount_cents
from permille.core.contract.subscription import Subscription, due
from permille.core.customer import Customer
from permille.core.errors import Invalid
from permille.core.invoice.billing import BillingRequest, InvoicingReason, in_order
from permille.core.invoice.draft import InvoiceDraft
from permille.core.invoice.facts import Facts
from permille.core.invoice.kinds import make
from permille.events.postgres import metering
from permille.usecases.invoices.credit_notes import unused_credits
from permille.usecases.invoices.facts import Contracts, draft_of, load_contracts, load_facts
