"""The invoice's PDF: everything is on it, nothing in it is ever executed, and it is the same every time."""

from datetime import date
from decimal import Decimal
from io import BytesIO
from typing import Any

import pytest
from msgspec import to_builtins
from pypdf import PdfReader

from permille.core.record import replace
from permille.out.pdf import fonts, invoice as invoice_layout, plain, typesetting
from permille.out.pdf.credit_note import CreditNoteDocument, render_credit_note
from permille.out.pdf.document import (
    ACCENT,
    CustomSection,
    Dimension,
    InUnit,
    InvoiceDocument,
    Line,
    LineGroup,
    PackagePrice,
    Party,
    Section,
    Tax,
    UnitPrice,
)
from permille.out.pdf.invoice import render_invoice
from permille.out.pdf.language import LANGUAGES, language_of
from permille.out.pdf.plain import Head, PlainDocument
from permille.out.pdf.summary import summary_of

OCTOBER = (date(2026, 10, 1), date(2026, 10, 31))
NOVEMBER = (date(2026, 11, 1), date(2026, 11, 30))

TOKENS = (
    ("GPT-4 8K context, input tokens", "12345678", "0.03", 12_346, 37_038),
    ("GPT-4 8K context, output tokens", "999", "0.06", 1, 6),
    ("GPT-3.5 Turbo 4K context, input tokens", "7000", "0.0015", 7, 1),
)


def token_line(name: str, units: str, amount: str, packages: int, cents: int) -> Line:
    return Line(
        description=name,
        units=Decimal(units),
        unit="tokens",
        price=PackagePrice(amount=Decimal(amount), size=1000, packages=packages, free_units=Decimal(0)),
        amount_cents=cents,
        period=None,
    )


def plain_line(name: str, units: str, amount: str, cents: int, unit: str | None = None) -> Line:
    price = UnitPrice(amount=Decimal(amount))
    return Line(
        description=name, units=Decimal(units), unit=unit, price=price, amount_cents=cents, period=None
    )


def title_of(pdf: bytes) -> Any:
    metadata = PdfReader(BytesIO(pdf)).metadata
    return metadata and metadata.title


def document(**changes: Any) -> InvoiceDocument:
    fee = replace(plain_line("Subscription fee", "1", "49", 4900), period=NOVEMBER)
    sections = (
        Section(
            title="Pay as you go",
            period=OCTOBER,
            groups=(
                LineGroup(title=None, lines=(fee,)),
                LineGroup(title="GPT models", lines=tuple(token_line(*each) for each in TOKENS)),
                LineGroup(title=None, lines=(plain_line("Audio", "1234.25", "0.006", 741, "minutes"),)),
            ),
        ),
    )
    plain = InvoiceDocument(
        number="DEM-1234-001-004",
        status="finalized",
        locale="en",
        currency="USD",
        issuing_date=date(2026, 11, 1),
        payment_due_date=date(2026, 12, 1),
        net_payment_term=30,
        purchase_order_number="PO-77",
        issuer=Party(name="Demo AI, Inc.", lines=("1 Market Street", "San Francisco, CA 94105")),
        customer=Party(name="Acme Chat, Inc.", lines=("500 Fifth Avenue",)),
        imprint="Demo AI, Inc. · billing@demo-ai.example",
        footer="Thank you for building with us.",
        bank_details=None,
        custom_sections=(),
        reverse_charge_note=None,
        customer_country="US",
        paper="us-letter",
        sections=sections,
        fees_amount_cents=42_686,
        progressive_billing_credit_amount_cents=0,
        coupons_amount_cents=1_000,
        taxes=(Tax(name="VAT", rate=Decimal("19.5"), base_cents=41_686, amount_cents=8_129),),
        credit_notes_amount_cents=0,
        prepaid_credit_amount_cents=0,
        total_amount_cents=49_815,
        total_paid_amount_cents=0,
    )
    return replace(plain, **changes)


