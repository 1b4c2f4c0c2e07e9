-- Requests with an organization's keys that write, but for events: what was sent, and what came of it.
create table api_log (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    api_key_id uuid not null,
    request_id text not null,
    method text not null,
    path text not null,
    status bigint not null,
    client text not null,
    origin text not null,
    body text, -- JSON that jsonb may not be able to hold
    answer text, -- of a refusal
    duration_ms bigint not null,
    at timestamptz not null -- the system's clock
);

create index api_log_newest on api_log (organization_id, at desc, id);
create index api_log_of_request on api_log (organization_id, request_id);
