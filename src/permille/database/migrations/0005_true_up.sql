-- A fee names the one that makes it up to a charge's least amount.
create index fee_true_up on fee (true_up_parent_fee_id) where true_up_parent_fee_id is not null;