def pages(pdf: bytes) -> list[str]:
    return [" ".join(page.extract_text().split()) for page in PdfReader(BytesIO(pdf)).pages]


def test_everything_is_on_it():
    pdf = render_invoice(document())
    (text,) = pages(pdf)
    for said in (
        "Invoice number DEM-1234-001-004",
        "Issued November 1, 2026",
        "Payment term 30 days",
        "Due December 1, 2026",
        "Due by December 1, 2026",
        "Purchase order PO-77",
        "Demo AI, Inc.",
        "Acme Chat, Inc. 500 Fifth Avenue",
        "Pay as you go Oct 1 – 31, 2026",
        "Subscription fee Nov 1 – 30, 2026 1 $49.00 $49.00",
        "GPT-4 8K context, input tokens 12,345,678 $0.03 per 1,000 tokens begun 12,346 $370.38",
        "GPT-4 8K context, output tokens 999 $0.06 per 1,000 tokens begun 1 $0.06",
        "GPT-3.5 Turbo 4K context, input tokens 7,000 $0.0015 per 1,000 tokens begun 7 $0.01",
        "Total of GPT models $370.45",
        "Audio 1,234.25 $0.006 per minute $7.41",
        "Sub-total $426.86",
        "Coupons −$10.00",
        "VAT (19.5%) on $416.86 $81.29",
        "Total due $498.15",
        "Thank you for building with us.",
        "Page 1 of 1",
    ):
        assert said in text
    assert title_of(pdf) == "Invoice DEM-1234-001-004"


def test_a_long_price_leaves_room_for_what_it_is_for():
    line = token_line(
        "Cached input tokens of Model 1", "12345678901234", "0.0000031234567", 12_345_678_901, 9_999_999
    )
    sections = (Section(title="Pay", period=None, groups=(LineGroup(title=None, lines=(line,)),)),)
    (page,) = PdfReader(BytesIO(render_invoice(document(sections=sections, currency="JPY")))).pages
    assert sum("Model 1" in each or "Cached" in each for each in page.extract_text().splitlines()) <= 2
    assert "Cached input tokens" in page.extract_text()


def test_long_facts_leave_room_for_the_parties():
    name = Party(name="International Language Models Company", lines=("1 Market Street, Suite 1200",))
    number = "ACME-INTERNATIONAL-2026-0001234-000-00004567"
    made = document(number=number, purchase_order_number="PO-" + "9" * 60, issuer=name, customer=name)
    (page,) = PdfReader(BytesIO(render_invoice(made))).pages
    text = page.extract_text()
    assert text.count("1 Market Street, Suite 1200") == 2
    assert number in "".join(text.replace("\u200b", "").split())


def test_the_bytes_are_the_same_every_time():
    assert render_invoice(document()) == render_invoice(document())


def test_a_long_table_repeats_its_headings_and_numbers_its_pages():
    (section,) = document().sections
    many = [token_line(f"Model {n}", "1000", "0.03", 1, 3) for n in range(120)]
    long = replace(section, groups=(LineGroup(title="Many models", lines=tuple(many)),))
    found = pages(render_invoice(document(sections=(long,))))
    assert len(found) > 2
    for number, text in enumerate(found, 1):
        assert f"Page {number} of {len(found)}" in text
    for text in found[:-1]:
        assert "DESCRIPTION QUANTITY PRICE PACKAGES AMOUNT" in text
        assert "Many models" in text
    whole = " ".join(found)
    assert all(f"Model {n} 1,000 " in whole for n in range(120))


def test_what_it_comes_to_is_said_where_something_was_paid():
    (text,) = pages(render_invoice(document(total_paid_amount_cents=100_00)))
    assert "Total $498.15 Paid −$100.00 Total due $398.15" in text


