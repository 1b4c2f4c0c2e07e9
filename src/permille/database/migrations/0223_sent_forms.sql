-- Forms of the web admin that were done, so that each is done once.
create table sent_form (
    session_digest bytea not null references user_session (digest) on delete cascade,
    digest bytea not null, -- SHA-256 of the page's token, the address and the fields
    led_to text not null, -- the address of what came of it
    primary key (session_digest, digest)
);
