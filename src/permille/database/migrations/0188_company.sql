-- Organizations that servers had requests of in the last seconds, and how long background work leaves one alone: while others
-- are there, one rests after each piece of its work. By the system's clock.
create unlogged table company (
    organization_id uuid primary key,
    seen_at timestamptz not null default '-infinity',
    rests_until timestamptz not null default '-infinity'
);
