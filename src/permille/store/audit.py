"""The audit of an installation: sentences that hold of all that was ever billed, each with the rows that break it.

It reads what is stored and prices nothing again: sums, balances, numbers, and periods.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.record import Record

SHOWN_MAX = 20
"""Rows of each kind that a report lists."""


class Check(Record, kw_only=True):
    """`broken` selects (organization_id, what, detail) of all rows of which the sentence does not hold."""

    sentence: str
    broken: str


class Finding(Record, kw_only=True):
    """A row that breaks a sentence."""

    sentence: str
    organization_id: UUID | None
    what: str
    detail: str


_INVOICE = "i.organization_id, 'invoice ' || i.number || ' ' || i.id as what"


def _listed_taxes(row: str) -> str:
    """SQL for what the taxes that a row lists come to, as t.amount."""
    return (
        "lateral (select coalesce(sum((each ->> 'amount_cents')::numeric), 0) as amount"
        f" from jsonb_array_elements({row}.applied_taxes) each) t"
    )


FEES_ADD_UP = Check(
    sentence="The fees of an invoice add up to its fees amount",
    broken=f"""
select {_INVOICE}, format('%s, its fees %s', i.fees_amount_cents, sum(f.amount_cents)) as detail
from invoice i left join fee f on f.invoice_id = i.id
group by i.id having i.fees_amount_cents <> coalesce(sum(f.amount_cents), 0)
""",
)

TOTALS_ADD_UP = Check(
    sentence="Fees less coupons and earlier credits, with taxes, less credit notes and prepaid credits, are the total",
    broken=f"""
select {_INVOICE}, format('fees %s, taxes %s, credits %s, total %s', i.fees_amount_cents, i.taxes_amount_cents,
    i.credit_notes_amount_cents + i.prepaid_credit_amount_cents, i.total_amount_cents) as detail
from invoice i
where i.sub_total_excluding_taxes_amount_cents
      <> i.fees_amount_cents - i.progressive_billing_credit_amount_cents - i.coupons_amount_cents
   or i.sub_total_including_taxes_amount_cents <> i.sub_total_excluding_taxes_amount_cents + i.taxes_amount_cents
   or i.total_amount_cents
      <> i.sub_total_including_taxes_amount_cents - i.credit_notes_amount_cents - i.prepaid_credit_amount_cents
   or i.total_amount_cents < 0
   or i.total_paid_amount_cents not between 0 and i.total_amount_cents
""",
)

TAXES_ADD_UP = Check(
    sentence="The taxes that an invoice lists add up to its taxes amount",
    broken=f"""
select {_INVOICE}, format('%s, its taxes %s', i.taxes_amount_cents, t.amount) as detail
from invoice i, {_listed_taxes("i")}
where t.amount <> i.taxes_amount_cents
""",
)

FEE_TAXES_ADD_UP = Check(
    sentence="The taxes that a fee lists add up to its taxes amount",
    broken=f"""
select f.organization_id, 'fee ' || f.id as what, format('%s, its taxes %s', f.taxes_amount_cents, t.amount) as detail
from fee f, {_listed_taxes("f")}
where t.amount <> f.taxes_amount_cents
""",
)

CREDIT_NOTES_ADD_UP = Check(
    sentence="The taxes that a credit note lists add up to its taxes amount, and with its sub-total to its total and its parts",
    broken=f"""
select n.organization_id, 'credit note ' || n.number || ' ' || n.id as what,
    format('sub-total %s, taxes %s, listed %s, total %s', n.sub_total_excluding_taxes_amount_cents,
        n.taxes_amount_cents, t.amount, n.total_amount_cents) as detail
from credit_note n, {_listed_taxes("n")}
where t.amount <> n.taxes_amount_cents
   or n.total_amount_cents <> n.sub_total_excluding_taxes_amount_cents + n.taxes_amount_cents
   or n.total_amount_cents <> n.credit_amount_cents + n.refund_amount_cents + n.offset_amount_cents
""",
)

ROUNDED_TOGETHER = Check(
    sentence="Fees that a charge rounds together come to the rounded sum of their precise amounts",
    broken="""
