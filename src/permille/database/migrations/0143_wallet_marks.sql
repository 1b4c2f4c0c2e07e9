-- Customers whose wallets' ongoing balances are out of date. Marks are added and taken, never changed: nobody waits for a look.
create table wallet_mark (
    organization_id uuid not null,
    customer_id uuid not null
);

create index wallet_mark_of_customer on wallet_mark (customer_id);
