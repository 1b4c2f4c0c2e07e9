-- Prices that are different from an instant on. The rows of a plan are its latest prices. Earlier ones, which price the
-- periods that begin before valid_until, are rows of plan, charge and charge_filter too: what looks for charges of a
-- metric finds them. version_of is the row that fees are of, and what the API shows.
alter table plan add column version_of uuid references plan (id);
alter table plan add column valid_until timestamptz;
alter table plan add constraint plan_version check ((version_of is null) = (valid_until is null));
alter table charge add column version_of uuid references charge (id);
alter table charge_filter add column version_of uuid references charge_filter (id);

drop index plan_code;
create unique index plan_code on plan (organization_id, code)
    where parent_id is null and version_of is null and deleted_at is null;
drop index plan_newest;
create index plan_newest on plan (organization_id, created_at desc, id)
    where parent_id is null and version_of is null and deleted_at is null;
create unique index plan_version_until on plan (version_of, valid_until)
    where version_of is not null and deleted_at is null;