def test_a_draft_says_so_and_a_voided_invoice_is_not_due():
    assert "DRAFT" in pages(render_invoice(document(status="draft")))[0]
    (text,) = pages(render_invoice(document(status="voided")))
    assert "VOID" in text
    assert "Total due $0.00" in text
    assert "Nothing to pay" in text


HOSTILE = [
    '#panic("out")',
    '"); #read("/etc/passwd") //',
    "\\ $x^2$ *bold* _it_ `raw` <label> @ref [a](b) = h",
    "{{template}} #{1+1} #sys.inputs",
    ']) #eval("1+1")',
    "line\nbreak\ttab",
    "x" * 300,
]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_text_and_never_markup(name):
    (text,) = pages(render_invoice(document(customer=Party(name=name, lines=(name,)))))
    squeezed = "".join(text.split()).replace("\u200b", "")
    assert "".join(name.split()) in squeezed
    assert "root:" not in text


NAMES = [
    "株式会社テスト",
    "北京公司",
    "한국 주식회사",
    "ทดสอบ",
    "বাংলা",
    "தமிழ்",
    "हिन्दी",
    "🧾 Receipts & Co 😀",
]


@pytest.mark.parametrize("name", ["شركة الاختبار", "חברה בע״מ", "Ελληνικά Ωμέγα", "Пример ООО", *NAMES])
def test_names_in_other_scripts_have_all_their_glyphs(name):
    if fonts.unprintable(name):
        pytest.skip("the Noto fonts are not installed")
    pdf = render_invoice(document(customer=Party(name=name, lines=())))
    assert is_archival(pdf)
    (text,) = pages(pdf)
    assert set(name.replace(" ", "")) <= set(text)


@pytest.mark.parametrize("name", ["ᠮᠣᠩᠭᠣᠯ", "a\u202eb\u0000c\ufffd\U0010ffff"])
def test_what_has_no_font_falls_back(name, caplog):
    pdf = render_invoice(document(customer=Party(name=name, lines=())))
    assert "Total due $498.15" in pages(pdf)[0]
    assert not is_archival(pdf)


@pytest.mark.parametrize(
    ("currency", "cents", "said"),
    [
        ("JPY", 1_234_567, "¥1,234,567"),
        ("KWD", 1_234_567, "KWD 1,234.567"),
        ("EUR", 1_234_567, "€12,345.67"),
        ("CHF", 5, "CHF 0.05"),
        ("CLF", 12_345, "CLF 1.2345"),
        ("MRO", 6, "MRO 1.2"),
    ],
)
def test_currencies_have_their_own_decimals(currency, cents, said):
    changed = document(currency=currency, total_amount_cents=cents)
    assert f"Total due {said}" in pages(render_invoice(changed))[0]


def test_free_units_and_averages_are_reported():
    (section,) = document().sections
    free = replace(
        token_line("Included", "5000", "2", 4, 800),
        price=PackagePrice(amount=Decimal(2), size=1000, packages=4, free_units=Decimal(1000)),
    )
    average = replace(
        plain_line("Tiers", "3", "1", 100), price=UnitPrice(amount=Decimal(1) / 3, is_average=True)
    )
    changed = replace(section, groups=(LineGroup(title=None, lines=(free, average)),))
    (text,) = pages(render_invoice(document(sections=(changed,))))
    assert "Included 1,000 tokens free 5,000 $2.00 per 1,000 tokens begun 4 $8.00" in text
    assert "Tiers 3 ≈ $0.333333 $1.00" in text


def test_an_invoice_without_lines_is_an_invoice():
    empty = document(sections=(), fees_amount_cents=0, coupons_amount_cents=0, taxes=(), total_amount_cents=0)
    (text,) = pages(render_invoice(empty))
    assert "Total due $0.00" in text
    assert "Tax $0.00" in text


def test_what_typst_refuses_is_an_error_of_ours():
    with pytest.raises(typesetting.UnableToTypeset, match="dictionary does not contain key"):
        typesetting.typeset("invoice.typ", {}, dated=date(2026, 1, 1))