select f.organization_id, 'charge ' || f.charge_id || ' of subscription ' || f.subscription_id as what,
    format('from %s: fees %s, precisely %s', f.from_at, sum(f.amount_cents), sum(f.precise_amount_cents)) as detail
from fee f where f.rounding = 'per_charge' and f.original_fee_id is null
group by f.organization_id, f.subscription_id, f.charge_id, f.from_at, f.to_at, f.pay_in_advance,
    f.earlier_amount_cents is null, case when not f.pay_in_advance then f.invoice_id end
having sum(f.amount_cents) <> round(sum(f.precise_amount_cents))
""",
)

CREDITS_ADD_UP = Check(
    sentence="What credit notes pay of an invoice is what it says of them",
    broken=f"""
select {_INVOICE}, format('%s, paid by notes %s', i.credit_notes_amount_cents, coalesce(sum(c.amount_cents), 0)) as detail
from invoice i left join invoice_credit c on c.invoice_id = i.id
where i.status <> 'draft'
group by i.id having i.credit_notes_amount_cents <> coalesce(sum(c.amount_cents), 0)
""",
)

BALANCES_ADD_UP = Check(
    sentence="The balance of a credit note is its credit less what it has paid and what of it was voided",
    broken="""
select n.organization_id, 'credit note ' || n.number || ' ' || n.id as what,
    format('credit %s, balance %s, paid %s', n.credit_amount_cents, n.balance_amount_cents,
        coalesce(sum(c.amount_cents), 0)) as detail
from credit_note n left join invoice_credit c on c.credit_note_id = n.id and c.given_back_at is null
group by n.id having n.balance_amount_cents
    <> n.credit_amount_cents - coalesce(sum(c.amount_cents), 0) - n.voided_amount_cents
""",
)

FEES_CREDITED_ONCE = Check(
    sentence="No more comes back of a fee than it came to",
    broken="""
select f.organization_id, 'fee ' || f.id as what,
    format('%s, came back %s', f.amount_cents, sum(c.amount_cents)) as detail
from credit_note_item c join fee f on f.id = c.fee_id
group by f.id having sum(c.amount_cents) not between least(f.amount_cents, 0) and greatest(f.amount_cents, 0)
""",
)

INVOICES_CREDITED_ONCE = Check(
    sentence="No more comes back of an invoice than it came to",
    broken=f"""
select {_INVOICE}, format('%s, came back %s', i.sub_total_including_taxes_amount_cents, sum(n.total_amount_cents)) as detail
from invoice i join credit_note n on n.invoice_id = i.id
group by i.id having sum(n.total_amount_cents) > i.sub_total_including_taxes_amount_cents
""",
)

PAID_AND_REFUNDED = Check(
    sentence="No more is refunded of an invoice than was paid, and its notes take no more off it than is due",
    broken=f"""
select {_INVOICE}, format('total %s, paid %s, offset %s; its notes refund %s, offset %s', i.total_amount_cents,
    i.total_paid_amount_cents, i.offset_amount_cents, sum(n.refund_amount_cents), sum(n.offset_amount_cents)) as detail
from invoice i join credit_note n on n.invoice_id = i.id
group by i.id having sum(n.refund_amount_cents) > i.total_paid_amount_cents
    or sum(n.offset_amount_cents) <> i.offset_amount_cents
    or i.total_paid_amount_cents + i.offset_amount_cents > i.total_amount_cents
""",
)

WALLETS_ADD_UP = Check(
    sentence="The balance of a wallet is what its settled transactions moved, and what is left of those that filled it",
    broken="""
select w.organization_id, 'wallet ' || w.code || ' ' || w.id as what,
    format('balance %s (%s credits), moved %s (%s), left %s', w.balance_cents, w.credits_balance, t.cents, t.credits,
        t.remaining) as detail
from wallet w, lateral (
    select coalesce(sum(s.sign * t.amount_cents), 0) as cents, coalesce(sum(s.sign * t.credit_amount), 0) as credits,
        coalesce(sum(t.remaining_amount_cents), 0) as remaining
    from wallet_transaction t, lateral (select case t.transaction_type when 'inbound' then 1 else -1 end as sign) s
    where t.wallet_id = w.id and t.status = 'settled'
) t
where w.balance_cents <> t.cents or w.credits_balance <> t.credits or w.balance_cents <> t.remaining
""",
)

LOTS_ADD_UP = Check(
    sentence="What is left of prepaid credits is what came in less what was taken, and all that was taken came from somewhere",
    broken="""
