-- An invoice run writes both for each invoice, and looks the coupon and the wallet up and locks them before: these keys
-- would do so once more. Neither is ever deleted.
alter table coupon_credit drop constraint coupon_credit_applied_coupon_id_fkey;
alter table wallet_transaction drop constraint wallet_transaction_wallet_id_fkey;
