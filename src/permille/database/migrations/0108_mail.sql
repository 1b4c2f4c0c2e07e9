-- What is sent to customers by mail, and what came of it. Statuses: waiting, sent, failed, suppressed (test mode), unknown.
create table mail (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    kind text not null, -- invoice
    object_id uuid not null,
    recipients text[] not null,
    cc text[] not null,
    bcc text[] not null,
    status text not null default 'waiting',
    attempts bigint not null default 0,
    next_attempt_at timestamptz, -- system clock, as all instants here but created_at; null when nothing is left to do
    handed_over_at timestamptz, -- from then on the mail server may have it
    response text,
    sent_at timestamptz,
    queued_at timestamptz not null,
    created_at timestamptz not null
);

create index mail_to_send on mail (organization_id, next_attempt_at) where next_attempt_at is not null;
create index mail_of_organization on mail (organization_id, created_at desc, id);
create index mail_of_object on mail (object_id, created_at desc);

alter table billing_entity add column email_settings text[] not null default '{}'; -- what customers get by mail without being asked