select t.organization_id, 'wallet transaction ' || t.id as what,
    format('%s, left %s, moved %s', t.amount_cents, t.remaining_amount_cents, m.cents) as detail
from wallet_transaction t, lateral (
    select coalesce(sum(c.amount_cents), 0) as cents from wallet_consumption c
    where case t.transaction_type when 'inbound' then c.inbound_id else c.outbound_id end = t.id
) m
where case
    when t.status <> 'settled' then m.cents <> 0 or t.remaining_amount_cents is not null
    when t.transaction_type = 'inbound' then t.remaining_amount_cents is distinct from t.amount_cents - m.cents
    else t.amount_cents <> m.cents
end
""",
)

PREPAID_CREDITS_ADD_UP = Check(
    sentence="What wallets pay of an invoice is what it says of them, granted and bought",
    broken=f"""
select {_INVOICE}, format('%s, paid by wallets %s', i.prepaid_credit_amount_cents, p.cents) as detail
from invoice i, lateral (
    select coalesce(sum(t.amount_cents), 0) as cents from wallet_transaction t
    where t.invoice_id = i.id and t.transaction_status = 'invoiced'
) p
where i.prepaid_credit_amount_cents <> p.cents
    or p.cents <> coalesce(i.prepaid_granted_credit_amount_cents + i.prepaid_purchased_credit_amount_cents, 0)
""",
)

GIVEN_BACK_ONCE = Check(
    sentence="What a void gives back to wallets is no more than they paid and than credit notes have left of what was paid",
    broken=f"""
select {_INVOICE}, format('paid %s, by wallets %s; to wallets %s, by notes %s',
    i.total_paid_amount_cents + i.credit_notes_amount_cents + i.prepaid_credit_amount_cents, i.prepaid_credit_amount_cents,
    w.back, n.given) as detail
from (select voided_invoice_id as id, sum(amount_cents) as back from wallet_transaction
    where voided_invoice_id is not null group by 1) w
join invoice i on i.id = w.id, lateral (
    select coalesce(sum(credit_amount_cents - voided_amount_cents + refund_amount_cents), 0) as given
    from credit_note where invoice_id = i.id
) n
where w.back > i.prepaid_credit_amount_cents
   or w.back + n.given > i.total_paid_amount_cents + i.credit_notes_amount_cents + i.prepaid_credit_amount_cents
""",
)

COUPONS_ADD_UP = Check(
    sentence="What coupons take off an invoice is what it says of them, and is spread over its fees",
    broken=f"""
select {_INVOICE}, format('%s, entries %s, fees %s', i.coupons_amount_cents, e.amount, f.amount) as detail
from invoice i,
    lateral (select coalesce(sum(amount_cents), 0) as amount from coupon_credit c
        where c.invoice_id = i.id and c.amount_cents > 0) e,
    lateral (select coalesce(sum(precise_coupons_amount_cents), 0) as amount from fee where invoice_id = i.id) f
where i.coupons_amount_cents <> e.amount
   or abs(f.amount - i.coupons_amount_cents - i.progressive_billing_credit_amount_cents) >= 0.5
""",
)

COUPON_RESTS_ADD_UP = Check(
    sentence="What is left of a customer's coupon is what it began with less what its entries took",
    broken="""
select a.organization_id, 'applied coupon ' || a.id as what,
    format('amount %s, left %s, uses %s, left %s, taken %s on %s invoices', a.amount_cents, a.amount_left_cents,
        a.frequency_duration, a.uses_left, sum(c.amount_cents), sum(sign(c.amount_cents))) as detail
from applied_coupon a left join coupon_credit c on c.applied_coupon_id = a.id
group by a.id
having a.amount_left_cents <> a.amount_cents - coalesce(sum(c.amount_cents), 0)
   or a.uses_left <> coalesce(a.frequency_duration, 1) - coalesce(sum(sign(c.amount_cents)), 0)
   or a.status = 'active' and (a.amount_left_cents = 0 or a.uses_left = 0)
   or coalesce(sum(c.amount_cents), 0) < 0
