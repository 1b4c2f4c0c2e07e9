-- Of wallets and their transactions that were made at one instant, which came first.
alter table wallet add column position bigint generated always as identity;
alter table wallet_transaction add column position bigint generated always as identity;
