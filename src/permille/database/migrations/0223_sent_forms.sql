-- Forms of the web admin that were done, so that each is done once.
create table sent_form (
    session_digest bytea not null references user_session (digest) on delete cascade,
    digest bytea not null, -- SHA-256 of the page's token, the address and the fields
    content bytea not null, -- the same without the token
    led_to text not null, -- the address of what came of it
    sent_at timestamptz not null,
    primary key (session_digest, digest)
);

create index sent_form_of_content on sent_form (session_digest, content, sent_at);