""",
)

ENTRIES_ARE_OF_SOMETHING = Check(
    sentence="What coupons and wallets took or got belongs to one that is there",
    broken="""
select t.organization_id, 'wallet transaction ' || t.id as what, 'wallet ' || t.wallet_id as detail
from wallet_transaction t where not exists (select from wallet w where w.id = t.wallet_id)
union all
select i.organization_id, 'coupon on invoice ' || i.id as what, 'applied coupon ' || c.applied_coupon_id as detail
from coupon_credit c join invoice i on i.id = c.invoice_id
where not exists (select from applied_coupon a where a.id = c.applied_coupon_id)
""",
)

BILLED_BEFORE_ADDS_UP = Check(
    sentence="What an invoice takes off for invoices at usage thresholds is what it says of them",
    broken=f"""
select {_INVOICE}, format('%s, entries %s', i.progressive_billing_credit_amount_cents,
    coalesce(sum(c.amount_cents), 0)) as detail
from invoice i left join progressive_credit c on c.invoice_id = i.id
group by i.id having i.progressive_billing_credit_amount_cents <> coalesce(sum(c.amount_cents), 0)
""",
)

BILLED_BEFORE_ONCE = Check(
    sentence="What an invoice at a usage threshold has billed is taken off other invoices once at most",
    broken=f"""
select {_INVOICE}, format('fees %s, coupons %s, taken off %s', i.fees_amount_cents, i.coupons_amount_cents,
    sum(c.amount_cents)) as detail
from invoice i join progressive_credit c on c.progressive_invoice_id = i.id
join invoice o on o.id = c.invoice_id and o.status not in ('voided', 'closed', 'deleted')
group by i.id having sum(c.amount_cents) > i.fees_amount_cents - i.coupons_amount_cents
""",
)

PAYMENTS_ADD_UP = Check(
    sentence="What is paid of an invoice is the sum of its payments, unless its fees were paid before it",
    broken=f"""
select {_INVOICE}, format('%s, its payments %s', i.total_paid_amount_cents, coalesce(sum(p.amount_cents), 0)) as detail
from invoice i left join invoice_payment p on p.invoice_id = i.id
where i.invoice_type <> 'advance_charges'
group by i.id having i.total_paid_amount_cents <> coalesce(sum(p.amount_cents), 0)
""",
)

PAYMENTS_ARE_SPENT_ONCE = Check(
    sentence="A payment pays its invoices with its amount, no more and no less",
    broken="""
select p.organization_id, 'payment ' || p.id as what,
    format('%s, of invoices %s', p.amount_cents, coalesce(sum(i.amount_cents), 0)) as detail
from payment p left join invoice_payment i on i.payment_id = p.id
where p.payment_status = 'succeeded'
group by p.id having p.amount_cents <> coalesce(sum(i.amount_cents), 0)
""",
)

REQUESTS_ADD_UP = Check(
    sentence="A payment request asks for what was due of its invoices, of one customer in one currency",
    broken="""
select r.organization_id, 'payment request ' || r.id as what,
    format('%s, of invoices %s', r.amount_cents, sum(p.amount_cents)) as detail
from payment_request r join payment_request_invoice p on p.payment_request_id = r.id join invoice i on i.id = p.invoice_id
group by r.id having r.amount_cents <> sum(p.amount_cents)
    or bool_or(i.customer_id <> r.customer_id or i.currency <> r.currency)
""",
)

PAID_IS_NOT_OVERDUE = Check(
    sentence="An invoice of which nothing is due is not overdue, and one that is paid neither",
    broken=f"""
select {_INVOICE}, format('%s, total %s, paid %s', i.payment_status, i.total_amount_cents, i.total_paid_amount_cents)
    as detail
from invoice i where i.payment_overdue and (i.payment_status = 'succeeded' or i.status <> 'finalized')
""",
)

NUMBERS_HAVE_NO_GAPS = Check(
    sentence="The final invoices of a customer are numbered 1, 2, 3 and so on",
    broken="""
