-- For the count of webhooks that were given up lately.
create index webhook_failed on webhook (last_attempt_at) where status = 'failed';
