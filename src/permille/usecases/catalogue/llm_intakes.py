"""Codes of events that are usage of language models are added and removed. Events from then on are read so."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.errors import Invalid
from permille.core.llm.call import METRICS
from permille.core.llm.intake import Intake, IntakeFormat
from permille.database import locks
from permille.ids import new_id
from permille.store import billable_metrics, llm_intakes
from permille.usecases.by_code import ByCode

_BY_FORMAT = ByCode("intake", llm_intakes.by_format)
by_format, to_change = _BY_FORMAT.one, _BY_FORMAT.to_change


def blank(conn: Connection[Any], organization_id: UUID, *, now: datetime) -> Intake:
    """An intake to fill and to add, with the catalogue locked until the transaction ends."""
    locks.change_catalogue(conn, organization_id)
    return Intake(
        id=new_id(now),
        organization_id=organization_id,
        format=IntakeFormat.LAGO_AGENT,
        codes=(),
        payer_kind=None,
        created_at=now,
    )


def add(conn: Connection[Any], made: Intake) -> None:
    """Raises Invalid when there is one of the format, and when a metric counts one of its codes: it would be billed twice."""
    if llm_intakes.by_format(conn, made.organization_id, made.format) is not None:
        raise Invalid({"format": ["value_already_exist"]})
    if llm_intakes.has_code(conn, made.organization_id, made.codes):
        raise Invalid({"code": ["value_already_exist"]})
    if not set(METRICS).isdisjoint(made.codes) or billable_metrics.by_codes(
        conn, made.organization_id, made.codes
    ):
        raise Invalid({"code": ["code_of_a_metric"]})
    llm_intakes.add(conn, made)


def remove(conn: Connection[Any], gone: Intake) -> None:
    """What came before stays as it is counted."""
    llm_intakes.delete(conn, gone.id)
