"""Which custom sections an invoice prints."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from hypothesis import given, strategies as st

from permille.core.custom_section import CustomSection, SectionChoice
from permille.core.record import replace

from .test_invoice_draft import customer, entity

NOW = datetime(2024, 3, 5, tzinfo=UTC)
ALL = [
    CustomSection(
        id=UUID(int=number),
        organization_id=UUID(int=9),
        code=f"s{number}",
        name="n",
        description=None,
        display_name=None,
        details=None,
        created_at=NOW,
    )
    for number in range(4)
]
some = st.lists(st.sampled_from(ALL), unique=True).map(tuple)
choices = st.none() | st.builds(SectionChoice, skips=st.booleans(), sections=some, chosen_at=st.just(NOW))


@given(own=some, sellers=some, skips=st.booleans(), chosen=st.lists(choices, min_size=1, max_size=4))
def test_each_brings_the_nearest_choice_and_each_text_is_printed_once(
    own: tuple[CustomSection, ...],
    sellers: tuple[CustomSection, ...],
    skips: bool,
    chosen: list[SectionChoice | None],
) -> None:
    payer = replace(
        customer(billing_entity=entity(custom_sections=sellers)),
        custom_sections=own,
        skip_invoice_custom_sections=skips,
    )
    wanted = set()
    for choice in chosen:
        if choice is not None and choice.skips:
            continue
        nearest = choice.sections if choice is not None else ()
        if not nearest and not skips:
            nearest = own or sellers
        wanted |= {section.code for section in nearest}
    assert [section.code for section in payer.printed_sections(chosen)] == sorted(wanted)
