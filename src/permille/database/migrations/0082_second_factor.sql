-- A second factor of sign-in: codes by time (RFC 6238), and recovery codes that work once.
create table second_factor (
    user_id uuid primary key references app_user (id),
    secret text not null,
    created_at timestamptz not null,
    confirmed_at timestamptz,
    last_step bigint not null default 0
);

create table recovery_code (
    user_id uuid not null references app_user (id),
    digest bytea not null,
    primary key (user_id, digest)
);

alter table organization add column requires_second_factor boolean not null default false;
alter table user_session add column awaits_code boolean not null default false;
