-- Who a user is at a provider of single sign-on.
create table sign_in_identity (
    issuer text not null,
    subject text not null,
    user_id uuid not null references app_user (id),
    created_at timestamptz not null,
    primary key (issuer, subject)
);

create unique index sign_in_identity_of_user on sign_in_identity (user_id, issuer);
