-- Late usage was compared with invoices of charges in advance too, which have billed nothing else of the same period.
-- What no invoice has of it yet is priced again, and is to be decided again.
delete from late_mark m using invoice_subscription p
where p.invoice_id = m.invoice_id and p.subscription_id = m.subscription_id
    and p.invoicing_reason in ('in_advance_charge', 'in_advance_charge_periodic');

with suspect as (
    delete from late_usage l where l.status in ('open', 'scheduled') and exists (
        select from invoice_subscription p
        where p.subscription_id = l.subscription_id and p.charges_from_at = l.from_at and p.charges_to_at = l.to_at
            and p.invoicing_reason in ('in_advance_charge', 'in_advance_charge_periodic')
    ) returning l.organization_id, l.subscription_id, l.code, l.from_at, l.to_at
)
insert into late_mark (organization_id, subscription_id, invoice_id, code)
select distinct s.organization_id, s.subscription_id, p.invoice_id, s.code
from suspect s join invoice_subscription p
    on p.subscription_id = s.subscription_id and p.charges_from_at = s.from_at and p.charges_to_at = s.to_at
    and p.invoicing_reason not in ('in_advance_charge', 'in_advance_charge_periodic', 'progressive_billing')
join invoice i on i.id = p.invoice_id and i.status in ('finalized', 'closed')
on conflict do nothing;
