-- How far arrived events were looked through for the ongoing balances of wallets.
create table wallet_check (
    singleton boolean primary key default true check (singleton),
    seen_to bigint not null
);

insert into wallet_check (seen_to) values (0);
