-- Who works in the web admin --------------------------------------------------------------------------------

create table app_user (
    id uuid primary key,
    email text not null,
    password_hash text, -- argon2id; null: signs in by one-time links only
    role text not null,
    created_at timestamptz not null,
    removed_at timestamptz,
    constraint app_user_role check (role in ('admin', 'finance', 'read_only'))
);

create unique index app_user_email on app_user (lower(email)) where removed_at is null;

create table user_session (
    digest bytea primary key, -- SHA-256 of the cookie
    user_id uuid not null references app_user (id),
    organization_id uuid references organization (id), -- the one that is looked at
    created_at timestamptz not null,
    last_seen_at timestamptz not null,
    expires_at timestamptz not null
);

create index user_session_of_user on user_session (user_id);

-- A link that works once: with a user it signs that user in, without one it lets somebody become one.
create table one_time_link (
    digest bytea primary key, -- SHA-256 of the token in the link
    user_id uuid references app_user (id),
    role text not null,
    is_first boolean not null default false, -- good only while there is no user
    path text not null, -- where it leads
    created_at timestamptz not null,
    expires_at timestamptz not null,
    used_at timestamptz,
    constraint one_time_link_role check (role in ('admin', 'finance', 'read_only'))
);

create table sign_in_failure (
    id uuid primary key,
    subject text not null, -- email:... or address:...
    at timestamptz not null
);

create index sign_in_failure_of_subject on sign_in_failure (subject, at);

-- What was changed in the web admin, and by whom.
create table audit_entry (
    id uuid primary key,
    organization_id uuid references organization (id), -- null: of the installation, such as a new user
    user_id uuid references app_user (id),
    user_email text not null,
    action text not null,
    subject text not null,
    details jsonb not null default '{}',
    at timestamptz not null -- the system's clock, in test mode too
);

create index audit_entry_newest on audit_entry (organization_id, at desc, id);
