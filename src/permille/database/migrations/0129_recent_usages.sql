-- The last usages of language models, and what became of them: what the page Connect shows. Ids begin with the time.
create table recent_usage (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    at timestamptz not null,
    road text not null,
    client text,
    status text not null,
    count bigint not null,
    identity text,
    provider text,
    model text,
    external_subscription_id text,
    external_customer_id text,
    code text,
    message text,
    events jsonb not null,
    warnings jsonb not null
);

create index recent_usage_newest on recent_usage (organization_id, id desc);
