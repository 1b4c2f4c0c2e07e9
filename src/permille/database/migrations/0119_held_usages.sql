-- Usage of language models that could not be counted as it came.
create table held_usage (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    identity text, -- provider and id of the answer; null where it has none
    provider text not null,
    model text,
    code text not null, -- why it is kept
    message text not null,
    external_subscription_id text, -- as it was sent
    external_customer_id text,
    at timestamptz not null,
    properties jsonb not null,
    sent jsonb not null, -- names and numbers only: nothing of prompts or answers
    created_at timestamptz not null,
    counted_at timestamptz,
    counted_for text -- external id of the subscription
);

create unique index held_usage_identity on held_usage (organization_id, identity) where identity is not null;
create index held_usage_open on held_usage (organization_id, created_at desc, id desc) where counted_at is null;
create index held_usage_newest on held_usage (organization_id, created_at desc, id desc);

create trigger audited_update after update on held_usage referencing old table as old_rows new table as new_rows for each statement
    when (current_setting('permille.change', true) <> '')
    execute function audit_rows('id', 'identity', 'created_at updated_at organization_id digest position sent properties');
