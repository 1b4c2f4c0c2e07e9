-- Whether somebody chose a customer's taxes; those that follow from its country and VAT number are not chosen.
alter table customer add column taxes_are_chosen boolean not null default false;
update customer c set taxes_are_chosen = true
where c.tax_ids <> '{}'
    and not exists (select from tax t where array[t.id] = c.tax_ids and t.code like 'lago\_eu\_%');
