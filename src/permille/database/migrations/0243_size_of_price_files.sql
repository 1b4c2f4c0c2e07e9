alter table price_file add column size bigint; -- bytes as it was written
update price_file set size = 12 * octet_length(content); -- about what was written: only an organization's sum is looked at
alter table price_file alter column size set not null;
create index catalogue_version_of_file on catalogue_version (digest);