select i.organization_id, 'customer ' || i.customer_id as what,
    format('%s invoices, numbers from %s to %s', count(*), min(i.sequential_id), max(i.sequential_id)) as detail
from invoice i where i.sequential_id is not null
group by i.organization_id, i.billing_entity_id, i.customer_id
having min(i.sequential_id) <> 1 or max(i.sequential_id) <> count(*)
    or count(distinct i.sequential_id) <> count(*)
""",
)

ENTITY_NUMBERS_ARE_UNIQUE = Check(
    sentence="No two invoices of a billing entity have one number",
    broken="""
select i.organization_id, 'billing entity ' || i.billing_entity_id as what, 'number ' || i.number as detail
from invoice i where i.status in ('finalized', 'voided')
group by i.organization_id, i.billing_entity_id, i.number having count(*) > 1
""",
)

REPLACED_WERE_VOIDED = Check(
    sentence="An invoice replaces a voided one of the same customer and currency, and bills no fee that is not on that one",
    broken=f"""
select {_INVOICE}, format('replaces %s, which is %s; %s fees of others', v.id, v.status, count(o.id)) as detail
from invoice i join invoice v on v.id = i.voided_invoice_id
left join fee f on f.invoice_id = i.id left join fee o on o.id = f.original_fee_id and o.invoice_id <> v.id
group by i.id, v.id having v.status <> 'voided' or v.customer_id <> i.customer_id or v.currency <> i.currency
    or count(o.id) > 0
""",
)

_PERIODS = """
select s.organization_id, 'subscription ' || s.external_id || ' ' || s.id as what,
    format('billed to %s, then from %s', p.ended, p.begins) as detail
from (
    select subscription_id, {begins} as begins,
        lag({ended}) over (partition by subscription_id order by {begins}, {ended}) as ended
    from invoice_subscription p where {begins} is not null and exists (
        select from invoice i where i.id = p.invoice_id and i.status in ('draft', 'finalized', 'closed', 'voided', 'deleted')
            and i.invoice_type = 'subscription')
        and p.invoicing_reason <> 'in_advance_charge'
) p join subscription s on s.id = p.subscription_id
where p.ended <> p.begins
"""

PERIODS_FOLLOW = Check(
    sentence="The usage of a subscription is billed period after period, without a gap and without an overlap",
    broken=_PERIODS.format(begins="charges_from_at", ended="charges_to_at"),
)

FEES_OF_PLANS_ONCE = Check(
    sentence="The plan's own fee of a subscription is billed once for each period",
    broken="""
select f.organization_id, 'subscription ' || f.subscription_id as what,
    format('%s fees from %s to %s', count(*), f.from_at, f.to_at) as detail
from fee f join invoice i on i.id = f.invoice_id
where f.fee_type = 'subscription' and f.amount_cents > 0 and i.status in ('draft', 'finalized', 'closed')
group by f.organization_id, f.subscription_id, f.from_at, f.to_at having count(*) > 1
""",
)

_FIXED_CHARGES = "(select id, coalesce(parent_id, id) as root_id from fixed_charge)"
"""Fixed charges with the ones that they are copies of."""

_UNITS = f"""
select u.subscription_id, c.root_id, u.units, u.effective_at as at, u.at_once, row_number() over (
    partition by u.subscription_id, c.root_id order by u.fixed_charge_id <> c.root_id, u.id) as place
from fixed_charge_units u join {_FIXED_CHARGES} c on c.id = u.fixed_charge_id
"""
"""Units of subscriptions in the order in which they were set, those of a plan of their own last."""

FIXED_UNITS_ARE_BILLED = Check(
    sentence="A fixed charge is billed by its units: in arrears those at the end of a period, in advance no more than it had",
    broken=f"""
