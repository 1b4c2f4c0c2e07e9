-- Price files, kept once an installation. They are public and never change; by which ones an organization charges
-- is its own to approve.
create table price_file (
    digest bytea primary key, -- SHA-256 of the source's name and the content
    source text not null, -- own, genai-prices or litellm
    content bytea not null, -- compressed with xz
    created_at timestamptz not null
);

-- The versions of the price catalogue of an organization: pending, or approved and valid from a date on.
create table catalogue_version (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    digest bytea not null references price_file (digest),
    source text not null,
    label text not null,
    created_at timestamptz not null,
    imported_by text not null,
    approved_at timestamptz,
    approved_by text,
    approval bigint, -- the place in the order of approvals
    valid_from date, -- UTC; null when it is approved: always
    accepted_outliers text[] not null default '{}', -- PROVIDER/MODEL
    constraint catalogue_version_approved check (
        (approved_at is null) = (approval is null) and (approved_at is null) = (approved_by is null)
        and (approved_at is not null or valid_from is null)
    )
);

create unique index catalogue_version_approval on catalogue_version (organization_id, approval) where approval is not null;
create unique index catalogue_version_pending on catalogue_version (organization_id, digest) where approval is null;
create index catalogue_version_newest on catalogue_version (organization_id, created_at desc, id desc);

create trigger audited_insert after insert on catalogue_version referencing new table as new_rows for each statement
    when (current_setting('permille.change', true) <> '')
    execute function audit_rows('id', 'label', 'created_at updated_at organization_id digest position approval');
create trigger audited_update after update on catalogue_version referencing old table as old_rows new table as new_rows for each statement
    when (current_setting('permille.change', true) <> '')
    execute function audit_rows('id', 'label', 'created_at updated_at organization_id digest position approval');
create trigger audited_delete after delete on catalogue_version referencing old table as old_rows for each statement
    when (current_setting('permille.change', true) <> '')
    execute function audit_rows('id', 'label', 'created_at updated_at organization_id digest position approval');
