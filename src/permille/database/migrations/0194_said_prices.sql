-- A change of prices says what it says also where an edit of the prices before it has made these equal.
alter table plan add column said jsonb not null default '[]'; -- of earlier prices: [[id of a charge or filter, field], ...]
