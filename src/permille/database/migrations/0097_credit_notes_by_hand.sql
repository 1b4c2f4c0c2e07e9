-- Credit notes by hand: refunds and offsets beside credit, credit that is given up, and notes of their owners.
alter table invoice add column offset_amount_cents bigint not null default 0;
alter table credit_note
    alter column credit_status drop not null,
    add column voided_amount_cents bigint not null default 0,
    add column voided_at timestamptz,
    add column refunded_at timestamptz,
    add column metadata jsonb not null default '{}';
