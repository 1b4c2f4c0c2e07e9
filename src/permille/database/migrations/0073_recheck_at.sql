-- Prices that change at an instant have series looked at again then, and while periods from before are still running.
alter table unchecked_organization add column look_at timestamptz not null default '-infinity';
create index plan_version_of_organization on plan (organization_id, valid_until)
    where version_of is not null and deleted_at is null;
