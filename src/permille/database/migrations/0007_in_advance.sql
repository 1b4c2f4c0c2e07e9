-- Charges paid in advance: an event of such a metric waits here until its fee is made, in the order of arrival.
alter table metering add column in_advance boolean not null default false;

create table advance_event (
    organization_id uuid not null,
    seq bigint not null,
    identity uuid not null,
    primary key (organization_id, seq)
);

-- As store_events, for a group with events that are paid in advance: these identities, of these organizations.
create function store_events_in_advance(
    known_version bigint, series_ids int[], ats timestamptz[], created_ats timestamptz[], identities uuid[],
    amounts numeric[], transaction_ids text[], precise_amounts numeric[], extras jsonb[],
    waiting uuid[], organizations uuid[]
) returns void language plpgsql as $$
begin
    perform pg_advisory_xact_lock_shared(x'5045524D'::bigint);
    if (select version from metering_state) <> known_version then
        raise exception 'the metering has changed' using errcode = 'PM001';
    end if;
    with stored as (
        insert into event (
            series_id, at, created_at, identity, value, transaction_id, precise_total_amount_cents, extra
        )
        select * from unnest(
            series_ids, ats, created_ats, identities, amounts, transaction_ids, precise_amounts, extras
        )
        returning seq, event.identity
    )
    insert into advance_event (organization_id, seq, identity)
    select w.organization_id, s.seq, s.identity
    from stored s join unnest(waiting, organizations) as w (identity, organization_id) using (identity);
end
$$;

create unique index fee_of_event on fee (organization_id, event_transaction_id, subscription_id, charge_id)
    where event_transaction_id is not null;
create index fee_alone on fee (subscription_id) where invoice_id is null;