def test_a_document_without_a_term_is_due_on_receipt():
    (text,) = pages(render_invoice(document(net_payment_term=0)))
    assert "Payment term Due on receipt" in text
    assert "Due by" not in text


def test_bank_details_are_for_what_is_to_be_paid():
    assert "PAYMENT DETAILS IBAN 1" in pages(render_invoice(document(bank_details="IBAN 1")))[0]
    paid = document(bank_details="IBAN 1", total_paid_amount_cents=49_815)
    assert "IBAN 1" not in pages(render_invoice(paid))[0]


def test_custom_sections_are_printed_as_they_are():
    own = CustomSection(title="Rules", text="First [line]\n#second")
    assert "RULES First [line] #second" in pages(render_invoice(document(custom_sections=(own,))))[0]


def long(count: int) -> InvoiceDocument:
    """So many lines of seventeen models, the cents of each are its number."""
    (section,) = document().sections
    lines = [
        replace(
            token_line(f"Line {n}", "1000", "0.03", 1, n),
            dimension=Dimension(key="model", value=f"model-{n % 17}"),
        )
        for n in range(count)
    ]
    one = replace(section, groups=(LineGroup(title="Models", lines=tuple(lines)),))
    return document(sections=(one,), fees_amount_cents=sum(line.amount_cents for line in lines))


def test_a_long_invoice_begins_with_the_sums_of_its_dimension():
    found = long(100)
    first = pages(render_invoice(found))[0]
    assert "Summary by model model-14 $3.39 model-13 $3.33" in first
    assert "2 more" in first
    summary: Any = summary_of(found)
    assert len(summary.rows) == 15
    assert sum(row.amount_cents for row in summary.rows) + summary.more_cents == found.fees_amount_cents


def test_lines_that_are_too_many_are_summed_up_in_the_last(monkeypatch):
    monkeypatch.setattr(invoice_layout, "LINES_MAX", 90)
    (section,) = long(100).sections
    first, second = section.groups[0].lines[:80], section.groups[0].lines[80:]
    groups = (LineGroup(title="Some", lines=first), LineGroup(title="Others", lines=second))
    other = replace(section, title="A subscription more", groups=groups[1:])
    found = replace(long(100), sections=(replace(section, groups=groups), other))
    text = " ".join(pages(render_invoice(found)))
    assert "Line 89 " in text
    assert "Line 90 " not in text
    assert "30 more $27.35 " in text  # 10 from 90 on, and 20 from 80 on
    assert "Total of Some" in text or "Total Some" in text
    assert "Total of Others" not in text
    assert "A subscription more" not in text


def test_a_short_invoice_and_one_of_a_single_sum_have_no_summary():
    assert summary_of(long(40)) is None
    assert "Summary" not in pages(render_invoice(long(40)))[0]
    assert summary_of(long(41)) is not None
    same = tuple(replace(line, dimension=None) for line in long(60).lines)
    (section,) = document().sections
    one = replace(section, groups=(LineGroup(title="Models", lines=same),))
    assert summary_of(document(sections=(one,))) is None


def test_a_summary_of_several_dimensions_names_none():
    mixed = [
        replace(line, dimension=Dimension(key=("model", "size")[n % 2], value=str(n)))
        for n, line in enumerate(long(60).lines)
    ]
    (section,) = document().sections
    one = replace(section, groups=(LineGroup(title="Models", lines=tuple(mixed)),))
    by_one: Any = summary_of(document(sections=(one,)))
    assert by_one.key is None


