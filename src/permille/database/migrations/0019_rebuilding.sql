-- The history of a code is moved to a new encoding in the background; its usage is read from events alone meanwhile.
alter table metering add column rebuilding boolean not null default false;
create index metering_rebuilding on metering (organization_id, code) where rebuilding;
