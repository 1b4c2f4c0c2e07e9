-- What usage of a charge costs that none of its filters lists: the charge's own price, 0 included without anybody
-- having meant it (free), or by decision (default), or nothing yet, and its invoice waits (held).
alter table charge add column unlisted_values text not null default 'free';
alter table charge add constraint charge_unlisted_values check (unlisted_values in ('free', 'held', 'default'));

-- Fees of usage that had no price when they were made.
alter table fee add column is_unpriced boolean not null default false;

-- Drafts with usage that is held: they do not become final.
alter table invoice add column waits_for_price boolean not null default false;
drop index invoice_to_finalize;
create index invoice_to_finalize on invoice (organization_id, finalizes_at)
    where finalizes_at is not null and not waits_for_price;
create index invoice_waiting_for_price on invoice (organization_id, created_at) where waits_for_price;

-- Events whose fee in advance waits until their usage has a price, and of which charges. They are put back into the
-- queue for those charges alone: of the others the fee is made.
create table unpriced_advance_event (
    organization_id uuid not null,
    seq bigint not null,
    identity uuid not null,
    charge_ids uuid[] not null,
    due_at timestamptz not null, -- when the fee would have been made
    primary key (organization_id, seq)
);

alter table advance_event add column charge_ids uuid[]; -- null: of every charge that bills the event
alter table held_advance_event add column charge_ids uuid[];
