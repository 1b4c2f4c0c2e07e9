-- A test clock moves in steps: where it is on its way to.
alter table organization add column test_target timestamptz;
alter table organization add constraint organization_target check (test_target is null or test_mode);
create index organization_on_its_way on organization (id) where test_target is not null;

-- The PDF of an invoice, as long as it shows what the invoice says.
create table invoice_document (
    invoice_id uuid primary key references invoice (id) on delete cascade,
    organization_id uuid not null,
    digest bytea not null, -- of all that it shows
    content bytea not null,
    size bigint not null,
    made_at timestamptz not null
);

alter table invoice_document alter column content set storage external; -- it is packed already
create index invoice_document_of_organization on invoice_document (organization_id, made_at);
