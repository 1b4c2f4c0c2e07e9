-- Tasks are fenced off from a customer too, and since when is known. A fence is only a pause: those there are may go.

delete from fence;
alter table fence
    drop constraint fence_pkey,
    add column customer_id uuid, -- null: the organization as a whole
    add column since timestamptz not null;
create unique index fence_of on fence (organization_id, task, customer_id) nulls not distinct;
