-- The documents of which a webhook has said that they can be fetched.
create table announced_document (
    object_id uuid primary key,
    organization_id uuid not null references organization (id),
    created_at timestamptz not null
);