@pytest.mark.parametrize("locale", LANGUAGES)
def test_every_language_is_set_with_a_glyph_for_every_character(locale, caplog):
    language = language_of(locale)
    pdf = render_invoice(document(locale=locale, bank_details="IBAN 1", status="draft"))
    if language.is_right_to_left or locale in ("ja", "ko", "zh", "zh-Hant"):
        if not fonts.unprintable("".join(language.words.values())):
            assert is_archival(pdf)
    else:
        assert is_archival(pdf)
    assert f"{language.word('invoice')} DEM-1234-001-004" == title_of(pdf)
    text = " ".join(pages(pdf))
    if not language.is_right_to_left:
        assert language.money(49_815, "USD").replace("\u00a0", " ").replace("\u202f", " ") in text
    assert not caplog.records


def is_archival(pdf: bytes) -> bool:
    """PDF/A has a glyph for every character, by the word of Typst, which refuses to make it otherwise."""
    return b"pdfaid:part" in pdf


def test_arabic_runs_from_right_to_left():
    pdf = PdfReader(BytesIO(render_invoice(document(locale="ar"))))
    places: dict[Any, Any] = {}

    def visit(text, page, line, _font, _size):
        if text.strip():
            places.setdefault(text.strip(), page[4] + line[4] * page[0])

    pdf.pages[0].extract_text(visitor_text=visit)
    width = float(pdf.pages[0].mediabox.width)
    assert places["San Francisco, CA 94105"] > width / 2
    assert places["DEM-1234-001-004"] < width / 2


def test_every_text_of_the_user_is_looked_at_for_glyphs():
    """Whatever of the document is a text must be in `texts`, or not be the user's."""
    ours = {"finalized", "en", "us-letter", "USD", "US", ACCENT}
    (section,) = document().sections
    line = replace(
        plain_line("line", "1", "1", 1, "units"),
        note="said",
        in_unit=InUnit(short_name="short", amount_cents=1, conversion_rate=Decimal(1)),
    )
    marked = document(
        footer="foot", bank_details="bank", reverse_charge_note="note",
        custom_sections=(CustomSection(title="own heading", text="own text"),),
        sections=(replace(section, groups=(LineGroup(title="group", lines=(line,)),)),),
    )  # fmt: skip
    whole = "".join(marked.texts)
    texts = set(strings(to_builtins(marked, builtin_types=(date, Decimal)))) - ours
    assert len(texts) > 12
    assert [text for text in texts if text not in whole] == []


def strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from strings(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from strings(each)


HEAD = Head(
    number="7", locale="en", currency="USD", issuing_date=date(2026, 10, 1), issuer=document().issuer,
    customer=document().customer, imprint="", footer=None, customer_country=None, paper="a4", accent=ACCENT,
)  # fmt: skip


def credit_note(**changes: Any) -> CreditNoteDocument:
    note = CreditNoteDocument(
        head=HEAD,
        invoice_number="DEM-1",
        is_void=False,
        description=None,
        lines=[("Tokens", 9_000), ("Subscription fee", 3_000)],
        coupons_cents=2_000,
        taxes=[Tax(name="VAT", rate=Decimal(20), base_cents=10_000, amount_cents=2_000)],
        credit_cents=7_000,
        refund_cents=4_000,
        offset_cents=1_000,
    )
    return replace(note, **changes)


def test_a_credit_note_adds_up_to_its_total_and_says_below_what_becomes_of_it():
    (text,) = pages(render_credit_note(credit_note()))
    assert (
        "Sub-total $120.00 Coupons −$20.00 VAT (20%) on $100.00 $20.00 Credit note $120.00"
        " Credit for later invoices $70.00 Refund $40.00 Off what is due on the invoice $10.00"
    ) in text
    (text,) = pages(render_credit_note(credit_note(coupons_cents=0, taxes=[], lines=[("Tokens", 12_000)])))
    assert "Sub-total $120.00 Tax $0.00 Credit note $120.00 Credit for later" in text


def test_every_layout_has_all_that_the_template_reads():
    receipt = PlainDocument(head=HEAD, heading="Receipt", facts=[], title="Paid", rows=[], total_cents=0)
    theirs = invoice_layout._layout(document(), language_of("en"))
    assert plain._layout(receipt).keys() == theirs.keys()
