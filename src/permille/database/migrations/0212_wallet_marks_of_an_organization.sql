create index wallet_mark_of_organization on wallet_mark (organization_id);
