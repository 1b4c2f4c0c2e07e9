"""PDFs as answers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.api.http import Engine, Raw
from permille.core.organization import Organization
from permille.http.refusals import cut_off
from permille.out.documents import Printer, file_name
from permille.out.pdf.typesetting import TooLongToTypeset
from permille.store import billing_entities

log = logging.getLogger(__name__)


def printer_of(
    engine: Engine, conn: Connection[Any], organization: Organization, billing_entity_id: UUID
) -> Printer:
    """What sets the documents of a billing entity."""
    entity = billing_entities.by_ids(conn, [billing_entity_id])[billing_entity_id]
    return Printer(pool=engine.pool, config=engine.config, organization=organization, entity=entity)


def pdf_answer(content: Callable[[], bytes], number: str) -> Raw:
    """A document that is named by its number; it is made when the answer is sent, and refused where that takes too long."""

    def made() -> bytes:
        try:
            return content()
        except TooLongToTypeset as error:
            log.warning("The document %s was cut off: %s", number, error)
            raise cut_off() from error

    disposition = f'inline; filename="{file_name(number)}"'
    return Raw(content=made, media_type="application/pdf", headers={"content-disposition": disposition})
