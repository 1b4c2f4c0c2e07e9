-- What an API key may do, until when, and when it was last used.
alter table api_key add column permissions jsonb; -- null: everything
alter table api_key add column expires_at timestamptz;
alter table api_key add column last_used_at timestamptz;
