-- Sign-in: browsers that are known from an earlier one have limits of their own; sessions say from where they are.
create index sign_in_failure_at on sign_in_failure (at);

create table known_browser (
    digest bytea not null, -- SHA-256 of the cookie
    user_id uuid not null references app_user (id),
    used_at timestamptz not null,
    primary key (digest, user_id)
);

create index known_browser_of_user on known_browser (user_id, used_at desc);

alter table user_session add column address text;
alter table user_session add column browser text;
