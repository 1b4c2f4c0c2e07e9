-- What a billing entity prints on its documents, and its logo as it was last fetched.
alter table billing_entity add column bank_details text, add column reverse_charge_note text;

create table logo (
    billing_entity_id uuid primary key references billing_entity (id),
    url text not null, -- where it came from; when the entity's logo_url is another, the row is out of date
    content bytea, -- as it is printed; null when it was never fetched
    media_type text,
    etag text,
    problem text, -- why the last attempt failed; null when it did not
    checked_at timestamptz not null,
    expires_at timestamptz not null -- it is fetched again at the next document after this
);
