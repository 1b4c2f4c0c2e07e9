-- It grows with every amendment, so that what is read in several statements can tell whether one came in between.
alter table metering_state add column amended bigint not null default 0;

-- Events that were wrong. Nothing stored is changed: an amendment is a row of its own, and of an event with several
-- the last one is in force. What a replacement says instead is one more row of event, whose identity is the
-- amendment's id and whose seq is that of the event, so that it keeps its place in the order of arrival.
create table event_amendment (
    id uuid primary key,
    position bigint generated always as identity, -- the order of amendments
    organization_id uuid not null,
    transaction_id text not null, -- the amendment's own
    event_identity uuid not null,
    event_transaction_id text not null,
    external_subscription_id text,
    kind text not null,
    reason text not null,
    api_key_id uuid, -- whose key it was sent with
    code text, -- with the following: what a replacement says, as it was sent
    at timestamptz,
    precise_total_amount_cents numeric,
    properties jsonb,
    created_at timestamptz not null,
    constraint event_amendment_kind check (kind in ('void', 'replace'))
);

create unique index event_amendment_once on event_amendment (organization_id, transaction_id);
create index event_amendment_of_event on event_amendment (event_identity, position);
create index event_amendment_newest on event_amendment (organization_id, position);
create index event_amendment_of_transaction on event_amendment (organization_id, event_transaction_id, position);
create index event_amendment_of_subscription on event_amendment (organization_id, external_subscription_id, position);

-- Rows of event that do not count any more: voided, replaced, or replacements that were amended in their turn.
create table struck_event (
    identity uuid primary key,
    amendment_id uuid not null
);

-- What usage is made of.
create view counted_event as
select e.* from event e where not exists (select from struck_event s where s.identity = e.identity);

-- What was sent: every event once, whatever became of it.
create view sent_event as
select e.* from event e where not exists (select from event_amendment a where a.id = e.identity);

create function refuse_change_of_amendment() returns trigger language plpgsql as $$
begin
    raise exception 'amendments are never changed: add another';
end
$$;

create trigger event_amendment_stays before update or delete on event_amendment
for each row execute function refuse_change_of_amendment();
create trigger struck_event_stays before update or delete on struck_event
for each row execute function refuse_change_of_amendment();
