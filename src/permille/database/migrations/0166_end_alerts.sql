alter table subscription add column end_alert_at timestamptz; -- active: when its end is announced next
create index subscription_to_announce on subscription (organization_id, end_alert_at) where end_alert_at is not null;

update subscription s set end_alert_at = (
    select min(at)
    from (values (45), (15)) as before (days),
        lateral (select ((s.ending_at at time zone z.zone)::date - before.days)::timestamp at time zone z.zone as at) as midnight
    where at > coalesce(o.test_now, (select seen.at from clock_seen seen), s.updated_at)
)
from organization o, customer c join billing_entity b on b.id = c.billing_entity_id,
    lateral (select coalesce(c.timezone, b.timezone) as zone) as z
where o.id = s.organization_id and c.id = s.customer_id and s.status = 'active' and s.ending_at is not null;

-- It is the engine's own business.
drop trigger audited_insert on subscription;
drop trigger audited_update on subscription;
drop trigger audited_delete on subscription;

create trigger audited_insert after insert on subscription
referencing new table as new_rows for each statement
when (current_setting('permille.change', true) <> '')
execute function audit_rows('id', 'external_id', 'created_at updated_at organization_id digest position next_billing_at activates_at ends_at end_alert_at fee_billed_until charges_billed_until fixed_charges_billed_until fixed_charges_paid_until');

create trigger audited_update after update on subscription for each row
when (current_setting('permille.change', true) <> '')
execute function audit_row('id', 'external_id', 'created_at updated_at organization_id digest position next_billing_at activates_at ends_at end_alert_at fee_billed_until charges_billed_until fixed_charges_billed_until fixed_charges_paid_until');

create trigger audited_delete after delete on subscription
referencing old table as old_rows for each statement
when (current_setting('permille.change', true) <> '')
execute function audit_rows('id', 'external_id', 'created_at updated_at organization_id digest position next_billing_at activates_at ends_at end_alert_at fee_billed_until charges_billed_until fixed_charges_billed_until fixed_charges_paid_until');
