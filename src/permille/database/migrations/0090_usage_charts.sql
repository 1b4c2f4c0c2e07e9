-- Usage by day of a metric, of which more is in use than a page can add up: made in the background, kept for a while.
create table usage_chart (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    code text not null,
    key text not null, -- the dimension, '' without one
    shown text not null,
    since timestamptz not null, -- the window that was asked for last
    until timestamptz not null,
    asked_at timestamptz not null, -- by the system's clock, as made_at
    days jsonb, -- null until it was made once
    made_at timestamptz,
    unique (organization_id, code, key, shown)
);
