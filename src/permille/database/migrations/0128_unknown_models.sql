-- Calls that were counted under the name that was sent, because it says nothing about the model.
create table unknown_model_call (
    organization_id uuid not null references organization (id),
    name text not null, -- `provider/name as sent`
    identity text not null, -- of the call
    transaction_ids text[] not null, -- of the events that have this name
    at timestamptz not null,
    outcome text, -- null while it waits; else why it doesn't
    counted_as text, -- the model that it was moved to
    primary key (organization_id, name, identity),
    constraint unknown_model_call_outcome check (outcome in ('moved', 'billed', 'amended'))
);

create index unknown_model_call_waiting on unknown_model_call (organization_id, name) where outcome is null;