with billed as (
    select f.organization_id, f.subscription_id, c.root_id, f.to_at as ends, sum(f.units) as units, min(f.from_at) as begins,
        f.pay_in_advance as in_advance,
        case when f.pay_in_advance then min(f.from_at) else f.to_at - interval '1 microsecond' end as since
    from fee f join invoice i on i.id = f.invoice_id join {_FIXED_CHARGES} c on c.id = f.item_id
    where f.fee_type = 'fixed_charge'
    group by 1, 2, 3, f.pay_in_advance, f.to_at having bool_and(i.status in ('finalized', 'closed'))
), history as (
    select *, lead(at) over w as until, lead(at_once) over w as until_at_once
    from ({_UNITS}) u where not exists (
        select from ({_UNITS}) o where o.subscription_id = u.subscription_id and o.root_id = u.root_id
            and o.place > u.place and o.at < u.at)
    window w as (partition by subscription_id, root_id order by at, place)
)
select b.organization_id, 'fixed charge ' || b.root_id || ' of subscription ' || b.subscription_id as what,
    format('from %s: billed %s units, had %s', b.begins, b.units, max(h.units)) as detail
from billed b join history h on h.subscription_id = b.subscription_id and h.root_id = b.root_id
    and h.at < b.ends and (h.until is null or h.until > b.since or b.in_advance and h.until >= b.since
        and (h.until = h.at or h.until_at_once))
group by b.organization_id, b.subscription_id, b.root_id, b.begins, b.since, b.ends, b.units, b.in_advance
having b.units > max(h.units) or not b.in_advance and b.units < max(h.units)
""",
)

ALERTS_CROSSED = Check(
    sentence="An alert fires when its value goes past thresholds, and names no others",
    broken="""
select t.organization_id, 'alert ' || t.alert_code || ' ' || t.id as what,
    format('from %s to %s: %s', t.previous_value, t.current_value, t.crossed_thresholds) as detail
from triggered_alert t where t.crossed_thresholds = '[]' or exists (
    select from jsonb_array_elements(t.crossed_thresholds) each, lateral (
        select (each ->> 'value')::numeric as value, case when t.wallet_id is null then 1 else -1 end as sign
    ) c
    where c.sign * t.previous_value >= c.sign * c.value or c.sign * t.current_value < c.sign * c.value)
""",
)

CHECKS = (
    FEES_ADD_UP,
    TOTALS_ADD_UP,
    TAXES_ADD_UP,
    FEE_TAXES_ADD_UP,
    CREDIT_NOTES_ADD_UP,
    ROUNDED_TOGETHER,
    COUPONS_ADD_UP,
    COUPON_RESTS_ADD_UP,
    ENTRIES_ARE_OF_SOMETHING,
    BILLED_BEFORE_ADDS_UP,
    BILLED_BEFORE_ONCE,
    CREDITS_ADD_UP,
    BALANCES_ADD_UP,
    PAYMENTS_ADD_UP,
    PAYMENTS_ARE_SPENT_ONCE,
    REQUESTS_ADD_UP,
    PAID_IS_NOT_OVERDUE,
    FEES_CREDITED_ONCE,
    INVOICES_CREDITED_ONCE,
    PAID_AND_REFUNDED,
    WALLETS_ADD_UP,
    LOTS_ADD_UP,
    PREPAID_CREDITS_ADD_UP,
    GIVEN_BACK_ONCE,
    NUMBERS_HAVE_NO_GAPS,
    ENTITY_NUMBERS_ARE_UNIQUE,
    REPLACED_WERE_VOIDED,
    PERIODS_FOLLOW,
    FEES_OF_PLANS_ONCE,
    FIXED_UNITS_ARE_BILLED,
    ALERTS_CROSSED,
)


def findings(conn: Connection[Any], *, organization_id: UUID | None = None) -> Iterator[Finding]:
    """What is wrong with what was billed, of one organization or of all, at most SHOWN_MAX of each kind."""
    for check in CHECKS:
        literal = check.broken.replace("%", "%%")  # as a statement with parameters writes it
        rows = conn.execute(
            f"select organization_id, what, detail from ({literal}) broken"
            " where %(organization)s::uuid is null or organization_id = %(organization)s"
            " order by what limit %(limit)s",
            {"organization": organization_id, "limit": SHOWN_MAX},
        )
        for owner, what, detail in rows.fetchall():
            yield Finding(sentence=check.sentence, organization_id=owner, what=what, detail=detail)
