alter table billing_entity add column brand_color text; -- of headings in documents and mails, like #1f4e79
