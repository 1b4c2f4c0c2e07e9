-- GET /fees by when they were paid, failed or given back: only of fees that stand alone.
create index fee_succeeded on fee (organization_id, succeeded_at) where succeeded_at is not null;
create index fee_failed on fee (organization_id, failed_at) where failed_at is not null;
create index fee_refunded on fee (organization_id, refunded_at) where refunded_at is not null;
