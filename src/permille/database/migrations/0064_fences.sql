-- Organizations of which a background task has failed: the task leaves them alone until retry_at, by the system's
-- clock, and does what it has to for all others.
create table fence (
    organization_id uuid not null,
    task text not null,
    failures bigint not null, -- in a row
    retry_at timestamptz not null,
    reason text not null,
    primary key (organization_id, task)
);
