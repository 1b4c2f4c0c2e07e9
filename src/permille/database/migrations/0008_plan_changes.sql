-- Whether a dearer plan took over at terminated_at: that day is the new plan's.
alter table subscription add column upgraded boolean not null default false;

create index subscription_after on subscription (previous_subscription_id) where previous_subscription_id is not null;
