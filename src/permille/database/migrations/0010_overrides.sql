create index plan_of_parent on plan (parent_id) where parent_id is not null;
