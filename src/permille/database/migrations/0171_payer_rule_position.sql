-- An order of one's own among rules about who pays.
alter table payer_rule add column position integer check (position > 0); -- null: after those that have one
