-- A mail server that an organization's mail goes through, in place of the installation's.
create table mail_server (
    organization_id uuid primary key references organization (id),
    host text not null,
    port bigint not null,
    security text not null, -- starttls, tls, none
    user_name text,
    secret text, -- the password; it is never shown
    mail_from text not null,
    reply_to text, -- null: the billing entity's email
    created_at timestamptz not null,
    updated_at timestamptz not null
);

alter table dunning_campaign add column bcc_emails text[] not null default '{}'; -- who gets a copy of each request that it mails

create trigger audited_insert after insert on mail_server referencing new table as new_rows for each statement
    when (current_setting('permille.change', true) <> '')
    execute function audit_rows('organization_id', 'host', 'created_at updated_at organization_id digest position');
create trigger audited_update after update on mail_server referencing old table as old_rows new table as new_rows for each statement
    when (current_setting('permille.change', true) <> '')
    execute function audit_rows('organization_id', 'host', 'created_at updated_at organization_id digest position');
create trigger audited_delete after delete on mail_server referencing old table as old_rows for each statement
    when (current_setting('permille.change', true) <> '')
    execute function audit_rows('organization_id', 'host', 'created_at updated_at organization_id digest position');
